"""Depth maps as triangle meshes over the pixel grid, and back: see `render.render_mesh` for the way back."""

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from ..camera import Camera
from .cloud import cloud_from_depth

#: Neighbours whose depths differ by more are on either side of an edge, metres.
JUMP = 0.02


@dataclass(frozen=True)
class DepthMesh:
    """A mesh with a vertex per pixel that has a depth, in the order of the pixels; world, metres, float64."""

    vertices: Float[Tensor, "verts 3"]
    faces: Int[Tensor, "faces 3"]  #: counter-clockwise seen from the camera; int64
    colors: Float[Tensor, "verts 3"] | None  #: sRGB 0..1
    pixels: Int[Tensor, "verts"]  #: row-major index of each vertex's pixel


def grid_faces(depth: Float[Tensor, "height width"], jump: float = JUMP) -> Int[Tensor, "faces 3"]:
    """Triangles between neighbouring pixels that have a depth and lie on one surface; counter-clockwise from before.

    Args:
        depth: metres, 0 = none.
        jump: largest difference of depth within a triangle, metres.

    Returns:
        Row-major indices of pixels.
    """
    height, width = depth.shape
    index = torch.arange(height * width, device=depth.device).reshape(height, width)
    a, b, c, d = index[:-1, :-1], index[:-1, 1:], index[1:, :-1], index[1:, 1:]
    triangles = torch.cat([torch.stack([a, c, b], -1).reshape(-1, 3), torch.stack([b, c, d], -1).reshape(-1, 3)])
    corners = depth.flatten()[triangles]
    kept = (corners > 0).all(1) & (corners.amax(1) - corners.amin(1) < jump)
    return triangles[kept]


def mesh_from_depth(
    depth: Float[Tensor, "height width"],
    camera: Camera,
    image: Float[Tensor, "3 height width"] | None = None,
    *,
    jump: float = JUMP,
) -> DepthMesh:
    """The surface a depth map shows; pixels without neighbours keep their vertex.

    Args:
        depth: metres along the camera's z, 0 = none.
        camera: of the picture.
        image: colours of the vertices.
        jump: largest difference of depth within a triangle, metres.
    """
    cloud = cloud_from_depth(depth, camera, image).points
    known = depth.flatten() > 0
    number = torch.cumsum(known, 0) - 1
    colors = None if image is None else image.flatten(1).mT[known]
    pixels = known.nonzero()[:, 0]
    return DepthMesh(cloud[pixels], number[grid_faces(depth, jump)], colors, pixels)
