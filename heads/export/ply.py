"""Binary PLY with normals and vertex colours, for MeshLab, CloudCompare, Open3D."""

from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from ...geometry.files import write_bytes
from ...geometry.models.head_model import HeadModel
from ...geometry.raster.texture import sample_texture
from .looks import look_of
from .parts import unit_normals


def write_ply(
    path: Path,
    model: HeadModel,
    vertices: Float[Tensor, "verts 3"],
    albedo: Float[Tensor, "3 height width"] | None = None,
) -> None:
    """Write vertices of a head with normals and colours, atomically; the model's order and number are kept.

    Args:
        path: the file; its folder must exist.
        model: the head model the vertices belong to.
        vertices: metres, +Y up, +Z out of the face.
        albedo: UV texture, sRGB 0..1, row 0 at v = 1; without it parts have plain colours.

    Raises:
        HeadlabError: the file cannot be written.
    """
    import trimesh
    from trimesh.exchange.ply import export_ply

    points = vertices.detach().cpu()
    colors = vertex_colors(model, albedo)
    mesh = trimesh.Trimesh(
        vertices=points.numpy(),
        faces=model.faces.cpu().numpy(),
        vertex_normals=unit_normals(points, model.faces.cpu()).numpy(),
        vertex_colors=(colors.clamp(0, 1) * 255).round().byte().numpy(),
        process=False,
    )
    data = export_ply(mesh, encoding="binary", vertex_normal=True)
    write_bytes(path, data)


def vertex_colors(model: HeadModel, albedo: Float[Tensor, "3 height width"] | None) -> Float[Tensor, "verts 3"]:
    """Colour per vertex, sRGB 0..1: the albedo at its texture coordinates (mean over a seam's sides), or plain."""
    faces = model.faces.cpu()
    if albedo is not None and model.uvs is not None and model.uv_faces is not None:
        seen = sample_texture(albedo.detach().cpu().float()[None], model.uvs.cpu().float()[None, None])[0, 0]
        of_corner = seen[model.uv_faces.cpu()]
    else:
        parts = torch.zeros(len(faces), dtype=torch.long) if model.face_parts is None else model.face_parts.cpu().long()
        looks = torch.tensor(np.array([look_of(name).color for name in model.part_names]), dtype=torch.float32)
        of_corner = looks[parts][:, None].expand(-1, 3, -1)
    total, count = torch.zeros(len(model.template), 3), torch.zeros(len(model.template), 1)
    flat = faces.reshape(-1)
    total.index_add_(0, flat, of_corner.reshape(-1, 3))
    count.index_add_(0, flat, torch.ones(len(flat), 1))
    return total / count.clamp_min(1)
