"""Frames of one head -> one surface: landmarks give the first pose, ICP the exact one, a TSDF volume the average."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import Float
from numpy import ndarray
from torch import Tensor

from ..camera import FRONTAL, Camera
from ..errors import HeadlabError
from ..raster import rasterize
from .cloud import back_project
from .filters import bilateral_filter, without_flying_pixels
from .icp import Alignment, DepthFrame, Surface, align, landmark_pose
from .normals import depth_normals
from .selection import lift_points
from .tsdf import TsdfVolume

_HEAD = 0.15  # metres about the head's centre: what is fused
_FACE = 0.095  # metres about the face's centre: what moves with the skull and is aligned
_BEHIND = 0.035  # metres: the face's centre behind its landmarks' mean


@dataclass(frozen=True)
class FusionConfig:
    voxel: float | None = None  #: metres; None: about a pixel of the nearest frame, 2 to 4 mm
    largest_rms: float = 0.004  #: frames that fit the others worse are left out, metres
    least_overlap: float = 0.25  #: likewise with less in common


@dataclass(frozen=True)
class Fusion:
    """One surface of many frames, in the first one's world."""

    surface: Surface
    alignments: tuple[Alignment | None, ...]  #: per frame; None: it could not be placed and takes no part
    volume: TsdfVolume


def depth_frame(
    depth: Float[Tensor, "height width"],
    camera: Camera,
    landmarks: Float[Tensor, "n 2"],
    *,
    normal_radius: int = 2,
) -> DepthFrame:
    """Prepare a frame: filter, normals, the head's pixels, landmarks on the surface.

    Args:
        depth: metres, 0 = none; registered to the picture.
        camera: intrinsics; its pose is not used.
        landmarks: points of the face that hardly move against the skull, pixels (the inner 51 of the 68).
        normal_radius: see `depth_normals`; pixels.

    Raises:
        HeadlabError: there is no depth on the face.
    """
    world = frontal(camera)
    clean = bilateral_filter(without_flying_pixels(depth))
    points = back_project(clean, world)
    marks = lift_points(landmarks, points, clean)
    known = np.isfinite(marks).all(1)
    if known.sum() < 6:
        raise HeadlabError(
            f"only {int(known.sum())} of {len(marks)} landmarks have a depth; the depth is empty there, "
            "or not registered to the colour picture"
        )
    middle = np.median(marks[known], axis=0)
    centre = torch.from_numpy(middle - [0, 0, _BEHIND])
    distance = (points - centre).norm(dim=-1)
    head = distance.nan_to_num(torch.inf) < _HEAD
    clean = torch.where(head, clean, 0.0)
    normals = depth_normals(clean, world, radius=normal_radius).double() @ world.R.double()
    near = np.linalg.norm(np.nan_to_num(marks, nan=np.inf) - middle, axis=1) < _HEAD
    marks[~near] = np.nan
    return DepthFrame(world, clean, points, normals, distance.nan_to_num(torch.inf) < _FACE, marks)


def frontal(camera: Camera) -> Camera:
    """The camera's intrinsics at the origin of a world with y up, looking along -z."""
    rotation = torch.tensor(FRONTAL, dtype=torch.float64)
    return Camera(camera.K.double(), rotation, torch.zeros(3, dtype=torch.float64), camera.size)


def fuse_frames(
    frames: Sequence[DepthFrame],
    config: FusionConfig | None = None,
    step: Callable[[int], None] = lambda frame: None,
    views: int | None = None,
) -> Fusion:
    """Align all frames to the first and average them.

    Args:
        frames: the first is the reference: a frontal one.
        config: see `FusionConfig`.
        step: called with the number of each frame as it begins.
        views: so many first frames look from elsewhere and extend the surface; later ones are only averaged in.

    Raises:
        HeadlabError: no frames, or the first shows no surface.
    """
    config = config or FusionConfig()
    if not frames:
        raise HeadlabError("no frames to fuse; give at least one")
    first = frames[0]
    middle = np.nanmedian(first.landmarks, axis=0)
    pixel = float(-middle[2] / first.camera.K[0, 0])  # metres per pixel on the face
    voxel = config.voxel or float(np.clip(1.2 * pixel, 0.002, 0.004))
    centre = middle - [0, 0, 1.5 * _BEHIND]
    volume = TsdfVolume.around(centre, 2.2 * _HEAD, voxel, max(3 * voxel, 0.005))
    volume.integrate(first.depth, first.camera, first.normals, np.eye(4))
    surface = volume.extract()
    if not len(surface.faces):
        raise HeadlabError("the frame shows no surface where the face is; its depth is too sparse")
    found: list[Alignment | None] = [Alignment(np.eye(4), 0.0, 1.0)]
    for i, frame in enumerate(frames[1:], 1):
        step(i)
        start = landmark_pose(frame.landmarks, first.landmarks)
        placed = None if start is None else align(frame, surface, start)
        if placed is not None and (placed.rms > config.largest_rms or placed.overlap < config.least_overlap):
            placed = None
        found.append(placed)
        if placed is not None:
            volume.integrate(frame.depth, frame.camera, frame.normals, placed.T)
            if views is None or i < views:
                surface = volume.extract()
    # A voxel that one slanted look has touched is noise once several frames have been averaged.
    used = sum(one is not None for one in found)
    return Fusion(volume.extract(0.05 if used < 4 else 0.3), tuple(found), volume)


def fused_depth(fusion: Fusion, frame: DepthFrame, T_reference_frame: Float[ndarray, "4 4"]) -> DepthFrame:
    """The frame with the fused surface's depth and normals where its camera sees that surface."""
    inverse = torch.from_numpy(np.linalg.inv(T_reference_frame))
    vertices = fusion.surface.vertices @ inverse[:3, :3].T + inverse[:3, 3]
    points = frame.camera.to_homogeneous(vertices).float()[None]
    raster = rasterize(points, fusion.surface.faces, frame.camera.size)
    depth = raster.depth[0]
    # Where the frame itself saw something nearer or much farther, the fused surface is not what it shows.
    agrees = (frame.depth == 0) | ((frame.depth - depth).abs() < 0.01)
    depth = torch.where((depth > 0) & agrees, depth, frame.depth)
    normals = depth_normals(depth, frame.camera).double() @ frame.camera.R
    return replace(frame, depth=depth, points=back_project(depth, frame.camera), normals=normals)
