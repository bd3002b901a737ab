"""Registration: a depth map seen by one camera -> the same surface seen by another (the colour camera)."""

import torch
from jaxtyping import Float
from torch import Tensor

from ..camera import Camera
from .cloud import cloud_from_depth
from .mesh import JUMP, mesh_from_depth
from .render import DepthPicture, render_mesh
from .splat import render_points


def register_depth(
    depth: Float[Tensor, "height width"],
    depth_camera: Camera,
    colour_camera: Camera,
    *,
    surface: bool = True,
    jump: float = JUMP,
) -> DepthPicture:
    """Depth as the colour camera would measure it. Both cameras have intrinsics of their own and share one world.

    Args:
        depth: metres along the depth camera's z, 0 = none.
        depth_camera: its intrinsics and pose.
        colour_camera: the other's; its size is the result's. What it sees and the depth camera does not stays empty.
        surface: raster the surface between the pixels (no gaps where the colour picture is finer); otherwise draw
            the pixels as discs.
        jump: largest difference of depth within a triangle, metres.
    """
    if surface:
        mesh = mesh_from_depth(depth, depth_camera, jump=jump)
        return render_mesh(mesh.vertices, mesh.faces, colour_camera)
    return render_points(cloud_from_depth(depth, depth_camera), colour_camera)


def camera_from(
    intrinsics: Float[Tensor, "3 3"],
    size: tuple[int, int],
    T_camera_world: Float[Tensor, "4 4"] | None = None,
) -> Camera:
    """A camera with OpenCV axes; at the world's origin where no pose is given (x right, y down, z forward)."""
    pose = torch.eye(4, dtype=torch.float64) if T_camera_world is None else T_camera_world.double()
    return Camera(intrinsics.double(), pose[:3, :3].contiguous(), pose[:3, 3].contiguous(), size)
