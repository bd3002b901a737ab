"""Shaded pictures of meshes in the fields' frame, by our own rasteriser."""

import math
from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import normalize

from ...geometry.camera import Camera
from ...geometry.raster import antialias, interpolate, rasterize, shade_sh, vertex_normals
from ...geometry.sdf.extract import SdfMesh
from ...viewers.pictures import STUDIO_LIGHT

#: What the camera looks at, and the height it sees, in the fields' unit.
_MIDDLE = (0.0, 0.03, -0.15)
_HEIGHT = 1.25
_DISTANCE = 6.0


def shaded(
    mesh: SdfMesh, side: int = 256, yaw: float = 0.0, colors: Float[Tensor, "verts 3"] | None = None
) -> Float[Tensor, "3 height width"]:
    """One head on white.

    Args:
        mesh: with or without normals.
        side: of the picture, pixels.
        yaw: how far the head is turned to its left, degrees.
        colors: of the vertices, 0..1; grey where absent.
    """
    angle = math.radians(yaw)
    turn = torch.tensor(
        [[math.cos(angle), 0.0, math.sin(angle)], [0.0, 1.0, 0.0], [-math.sin(angle), 0.0, math.cos(angle)]]
    )
    normals = vertex_normals(mesh.vertices, mesh.faces) if mesh.normals is None else mesh.normals
    camera = Camera.frontal(side * _DISTANCE / _HEIGHT, (side, side))
    moved = (mesh.vertices - torch.tensor(_MIDDLE)) @ turn.mT - torch.tensor([0.0, 0.0, _DISTANCE])
    points = camera.to_homogeneous(moved)[None]
    raster = rasterize(points, mesh.faces, camera.size)
    normal = interpolate(raster, (normals @ turn.mT)[None], mesh.faces)[0]
    light = shade_sh(normalize(normal, dim=-1), torch.tensor(STUDIO_LIGHT).expand(9, 3)).clamp(0, 1)
    colour = light * (0.72 if colors is None else interpolate(raster, colors[None], mesh.faces)[0])
    covered = raster.mask[0, ..., None]
    image = torch.where(covered, colour, 1.0)[None]
    return antialias(image, raster, points, mesh.faces)[0].permute(2, 0, 1).clamp(0, 1)


def sheet(rows: Sequence[Sequence[Float[Tensor, "3 height width"]]]) -> Float[Tensor, "3 rows columns"]:
    """Pictures of one size, side by side and below each other; short rows end in white."""
    wide = max(len(row) for row in rows)
    blank = torch.ones_like(rows[0][0])
    return torch.cat([torch.cat([*row, *[blank] * (wide - len(row))], -1) for row in rows], -2)
