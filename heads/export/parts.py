"""A head cut into what renderers draw: one piece per part, each vertex with one texture coordinate."""

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from ...geometry.models.head_model import HeadModel


@dataclass(frozen=True)
class Part:
    """The faces of one part (skin, eyes, ...), with vertices doubled along seams of the texture."""

    name: str
    vertices: Int[np.ndarray, "points"]  #: index into the model's vertices
    texcoords: Int[np.ndarray, "points"] | None  #: index into the model's uvs; None where it has none
    faces: Int[np.ndarray, "faces 3"]  #: index into this part's points
    open: bool  #: has an edge with a face on one side only, so its back can be seen


def split_parts(model: HeadModel) -> list[Part]:
    """Cut a head into its parts, in the order of `part_names`; parts without faces are left out."""
    corners = model.faces.cpu().numpy().astype(np.int64)
    texture = None if model.uv_faces is None else model.uv_faces.cpu().numpy().astype(np.int64)
    owner = np.zeros(len(corners), int) if model.face_parts is None else model.face_parts.cpu().numpy()
    parts = []
    for index, name in enumerate(model.part_names):
        chosen = owner == index
        if chosen.any():
            parts.append(_part(name, corners[chosen], None if texture is None else texture[chosen]))
    return parts


def _part(name: str, corners: Int[np.ndarray, "faces 3"], texture: Int[np.ndarray, "faces 3"] | None) -> Part:
    is_open = _is_open(corners)
    if texture is None:
        vertices, faces = np.unique(corners, return_inverse=True)
        return Part(name, vertices, None, faces.reshape(-1, 3), is_open)
    stride = int(texture.max()) + 1
    pairs, faces = np.unique(corners * stride + texture, return_inverse=True)
    return Part(name, pairs // stride, pairs % stride, faces.reshape(-1, 3), is_open)


def _is_open(corners: Int[np.ndarray, "faces 3"]) -> bool:
    edges = np.sort(np.concatenate([corners[:, [0, 1]], corners[:, [1, 2]], corners[:, [2, 0]]]), axis=1)
    _, count = np.unique(edges, axis=0, return_counts=True)
    return bool((count == 1).any())


def unit_normals(
    vertices: Float[Tensor, "*batch verts 3"], faces: Int[Tensor, "faces 3"]
) -> Float[Tensor, "*batch verts 3"]:
    """Area-weighted vertex normals of unit length; +Z for vertices of no face or of degenerate ones only.

    In float64: small triangles in metres have areas near 1e-7, whose float32 normals would lose digits.
    """
    points = vertices.double()
    a, b, c = (points[..., faces[:, i], :] for i in range(3))
    area = torch.linalg.cross(b - a, c - a)
    total = torch.zeros_like(points)
    for i in range(3):
        total.index_add_(-2, faces[:, i], area)
    length = total.norm(dim=-1, keepdim=True)
    ahead = total.new_tensor([0.0, 0.0, 1.0])
    return torch.where(length > 1e-14, total / length.clamp_min(1e-14), ahead).to(vertices.dtype)
