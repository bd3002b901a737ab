"""Rigid alignment of a depth frame to a surface: projective point-to-plane ICP.

The surface is rendered into the frame's own camera by the rasteriser, so that each pixel pairs a measured point with
the surface point on the same ray (Blais and Levine 1995; Newcombe et al., "KinectFusion", 2011). What is hidden in
that view takes no part. Poses are 4 x 4 matrices `T_reference_frame`: points of the frame's world -> reference.
"""

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from numpy import ndarray
from torch import Tensor
from torch.nn.functional import normalize

from ..camera import Camera
from ..fitting.robust import geman_mcclure
from ..fitting.so3 import rotation_matrix
from ..models.correspondence import similarity
from ..raster import interpolate, rasterize, vertex_normals


@dataclass(frozen=True)
class DepthFrame:
    """A frame as alignment needs it: points and normals of the head's pixels. World: y up, z to the camera, metres."""

    camera: Camera  #: frontal, at the world's origin
    depth: Float[Tensor, "height width"]  #: metres, filtered
    points: Float[Tensor, "height width 3"]  #: NaN where there is no depth; float64
    normals: Float[Tensor, "height width 3"]  #: unit, world axes; 0 where unknown
    mask: Bool[Tensor, "height width"]  #: pixels that move with the skull: the face
    landmarks: Float[ndarray, "n 3"]  #: on the surface, NaN where unknown; the same points in all frames


@dataclass(frozen=True)
class Alignment:
    """Where a frame lies."""

    T: Float[ndarray, "4 4"]  #: T_reference_frame
    rms: float  #: of the distances of paired points along normals, metres
    overlap: float  #: share of the frame's masked pixels that found their pair


@dataclass(frozen=True)
class Surface:
    """A triangle mesh in the reference world."""

    vertices: Float[Tensor, "verts 3"]
    faces: Int[Tensor, "faces 3"]


def landmark_pose(
    points: Float[ndarray, "n 3"], reference: Float[ndarray, "n 3"], rounds: int = 4
) -> Float[ndarray, "4 4"] | None:
    """Rigid motion of landmarks onto others of the same meaning, robustly; None where fewer than 6 are shared."""
    shared = np.isfinite(points).all(1) & np.isfinite(reference).all(1)
    if shared.sum() < 6:
        return None
    a, b = points[shared], reference[shared]
    weights = np.ones(len(a))
    T = np.eye(4)
    for _ in range(rounds):
        _, rotation, _ = similarity(a, b, weights)
        w = weights / weights.sum()
        T[:3, :3], T[:3, 3] = rotation, w @ b - rotation @ (w @ a)
        squared = ((a @ rotation.T + T[:3, 3] - b) ** 2).sum(1)
        weights = geman_mcclure(squared / 0.006**2, 1.0)[1] + 1e-6
    return T


def align(
    frame: DepthFrame,
    surface: Surface,
    start: Float[ndarray, "4 4"],
    *,
    reach: tuple[float, ...] = (0.02, 0.015, 0.01, 0.008, 0.006, 0.005, 0.004, 0.004, 0.004, 0.004),
) -> Alignment:
    """Move a frame onto a surface.

    Args:
        frame: what was measured.
        surface: what it is laid on, in the reference world.
        start: first guess of T_reference_frame, within about 2 cm and 15 degrees.
        reach: per round, distance from which a pair counts little, metres.
    """
    T = start.copy()
    normals = vertex_normals(surface.vertices, surface.faces)
    measured = frame.points.reshape(-1, 3).numpy()
    own_normals = frame.normals.reshape(-1, 3).double().numpy()
    used = (frame.mask & frame.points.isfinite().all(-1)).flatten().numpy()
    rms, overlap = float("inf"), 0.0
    for distance in reach:
        position, normal, hit = _rendered(frame.camera, surface, normals, T)
        paired = used & hit
        if paired.sum() < 100:
            break
        p, q, n = measured[paired], position[paired], normal[paired]
        residual = ((q - p) * n).sum(1)
        facing = np.clip(((own_normals[paired] * n).sum(1) - 0.3) / 0.5, 0, 1)
        near = np.linalg.norm(q - p, axis=1)
        weight = facing * geman_mcclure((near / distance) ** 2, 1.0)[1]
        centre = p.mean(0)
        rows = np.concatenate([np.cross(p - centre, n), n], 1) * weight[:, None]
        system = np.concatenate([np.cross(p - centre, n), n], 1).T @ rows
        solution = np.linalg.solve(system + np.diag([1e-9] * 3 + [1e-6] * 3), rows.T @ residual)
        motion = np.eye(4)
        motion[:3, :3] = rotation_matrix(solution[:3])
        motion[:3, 3] = centre + solution[3:] - motion[:3, :3] @ centre
        T = T @ motion
        rms = float(np.sqrt((weight * residual**2).sum() / max(weight.sum(), 1e-12)))
        overlap = float((weight > 0.2).sum() / max(used.sum(), 1))
    return Alignment(T, rms, overlap)


def _rendered(
    camera: Camera, surface: Surface, normals: Tensor, T: Float[ndarray, "4 4"]
) -> tuple[Float[ndarray, "pixels 3"], Float[ndarray, "pixels 3"], Bool[ndarray, "pixels"]]:
    """Points and normals of the surface in the frame's world, per pixel, and where it is seen."""
    inverse = torch.from_numpy(np.linalg.inv(T))
    vertices = surface.vertices.double() @ inverse[:3, :3].T + inverse[:3, 3]
    turned = normals.double() @ inverse[:3, :3].T
    points = camera.to(dtype=torch.float64).to_homogeneous(vertices).float()[None]
    raster = rasterize(points, surface.faces, camera.size)
    both = torch.cat([vertices, turned], 1).float()
    seen = interpolate(raster, both[None], surface.faces)[0].flatten(0, 1).double()
    hit = raster.mask[0].flatten()
    return seen[:, :3].numpy(), normalize(seen[:, 3:], dim=-1).numpy(), hit.numpy()
