"""Alignment and fusion: a known surface from several sides."""

import math

import numpy as np
import pytest
import roma
import torch
from torch import Tensor

from headlab.geometry.camera import Camera
from headlab.geometry.errors import HeadlabError
from headlab.geometry.raster import rasterize
from headlab.geometry.rgbd.fusion import depth_frame, fuse_frames, fused_depth
from headlab.geometry.rgbd.icp import Surface, align, landmark_pose
from headlab.geometry.rgbd.selection import ViewPose, head_angles, select_views
from headlab.geometry.rgbd.tsdf import TsdfVolume

CAMERA = Camera.frontal(500.0, (300, 280))


@pytest.fixture(scope="module")
def head(default_head):
    return default_head


def pose(yaw: float, shift: tuple[float, float, float] = (0, 0, 0)) -> np.ndarray:
    T = np.eye(4)
    T[:3, :3] = roma.rotvec_to_rotmat(torch.tensor([0.0, math.radians(yaw), 0.0], dtype=torch.float64)).numpy()
    T[:3, 3] = np.array([0, 0, -0.5]) + shift
    return T


def frame_of(head, T: np.ndarray, noise: float = 0.0, seed: int = 0):
    """Depth of the mean head under a pose, as a frame."""
    vertices = head.template.double() @ torch.from_numpy(T[:3, :3].T) + torch.from_numpy(T[:3, 3])
    depth = rasterize(CAMERA.to_homogeneous(vertices.float())[None], head.faces, CAMERA.size).depth[0]
    depth = depth + noise * torch.randn(depth.shape, generator=torch.Generator().manual_seed(seed)) * (depth > 0)
    marks = CAMERA.project(head.landmarks3d(vertices.float())[17:])
    return depth_frame(depth, CAMERA, marks)


def degrees(R: np.ndarray) -> float:
    return math.degrees(math.acos(min(1.0, (np.trace(R) - 1) / 2)))


def test_icp_finds_a_known_motion(head) -> None:
    truth, other = pose(4), pose(22, (0.01, -0.004, 0.012))
    frame = frame_of(head, other)
    vertices = head.template.double() @ torch.from_numpy(truth[:3, :3].T) + torch.from_numpy(truth[:3, 3])
    expected = truth @ np.linalg.inv(other)
    start = expected.copy()
    start[:3, 3] += [0.006, -0.005, 0.004]
    start[:3, :3] = (
        roma.rotvec_to_rotmat(torch.tensor([0.05, 0.06, -0.04], dtype=torch.float64)).numpy() @ start[:3, :3]
    )
    found = align(frame, Surface(vertices, head.faces), start)
    gap = np.linalg.inv(expected) @ found.T
    assert degrees(gap[:3, :3]) < 0.6
    at = other[:3, 3]
    assert np.linalg.norm(gap[:3, :3] @ at + gap[:3, 3] - at) < 0.001
    assert found.rms < 0.001 and found.overlap > 0.7


def test_landmarks_give_the_first_pose() -> None:
    rng = np.random.default_rng(0)
    points, T = rng.normal(0, 0.04, (51, 3)), pose(30, (0.1, 0, 0))
    moved = points @ T[:3, :3].T + T[:3, 3] + rng.normal(0, 0.0005, points.shape)
    moved[3] += 0.05  # a landmark on the background
    moved[7] = np.nan
    found = landmark_pose(points, moved)
    np.testing.assert_allclose(found, T, atol=0.01)
    assert landmark_pose(points[:5], moved[:5]) is None


def test_a_ball_in_the_volume() -> None:
    camera = Camera.frontal(400.0, (160, 160)).to(dtype=torch.float64)
    from headlab.geometry.rgbd.cloud import pixel_rays
    from headlab.geometry.rgbd.normals import depth_normals

    rays = pixel_rays(camera)
    a, b = (rays**2).sum(-1), rays[..., 2] * 0.5
    root = b * b - a * (0.25 - 0.0064)
    depth = torch.where(root > 0, (b - root.clamp(min=0).sqrt()) / a, 0.0).float()
    normals = depth_normals(depth, camera).double() @ camera.R
    volume = TsdfVolume.around(np.array([0, 0, -0.5]), 0.2, 0.002, 0.006)
    volume.integrate(depth, camera, normals, np.eye(4))
    surface = volume.extract()
    radius = (surface.vertices - torch.tensor([0, 0, -0.5], dtype=torch.float64)).norm(dim=1)
    assert len(surface.faces) > 2000
    assert float((radius - 0.08).abs().median()) < 1e-4 and float((radius - 0.08).abs().max()) < 2e-3
    corners = surface.vertices[surface.faces]
    normal = torch.linalg.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    outwards = ((corners.mean(1) - torch.tensor([0, 0, -0.5], dtype=torch.float64)) * normal).sum(-1)
    assert float((outwards > 0).float().mean()) > 0.99


def test_fusion_averages_noise_and_extends_the_surface(head) -> None:
    poses = [pose(0), pose(30, (0.01, 0, 0)), pose(-30), pose(3, (0, 0.01, 0.01)), pose(-6)]
    frames = [frame_of(head, T, 0.0012, i) for i, T in enumerate(poses)]
    fusion = fuse_frames(frames, views=3)
    assert all(one is not None for one in fusion.alignments)
    truth = head.template.double() + torch.from_numpy(poses[0][:3, 3])
    from headlab.geometry.raster import closest_point

    distance = closest_point(truth, head.faces, fusion.surface.vertices)[0]
    first = fuse_frames(frames[:1]).surface
    alone = closest_point(truth, head.faces, first.vertices)[0]
    assert float(distance.median()) < 0.0006
    assert len(fusion.surface.vertices) > 1.3 * len(first.vertices)
    assert float(distance.mean()) < float(alone.mean()) + 0.0002
    placed = fusion.alignments[1]
    better = fused_depth(fusion, frames[1], placed.T)
    clean = frame_of(head, poses[1])
    known = (clean.depth > 0) & (frames[1].depth > 0) & frames[1].mask
    error = [float((one.depth - clean.depth)[known].abs().median()) for one in (frames[1], better)]
    assert error[1] < error[0]


def test_frames_without_depth_on_the_face_are_refused(head) -> None:
    marks = torch.full((51, 2), 150.0)
    with pytest.raises(HeadlabError, match="landmarks have a depth"):
        depth_frame(torch.zeros(CAMERA.size), CAMERA, marks)
    with pytest.raises(HeadlabError, match="at least one"):
        fuse_frames([])


def views(rows: list[tuple[float, float, float]]) -> list[ViewPose]:
    return [ViewPose(*map(float, row)) for row in rows]


def test_the_wanted_views_are_chosen_sharp() -> None:
    rows = [(0, 0, 0.5), (2, 1, 1.0), (34, 0, 1.0), (36, 0, 0.2), (-33, 2, 1.0), (1, 21, 1.0), (12, 3, 1.0)]
    chosen = select_views(views(rows), 4)
    assert [(view.index, view.name) for view in chosen] == [(1, "front"), (2, "left"), (4, "right"), (5, "up")]


def test_a_head_that_does_not_turn_gives_extra_views() -> None:
    chosen = select_views(views([(-8, 0, 1.0), (-8.5, 0.5, 0.9), (-8, 1, 0.8)]), 4)
    assert len(chosen) == 3 and chosen[0].name == "front" and {v.name for v in chosen[1:]} == {"extra"}
    assert len({view.index for view in chosen}) == 3


def test_angles_follow_the_subjects_left_and_up() -> None:
    def turned(x: float, y: float) -> Tensor:
        return roma.rotvec_to_rotmat(torch.tensor([math.radians(x), math.radians(y), 0.0]))

    assert head_angles(turned(0, 25).numpy()) == pytest.approx((25, 0), abs=1e-4)
    assert head_angles(turned(-15, 0).numpy()) == pytest.approx((0, 15), abs=1e-4)
