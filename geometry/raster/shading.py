"""Vertex normals and spherical-harmonics lighting."""

import math

import torch
from jaxtyping import Float, Int
from torch import Tensor

from . import ops
from .native import RasterError
from .raster import checked_faces

# Real spherical harmonics up to degree 2, in DECA's order, times the cosine lobe's factors pi, 2 pi / 3, pi / 4
# (Ramamoorthi and Hanrahan, "An efficient representation for irradiance environment maps", 2001).
_C0 = 1 / math.sqrt(4 * math.pi)  # DECA leaves out the factor pi here; its trained lights expect that
_C1 = (2 * math.pi / 3) * math.sqrt(3 / (4 * math.pi))
_C2 = (math.pi / 4) * 3 * math.sqrt(5 / (12 * math.pi))
_C3 = (math.pi / 4) * (3 / 2) * math.sqrt(5 / (12 * math.pi))
_C4 = (math.pi / 4) * (1 / 2) * math.sqrt(5 / (4 * math.pi))


def vertex_normals(
    vertices: Float[Tensor, "*batch verts 3"], faces: Int[Tensor, "faces 3"]
) -> Float[Tensor, "*batch verts 3"]:
    """Unit normals, the mean of the adjacent faces' normals weighted by area; 0 at vertices without any area.

    They point to the side from which faces look counter-clockwise.

    Args:
        vertices: float32 or float64; leading axes are free.
        faces: vertex indices, shared by all; rows of three -1 are padding.

    Raises:
        RasterError: (a ValueError) wrong shapes or types, or face indices out of range.
    """
    if vertices.shape[-1:] != (3,) or vertices.ndim < 2 or vertices.dtype not in (torch.float32, torch.float64):
        raise RasterError(
            "vertices must be float32 or float64 of shape (..., verts, 3), "
            f"got {vertices.dtype} {tuple(vertices.shape)}"
        )
    if faces.ndim != 2:
        raise RasterError(f"faces must have shape (faces, 3), got {tuple(faces.shape)}")
    flat = vertices.reshape(vertices.shape[:-2].numel(), *vertices.shape[-2:])
    return ops.call(ops.vertex_normals, flat, checked_faces(faces, flat)).reshape(vertices.shape)


def sh_basis(normals: Float[Tensor, "*batch 3"]) -> Float[Tensor, "*batch 9"]:
    """Degree-2 spherical harmonics of a direction, times the cosine lobe's factors, as DECA orders them:
    1, x, y, z, xy, xz, yz, x^2 - y^2, 3 z^2 - 1. The directions are used as they are, unit or not.
    """
    x, y, z = normals.unbind(-1)
    one = torch.ones_like(x)
    terms = [_C0 * one, _C1 * x, _C1 * y, _C1 * z, _C2 * x * y, _C2 * x * z, _C2 * y * z]
    return torch.stack([*terms, _C3 * (x * x - y * y), _C4 * (3 * z * z - 1)], -1)


def shade_sh(normals: Float[Tensor, "*batch 3"], light: Float[Tensor, "*#batch 9 3"]) -> Float[Tensor, "*batch 3"]:
    """Light arriving along unit normals, per colour.

    Args:
        normals: unit directions.
        light: coefficients, band first, then RGB (DECA's 27 numbers reshaped to (9, 3)). Its leading axes broadcast
            against those of the normals, right-aligned; insert axes of one for pixels.
    """
    return (sh_basis(normals).unsqueeze(-2) @ light).squeeze(-2)
