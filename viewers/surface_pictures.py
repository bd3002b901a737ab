"""Pictures of plain surfaces: a scan, the head fitted to it, and how far apart they are, side by side."""

import torch
from jaxtyping import Float, Int
from torch import Tensor

from ..geometry.camera import Camera
from ..geometry.raster import interpolate, rasterize, vertex_normals
from ..geometry.rodrigues import rotvec_to_rotmat

_DISTANCE = 5.0  # of the camera, in sizes of the surface
_LIGHT = (0.25, -0.4, -0.9)

Surface = tuple[Float[Tensor, "verts 3"], Int[Tensor, "faces 3"]]


def surface_camera(vertices: Float[Tensor, "verts 3"], size: int, yaw: float = 0.0) -> Camera:
    """A camera that sees all of a surface (+Y up, +Z to the front), turned by `yaw` degrees."""
    low, high = vertices.amin(0), vertices.amax(0)
    extent = float((high - low).max())
    camera = Camera.frontal(0.92 * size * _DISTANCE, (size, size))
    rotation = camera.R @ rotvec_to_rotmat(torch.tensor([0.0, yaw * torch.pi / 180, 0.0]))
    offset = -rotation @ ((low + high) / 2) + torch.tensor([0.0, 0.0, _DISTANCE * extent])
    return Camera(camera.K, rotation, offset, camera.size)


def draw_surface(
    surface: Surface, camera: Camera, colors: Float[Tensor, "verts 3"] | None = None
) -> Float[Tensor, "3 height width"]:
    """A surface in studio light on white.

    Args:
        surface: vertices and triangles.
        camera: where from.
        colors: sRGB, 0..1; grey where absent.
    """
    vertices, faces = surface[0].float(), surface[1].long()
    raster = rasterize(camera.to_homogeneous(vertices)[None], faces, camera.size)
    normals = vertex_normals(vertices, faces) @ camera.R.T
    paint = torch.full_like(vertices, 0.8) if colors is None else colors.float()
    values = interpolate(raster, torch.cat([normals, paint], 1)[None], faces)[0]
    normal = torch.nn.functional.normalize(values[..., :3], dim=-1)
    shade = 0.3 + 0.7 * (normal @ torch.nn.functional.normalize(torch.tensor(_LIGHT), dim=0)).clamp(min=0)
    image = torch.where(raster.mask[0][..., None], values[..., 3:] * shade[..., None], torch.tensor(1.0))
    return image.clamp(0, 1).permute(2, 0, 1)


def distance_colors(distance: Float[Tensor, "n"], most: float) -> Float[Tensor, "n 3"]:
    """Green for 0, over yellow to red for `most` and more."""
    share = (distance / most).clamp(0, 1)
    return torch.stack([(2 * share).clamp(max=1), (2 - 2 * share).clamp(max=1), torch.full_like(share, 0.15)], -1) * 0.9


def side_by_side(
    surfaces: list[tuple[Surface, Float[Tensor, "_ 3"] | None]], size: int = 480, yaw: float = 25.0
) -> Float[Tensor, "3 height width"]:
    """Several surfaces of one frame through the same camera: from the front above, turned below."""
    around = torch.cat([surface[0].float() for surface, _ in surfaces])
    rows = []
    for turn in (0.0, yaw):
        camera = surface_camera(around, size, turn)
        rows.append(torch.cat([draw_surface(surface, camera, colors) for surface, colors in surfaces], -1))
    return torch.cat(rows, -2)
