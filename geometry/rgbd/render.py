"""Meshes as RGB-D pictures, by the project's own rasteriser.

Vertices that fall on a pixel's centre and are not hidden give it their depth as it is, so that a mesh over a pixel
grid comes back exactly, lone vertices and the last row and column (which the fill rule leaves out) included.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from ..camera import Camera
from ..raster import interpolate, rasterize

_ON_CENTRE = 1e-3  # pixels from a centre
_HIDDEN = 2e-3  # metres behind the surface in its pixel: hidden


@dataclass(frozen=True)
class DepthPicture:
    """What a camera sees of points or a mesh."""

    depth: Float[Tensor, "height width"]  #: metres, 0 = none
    image: Float[Tensor, "3 height width"] | None  #: sRGB 0..1, 0 where nothing is seen
    confidence: Float[Tensor, "height width"]  #: 1 measured, lower where spread or filled in, 0 none


def render_mesh(
    vertices: Float[Tensor, "verts 3"],
    faces: Int[Tensor, "faces 3"],
    camera: Camera,
    colors: Float[Tensor, "verts 3"] | None = None,
) -> DepthPicture:
    """Depth and colour of a mesh with vertex colours.

    Args:
        vertices: world, metres.
        faces: either orientation.
        camera: without batch axes.
        colors: sRGB 0..1 per vertex.
    """
    seen = camera.to(dtype=torch.float64).to_homogeneous(vertices.double())
    height, width = camera.size
    depth = torch.zeros(height, width)
    image = None if colors is None else torch.zeros(3, height, width)
    if len(faces):
        raster = rasterize(seen.float()[None], faces, camera.size)
        depth = raster.depth[0]
        if colors is not None:
            image = interpolate(raster, colors.float()[None], faces)[0].permute(2, 0, 1).contiguous()
    rows, pixel = _on_centres(seen, camera.size)
    z = seen[rows, 2].float()
    flat = depth.flatten().clone()
    visible = (flat[pixel] == 0) | (z < flat[pixel] + _HIDDEN)
    rows, pixel, z = rows[visible], pixel[visible], z[visible]
    # The farthest first, so that the nearest is written last and stays.
    order = torch.argsort(z, descending=True)
    rows, pixel, z = rows[order], pixel[order], z[order]
    flat[pixel] = z
    if image is not None and colors is not None:
        colour = image.flatten(1)
        colour[:, pixel] = colors.float()[rows].mT
        image = colour.reshape(3, height, width)
    depth = flat.reshape(height, width)
    return DepthPicture(depth, image, (depth > 0).float())


def _on_centres(
    seen: Float[Tensor, "verts 4"], size: tuple[int, int]
) -> tuple[Int[Tensor, "kept"], Int[Tensor, "kept"]]:
    """Vertices that project onto a pixel's centre, and that pixel."""
    height, width = size
    front = seen[:, 3] > 1e-3
    place = seen[:, :2] / seen[:, 3:].clamp(min=1e-3)
    cell = place.floor()
    inside = (cell >= 0).all(1) & (cell[:, 0] < width) & (cell[:, 1] < height)
    centred = ((place - cell - 0.5).abs() < _ON_CENTRE).all(1)
    rows = (front & inside & centred).nonzero()[:, 0]
    x, y = cell[rows].long().unbind(1)
    return rows, y * width + x
