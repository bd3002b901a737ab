"""A head cut into what renderers draw: one piece per part, each vertex with one texture coordinate."""

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from ...geometry.models.head_model import HeadModel
from ...geometry.raster.shading import vertex_normals


@dataclass(frozen=True)
class Part:
    """The faces of one part (skin, eyes, ...), with vertices doubled along seams of the texture."""

    name: str
    vertices: Int[np.ndarray, "points"]  #: index into the model's vertices
    texcoords: Int[np.ndarray, "points"] | None  #: index into the model's uvs; None where it has none
    faces: Int[np.ndarray, "faces 3"]  #: index into this part's points
    open: bool  #: reaches a rim of the head (neck cut, ...), so that its back can be seen


def split_parts(model: HeadModel) -> list[Part]:
    """Cut a head into its parts, in the order of `part_names`; parts without faces are left out."""
    corners = model.faces.cpu().numpy().astype(np.int64)
    texture = None if model.uv_faces is None else model.uv_faces.cpu().numpy().astype(np.int64)
    owner = np.zeros(len(corners), int) if model.face_parts is None else model.face_parts.cpu().numpy()
    rims = _is_rim(corners)
    parts = []
    for index, name in enumerate(model.part_names):
        chosen = owner == index
        if chosen.any():
            is_open = bool(rims[chosen].any())
            parts.append(_part(name, corners[chosen], None if texture is None else texture[chosen], is_open))
    return parts


def _part(
    name: str, corners: Int[np.ndarray, "faces 3"], texture: Int[np.ndarray, "faces 3"] | None, is_open: bool
) -> Part:
    if texture is None:
        vertices, faces = np.unique(corners, return_inverse=True)
        return Part(name, vertices, None, faces.reshape(-1, 3), is_open)
    stride = int(texture.max()) + 1
    pairs, faces = np.unique(corners * stride + texture, return_inverse=True)
    return Part(name, pairs // stride, pairs % stride, faces.reshape(-1, 3), is_open)


def _is_rim(corners: Int[np.ndarray, "faces 3"]) -> Bool[np.ndarray, "faces"]:
    """Whether a face of the whole head has an edge that no other face shares."""
    edges = np.sort(corners[:, [[0, 1], [1, 2], [2, 0]]].reshape(-1, 2), axis=1)
    _, edge, count = np.unique(edges, axis=0, return_inverse=True, return_counts=True)
    return (count[edge.reshape(-1)] == 1).reshape(-1, 3).any(1)


def unit_normals(
    vertices: Float[Tensor, "*batch verts 3"], faces: Int[Tensor, "faces 3"]
) -> Float[Tensor, "*batch verts 3"]:
    """Vertex normals for file formats that demand unit length everywhere: +Z for vertices without any area.

    Computed in float64: differences of the normals of near-equal surfaces become morph targets.
    """
    normals = vertex_normals(vertices.double(), faces)
    ahead = normals.new_tensor([0.0, 0.0, 1.0])
    return torch.where(normals.norm(dim=-1, keepdim=True) > 0.5, normals, ahead).to(vertices.dtype)
