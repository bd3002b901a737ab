"""Closest points on a mesh."""

import torch
from jaxtyping import Float, Int
from torch import Tensor

from . import ops
from .native import RasterError
from .raster import checked_faces


def closest_point(
    vertices: Float[Tensor, "*#batch verts 3"],
    faces: Int[Tensor, "faces 3"],
    points: Float[Tensor, "*#batch points 3"],
) -> tuple[Float[Tensor, "*batch points"], Int[Tensor, "*batch points"], Float[Tensor, "*batch points 3"]]:
    """Distance from points to a mesh's surface, and where on it the nearest point lies.

    The distance is differentiable in vertices and points (its gradient holds the nearest surface point's weights, which
    is exact wherever the distance is differentiable; at distance 0 it is 0). Faces and weights carry no gradient.

    Args:
        vertices: mesh vertices; leading axes broadcast against those of `points`.
        faces: vertex indices, shared by all meshes; rows of three -1 are padding.
        points: query points, in the vertices' unit.

    Returns:
        distance, face index (int32; equally near faces give the smaller), and weights of that face's vertices.

    Raises:
        RasterError: (a ValueError) wrong shapes or types, no faces, face indices out of range, NaN or infinity.
    """
    if vertices.shape[-1:] != (3,) or points.shape[-1:] != (3,) or vertices.ndim < 2 or points.ndim < 2:
        raise RasterError(
            f"vertices and points must end in (n, 3), got {tuple(vertices.shape)} and {tuple(points.shape)}"
        )
    if vertices.dtype != points.dtype or vertices.dtype not in (torch.float32, torch.float64):
        raise RasterError(f"vertices are {vertices.dtype} and points {points.dtype}; both must be float32 or float64")
    if faces.ndim != 2:
        raise RasterError(f"faces must have shape (faces, 3), got {tuple(faces.shape)}")
    faces = checked_faces(faces, vertices)
    batch = torch.broadcast_shapes(vertices.shape[:-2], points.shape[:-2])
    flat_points = points.expand(*batch, *points.shape[-2:]).reshape(batch.numel(), *points.shape[-2:])
    one_mesh = vertices.shape[:-2].numel() == 1
    meshes = torch.Size() if one_mesh else batch
    flat_vertices = vertices.reshape(vertices.shape[-2:]) if one_mesh else vertices.expand(*batch, *vertices.shape[-2:])
    flat_vertices = flat_vertices.reshape(meshes.numel(), *vertices.shape[-2:])
    face, bary = ops.call(ops.closest_point, flat_vertices.detach(), faces, flat_points.detach())
    index = faces.long()[face.long()]
    item = torch.arange(flat_points.shape[0], device=faces.device)[:, None, None]
    corners = flat_vertices[0][index] if one_mesh else flat_vertices[item, index]
    offset = flat_points - (bary.unsqueeze(-1) * corners).sum(-2)
    squared = offset.square().sum(-1)
    distance = torch.where(squared > 0, squared, 1).sqrt() * (squared > 0)
    shape = (*batch, points.shape[-2])
    return distance.reshape(shape), face.reshape(shape), bary.reshape(*shape, 3)
