"""Rotations in the conventions of DECA's and EMOCA's files: quaternions (w, x, y, z), Euler angles about x, y, z.

Everything goes through `roma`, whose quaternions are (x, y, z, w). Two of upstream's functions are not followed:
axis2euler cannot run (it calls a name it does not have; here `matrix_to_euler` inverts `euler_to_matrix`), and
angle2matrix mixes up the matrices of a batch (it stacks the nine entries along the wrong axis).
"""

import roma
import torch
from jaxtyping import Float
from torch import Tensor


def euler_to_matrix(angles: Float[Tensor, "*batch 3"]) -> Float[Tensor, "*batch 3 3"]:
    """R = Rx Ry Rz of angles (x, y, z), radians: jaw poses of DECA's "euler" models."""
    return _euler("XYZ", angles)


def matrix_to_euler(rotation: Float[Tensor, "*batch 3 3"]) -> Float[Tensor, "*batch 3"]:
    """Inverse of `euler_to_matrix`: y within -pi/2..pi/2, where x and z part."""
    x = torch.atan2(-rotation[..., 1, 2], rotation[..., 2, 2])
    y = torch.atan2(rotation[..., 0, 2], torch.hypot(rotation[..., 0, 0], rotation[..., 0, 1]))
    return torch.stack([x, y, torch.atan2(-rotation[..., 0, 1], rotation[..., 0, 0])], -1)


def degrees_to_matrix(angles: Float[Tensor, "*batch 3"]) -> Float[Tensor, "*batch 3 3"]:
    """R = Rz Ry Rx of angles (x, y, z), degrees: upstream's angle2matrix."""
    return _euler("xyz", torch.deg2rad(angles))


def euler_to_quaternion(angles: Float[Tensor, "*batch 3"]) -> Float[Tensor, "*batch 4"]:
    """Angles (x, y, z), radians -> (w, x, y, z)."""
    x, y, z = angles.unbind(-1)
    quaternion = roma.quat_composition([_about(axis, angle) for axis, angle in enumerate((x, y, z))])
    return roma.quat_xyzw_to_wxyz(quaternion)


def euler_to_rotvec(angles: Float[Tensor, "*batch 3"]) -> Float[Tensor, "*batch 3"]:
    """Angles (x, y, z), radians -> axis-angle."""
    return quaternion_to_rotvec(euler_to_quaternion(angles))


def rotvec_to_quaternion(rotvec: Float[Tensor, "*batch 3"]) -> Float[Tensor, "*batch 4"]:
    """Axis-angle -> (w, x, y, z), w >= 0 up to half a turn."""
    return roma.quat_xyzw_to_wxyz(roma.rotvec_to_unitquat(rotvec))


def quaternion_to_rotvec(quaternion: Float[Tensor, "*batch 4"]) -> Float[Tensor, "*batch 3"]:
    """(w, x, y, z) -> axis-angle of at most half a turn."""
    return roma.unitquat_to_rotvec(roma.quat_wxyz_to_xyzw(torch.nn.functional.normalize(quaternion, dim=-1)))


def quaternion_to_matrix(quaternion: Float[Tensor, "*batch 4"]) -> Float[Tensor, "*batch 3 3"]:
    """(w, x, y, z), any length -> rotation matrix."""
    return roma.unitquat_to_rotmat(roma.quat_wxyz_to_xyzw(torch.nn.functional.normalize(quaternion, dim=-1)))


def matrix_to_quaternion(rotation: Float[Tensor, "*batch 3 3"]) -> Float[Tensor, "*batch 4"]:
    """Rotation matrix -> (w, x, y, z); the sign is free."""
    return roma.quat_xyzw_to_wxyz(roma.rotmat_to_unitquat(rotation))


def head_yaw(rotation: Float[Tensor, "*batch 3 3"]) -> Float[Tensor, "*batch"]:
    """Angle about +Y, radians, within -pi/2..pi/2: what chooses FLAME's contour row."""
    return torch.atan2(-rotation[..., 2, 0], torch.hypot(rotation[..., 0, 0], rotation[..., 1, 0]))


def _about(axis: int, angle: Float[Tensor, "*batch"]) -> Float[Tensor, "*batch 4"]:
    rotvec = torch.zeros(*angle.shape, 3, dtype=angle.dtype, device=angle.device)
    rotvec[..., axis] = 1
    return roma.rotvec_to_unitquat(rotvec * angle.unsqueeze(-1))


def _euler(convention: str, angles: Float[Tensor, "*batch 3"]) -> Float[Tensor, "*batch 3 3"]:
    return roma.euler_to_rotmat(convention, list(angles.unbind(-1)))
