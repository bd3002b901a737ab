"""A picture with depth as PLY: a coloured mesh over the pixel grid, or a point cloud."""

from pathlib import Path

import numpy as np
import torch
import trimesh
from jaxtyping import Float, Int
from torch import Tensor
from trimesh.exchange.ply import export_ply

from ...geometry.camera import Camera
from ...geometry.errors import HeadlabError
from ...geometry.files import write_bytes

#: Neighbours whose depths differ by more than this are on either side of an edge, metres.
_JUMP = 0.02


def back_project(depth: Float[Tensor, "height width"], camera: Camera) -> Float[Tensor, "height width 3"]:
    """World points of pixels, metres; meaningless where the depth is 0.

    Args:
        depth: metres along the camera's z.
        camera: of the picture, without batch axes.
    """
    height, width = depth.shape
    y, x = (torch.arange(n, dtype=depth.dtype, device=depth.device) + 0.5 for n in (height, width))
    pixels = torch.stack(torch.meshgrid(x, y, indexing="xy"), -1)
    homogeneous = torch.cat([pixels, torch.ones_like(pixels[..., :1])], -1).flatten(0, 1)
    seen = torch.linalg.solve(camera.K.to(depth), homogeneous.mT).mT * depth.flatten()[:, None]
    return ((seen - camera.t.to(depth)) @ camera.R.to(depth)).unflatten(0, depth.shape)


def grid_faces(depth: Float[Tensor, "height width"], jump: float = _JUMP) -> Int[Tensor, "faces 3"]:
    """Triangles between neighbouring pixels that have a depth and lie on one surface; counter-clockwise from before.

    Args:
        depth: metres, 0 = none.
        jump: largest difference of depth within a triangle, metres.
    """
    height, width = depth.shape
    index = torch.arange(height * width).reshape(height, width)
    a, b, c, d = index[:-1, :-1], index[:-1, 1:], index[1:, :-1], index[1:, 1:]
    triangles = torch.cat([torch.stack([a, c, b], -1).reshape(-1, 3), torch.stack([b, c, d], -1).reshape(-1, 3)])
    corners = depth.flatten()[triangles]
    kept = (corners > 0).all(1) & (corners.amax(1) - corners.amin(1) < jump)
    return triangles[kept]


def write_depth_ply(
    path: Path,
    image: Float[Tensor, "3 height width"],
    depth: Float[Tensor, "height width"],
    camera: Camera,
    *,
    points_only: bool = False,
) -> None:
    """Write what a picture with depth shows, in world axes and metres, atomically.

    Args:
        path: the file; its folder must exist.
        image: sRGB 0..1.
        depth: metres along the camera's z, 0 = none; pixels without are left out.
        camera: of the picture.
        points_only: a point cloud instead of a mesh.

    Raises:
        HeadlabError: there is no depth anywhere, or the file cannot be written.
    """
    known = depth.flatten() > 0
    if not bool(known.any()):
        raise HeadlabError(f"{path.name} would be empty: the picture has no depth; give a depth map with --depth")
    points = back_project(depth, camera).flatten(0, 1)[known].float().cpu().numpy()
    colors = (image.flatten(1).mT[known].clamp(0, 1) * 255).round().byte().cpu().numpy()
    opaque = np.concatenate([colors, np.full_like(colors[:, :1], 255)], 1)
    if points_only:
        data = export_ply(trimesh.PointCloud(points, opaque), encoding="binary")
    else:
        number = torch.cumsum(known, 0) - 1
        faces = number[grid_faces(depth)].cpu().numpy()
        mesh = trimesh.Trimesh(vertices=points, faces=faces, vertex_colors=opaque, process=False)
        data = export_ply(mesh, encoding="binary", vertex_normal=False)
    write_bytes(path, data)
