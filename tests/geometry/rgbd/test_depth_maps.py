"""Normals, filters, holes and crops of depth maps against known surfaces."""

import pytest
import torch
from torch import Tensor

from headlab.geometry.camera import Camera
from headlab.geometry.errors import HeadlabError
from headlab.geometry.frame import Frame
from headlab.geometry.landmarks import FaceLandmarks
from headlab.geometry.rgbd import (
    bilateral_filter,
    complete_depth,
    cropped,
    depth_normals,
    face_window,
    person_mask,
    temporal_filter,
    without_flying_pixels,
)
from headlab.geometry.rgbd.cloud import pixel_rays
from headlab.geometry.rgbd.holes import complete_picture, narrow_holes
from headlab.geometry.rgbd.render import DepthPicture

CAMERA = Camera.frontal(300.0, (120, 160))


def ball(radius: float = 0.1, distance: float = 0.5, wall: float = 0.9) -> Tensor:
    rays = pixel_rays(CAMERA)
    a, b = (rays**2).sum(-1), rays[..., 2] * distance
    root = b * b - a * (distance**2 - radius**2)
    near = (b - root.clamp(min=0).sqrt()) / a
    return torch.where(root > 0, near, wall).float()


def test_normals_of_a_plane_and_a_ball() -> None:
    rays = pixel_rays(CAMERA)
    normal = torch.nn.functional.normalize(torch.tensor([0.3, -0.2, -1.0], dtype=torch.float64), dim=0)
    plane = (-0.6 / (rays @ normal)).float()
    torch.testing.assert_close(depth_normals(plane, CAMERA), normal.float().expand(120, 160, 3), atol=2e-3, rtol=0)
    depth = ball()
    found = depth_normals(depth, CAMERA)
    points = rays * depth[..., None] - torch.tensor([0, 0, 0.5], dtype=torch.float64)
    expected = torch.nn.functional.normalize(points, dim=-1)
    facing = (depth < 0.85) & (expected[..., 2] < -0.3)
    angle = torch.acos((found.double() * expected).sum(-1).clamp(-1, 1))[facing]
    assert float(angle.rad2deg().median()) < 1 and float(angle.rad2deg().max()) < 12
    assert not bool(depth_normals(torch.zeros(120, 160), CAMERA).any())


def test_bilateral_filter_smooths_but_keeps_edges_and_holes() -> None:
    clean = ball()
    noisy = clean + 0.001 * torch.randn(clean.shape, generator=torch.Generator().manual_seed(0))
    noisy[50:55, 70:75] = 0
    out = bilateral_filter(noisy)
    assert not bool(out[50:55, 70:75].any())
    known = noisy > 0
    assert float((out - clean)[known].abs().mean()) < 0.55 * float((noisy - clean)[known].abs().mean())
    edge = (clean[:, 1:] - clean[:, :-1]).abs() > 0.1
    assert float((out[:, 1:] - out[:, :-1])[edge].abs().min()) > 0.09


def test_temporal_filter_averages_what_stays() -> None:
    generator = torch.Generator().manual_seed(1)
    clean = torch.full((20, 30), 0.7)
    frames = [clean + 0.002 * torch.randn(20, 30, generator=generator) for _ in range(5)]
    frames[2][:, 10:] += 0.3  # something moved away in one frame
    frames[2][3, 3] = 0
    out = temporal_filter(frames)
    assert float((out[2][:, :10] - 0.7).abs().mean()) < 0.0011
    assert float((out[2][:, 10:] - 1.0).abs().mean()) < 0.002  # it is not mixed with what was before
    assert float(out[2][3, 3]) == pytest.approx(0.7, abs=0.003)
    assert float(temporal_filter(frames, fill=False)[2][3, 3]) == 0
    with pytest.raises(HeadlabError, match="different sizes"):
        temporal_filter([clean, clean[:3]])


def test_flying_pixels_go() -> None:
    depth = ball()
    depth[10, 10], depth[60, 12] = 0.7, 0.71
    out = without_flying_pixels(depth)
    assert out[10, 10] == 0 and out[60, 12] == 0
    assert float((out > 0).float().mean()) > 0.97


def test_holes_are_filled_from_their_own_surface() -> None:
    clean = ball()
    image = torch.where(clean < 0.8, 0.8, 0.1).expand(3, -1, -1).contiguous()
    depth = clean.clone()
    depth[40:48, 60:68], depth[70:74, 90:110] = 0, 0
    depth[55:63, 15:35] = 0  # across the ball's edge
    made = depth == 0
    full = complete_depth(depth, image, largest=8)
    assert bool((full.depth[made] > 0).all())
    assert torch.equal(full.depth[~made], depth[~made]) and bool((full.confidence[~made] == 1).all())
    assert bool((full.confidence[made] < 0.9).all()) and bool((full.confidence[made] > 0).all())
    error = (full.depth - clean)[made].abs()
    assert float(error.median()) < 2e-4 and float((error > 0.02).float().mean()) < 0.05
    # No pixel hangs between ball and wall.
    between = (full.depth > 0.62) & (full.depth < 0.87)
    assert not bool(between.any())


def test_wide_gaps_stay_and_so_do_empty_maps() -> None:
    depth = ball()
    depth[:, 130:] = 0
    depth[20:24, 20:24] = 0
    full = complete_depth(depth, largest=8)
    assert not bool(full.depth[:, 135:].any()) and bool((full.depth[20:24, 20:24] > 0).all())
    empty = complete_depth(torch.zeros(10, 12))
    assert not bool(empty.depth.any()) and not bool(empty.confidence.any())
    assert narrow_holes((depth == 0).numpy(), 4).sum() < (depth == 0).sum()


def test_holes_follow_colour_where_depth_is_silent() -> None:
    """A hole between two surfaces: the colour edge inside it decides, not the nearest rim."""
    clean = torch.full((40, 40), 0.5)
    clean[:, 23:] = 1.0
    image = torch.where(clean < 0.8, 0.9, 0.1).expand(3, -1, -1).contiguous()
    depth = clean.clone()
    depth[10:30, 16:24] = 0
    torch.testing.assert_close(complete_depth(depth, image).depth, clean, atol=1e-3, rtol=0)


def test_pictures_are_completed_with_their_colours() -> None:
    depth, image = torch.full((20, 20), 0.5), torch.full((3, 20, 20), 0.4)
    depth[5:8, 5:8], image[:, 5:8, 5:8] = 0, 0
    full = complete_picture(DepthPicture(depth, image, (depth > 0).float()))
    torch.testing.assert_close(full.depth, torch.full((20, 20), 0.5), atol=1e-5, rtol=0)
    torch.testing.assert_close(full.image, torch.full((3, 20, 20), 0.4), atol=1e-5, rtol=0)


def test_person_and_face_are_cut_out() -> None:
    depth = ball()
    mask = person_mask(depth, torch.tensor([[80.0, 60.0], [85.0, 58.0]]))
    assert float((mask == (depth < 0.8)).float().mean()) > 0.98
    with pytest.raises(HeadlabError, match="no depth where the face is"):
        person_mask(torch.zeros(120, 160), torch.tensor([[80.0, 60.0]]))
    points = torch.tensor([[70.0, 50.0], [90.0, 80.0]])
    window = face_window(points, (120, 160), grow=1.6)
    assert window == (56, 41, 104, 89)
    face = FaceLandmarks(torch.full((478, 2), 80.0), torch.zeros(478), 1.0)
    frame = Frame(torch.rand(3, 120, 160), depth=depth, camera=CAMERA, landmarks=face)
    small = cropped(frame, window)
    assert small.size == (48, 48) and small.camera.size == (48, 48)
    point = torch.tensor([[0.01, 0.02, -0.5]])
    torch.testing.assert_close(small.camera.project(point), CAMERA.project(point) - torch.tensor([56.0, 41.0]))
    torch.testing.assert_close(small.landmarks.points[0], torch.tensor([24.0, 39.0]))
    assert torch.equal(small.depth, depth[41:89, 56:104])
