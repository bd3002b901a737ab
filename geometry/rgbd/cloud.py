"""Depth maps and organised point clouds: one point per pixel, there and back without losing a bit.

A pixel (i, j) of depth d is the point d K⁻¹ (j + 0.5, i + 0.5, 1) of the camera. Its z is d itself, and world
coordinates are in double precision, which brings every float32 depth back exactly.
"""

from dataclasses import dataclass, replace

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from ..camera import Camera
from ..errors import HeadlabError


@dataclass(frozen=True)
class PointCloud:
    """Points, in metres of the world. Organised: `grid` is set, one row per pixel, NaN where there is no depth."""

    points: Float[Tensor, "n 3"]
    colors: Float[Tensor, "n 3"] | None = None  #: sRGB 0..1
    normals: Float[Tensor, "n 3"] | None = None  #: unit, towards the camera
    grid: tuple[int, int] | None = None  #: (height, width) of an organised cloud

    def __post_init__(self) -> None:
        count = len(self.points)
        for values in (self.colors, self.normals):
            if values is not None and len(values) != count:
                raise ValueError(f"{count} points came with {len(values)} colours or normals; give one of each")
        if self.grid is not None and self.grid[0] * self.grid[1] != count:
            raise ValueError(f"{count} points do not fill a grid of {self.grid[0]} x {self.grid[1]}")

    @property
    def valid(self) -> Bool[Tensor, "n"]:
        """Points that are there."""
        return self.points.isfinite().all(-1)

    def known(self) -> "PointCloud":
        """The valid points alone, no longer organised."""
        return self.take(self.valid) if not bool(self.valid.all()) else replace(self, grid=None)

    def take(self, rows: Bool[Tensor, "n"] | Int[Tensor, "k"]) -> "PointCloud":
        """Some of the points, unorganised."""

        def some(x: Tensor | None) -> Tensor | None:
            return None if x is None else x[rows]

        return PointCloud(self.points[rows], some(self.colors), some(self.normals))


def pixel_rays(camera: Camera) -> Float[Tensor, "height width 3"]:
    """K⁻¹ (x, y, 1) at every pixel centre, float64: the point of depth 1."""
    height, width = camera.size
    K = camera.K.double()
    y, x = (torch.arange(n, dtype=torch.float64) + 0.5 for n in (height, width))
    y, x = torch.meshgrid(y, x, indexing="ij")
    v = (y - K[1, 2]) / K[1, 1]
    u = (x - K[0, 2] - K[0, 1] * v) / K[0, 0]
    return torch.stack([u, v, torch.ones_like(u)], -1)


def back_project(depth: Float[Tensor, "height width"], camera: Camera) -> Float[Tensor, "height width 3"]:
    """World points of pixels, metres, float64; NaN where the depth is 0.

    Args:
        depth: metres along the camera's z, 0 = none.
        camera: of the picture, without batch axes.
    """
    check_size(depth, camera)
    z = depth.double()
    seen = pixel_rays(camera) * torch.where(z > 0, z, torch.nan)[..., None]
    return to_world(seen, camera)


def to_world(points: Float[Tensor, "*any 3"], camera: Camera) -> Float[Tensor, "*any 3"]:
    """Camera points -> world points."""
    return (points - camera.t.to(points)) @ camera.R.to(points)


def cloud_from_depth(
    depth: Float[Tensor, "height width"], camera: Camera, image: Float[Tensor, "3 height width"] | None = None
) -> PointCloud:
    """The organised cloud of a depth map (see `back_project`)."""
    points = back_project(depth, camera).flatten(0, 1)
    colors = None if image is None else image.flatten(1).mT.contiguous()
    return PointCloud(points, colors, grid=camera.size)


def depth_from_cloud(cloud: PointCloud, camera: Camera) -> Float[Tensor, "height width"]:
    """Inverse of `cloud_from_depth`, exact: depth in metres, float32, 0 where there is no point.

    Raises:
        HeadlabError: the cloud is not organised; `render_points` draws those that are not.
    """
    if cloud.grid is None:
        raise HeadlabError("the cloud is not organised (a point per pixel); render it as points instead")
    z = camera.to(dtype=torch.float64).to_camera(cloud.points.double())[:, 2]
    return torch.where(z.isfinite(), z, 0.0).float().reshape(cloud.grid)


def check_size(depth: Float[Tensor, "height width"], camera: Camera) -> None:
    """A depth map has its camera's size.

    Raises:
        HeadlabError: it has not.
    """
    if tuple(depth.shape) != tuple(camera.size):
        raise HeadlabError(
            f"a depth map of {depth.shape[1]} x {depth.shape[0]} pixels came with a camera of "
            f"{camera.size[1]} x {camera.size[0]}; register the depth to the colour, or scale the intrinsics"
        )
