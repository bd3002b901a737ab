"""A picture with depth as PLY: a coloured mesh over the pixel grid, or a point cloud."""

from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from ...geometry.camera import Camera
from ...geometry.errors import HeadlabError
from ...geometry.files import write_bytes
from ...geometry.rgbd import cloud
from ...geometry.rgbd.mesh import grid_faces as grid_faces


def back_project(depth: Float[Tensor, "height width"], camera: Camera) -> Float[Tensor, "height width 3"]:
    """World points of pixels in the depth's precision, metres; NaN where there is no depth (see `rgbd.cloud`)."""
    return cloud.back_project(depth, camera).to(depth.dtype)


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
    import trimesh
    from trimesh.exchange.ply import export_ply

    known = depth.flatten() > 0
    if not bool(known.any()):
        raise HeadlabError(f"{path.name} would be empty: the picture has no depth; give a depth map with --depth")
    points, colors = back_project(depth, camera).flatten(0, 1)[known], image.flatten(1).mT[known]
    if points_only:
        write_points(path, points, colors)
        return
    number = torch.cumsum(known, 0) - 1
    faces = number[grid_faces(depth)].cpu().numpy()
    vertices = points.float().cpu().numpy()
    mesh = trimesh.Trimesh(vertices=vertices, faces=faces, vertex_colors=_opaque(colors), process=False)
    write_bytes(path, export_ply(mesh, encoding="binary", vertex_normal=False))


def write_points(path: Path, points: Float[Tensor, "n 3"], colors: Float[Tensor, "n 3"] | None = None) -> None:
    """Write a point cloud, metres, with colours (sRGB 0..1) where there are any, atomically."""
    import trimesh
    from trimesh.exchange.ply import export_ply

    data = points.float().cpu().numpy()
    made = trimesh.PointCloud(data) if colors is None else trimesh.PointCloud(data, _opaque(colors))
    write_bytes(path, export_ply(made, encoding="binary"))


def _opaque(colors: Float[Tensor, "n 3"]) -> np.ndarray:
    """(n, 4) uint8."""
    levels = (colors.clamp(0, 1) * 255).round().byte().cpu().numpy()
    return np.concatenate([levels, np.full_like(levels[:, :1], 255)], 1)
