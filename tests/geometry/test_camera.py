"""Cameras against written-out formulas, each other, and round trips."""

import math

import pytest
import roma
import torch

from headlab.geometry.camera import FRONTAL, Camera, WeakPerspective

F64 = torch.float64


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def some_camera(size: tuple[int, int] = (480, 640)) -> Camera:
    """Unequal focal lengths, some skew, a turned and moved body."""
    K = torch.tensor([[700.0, 3.0, 310.0], [0.0, 650.0, 250.0], [0.0, 0.0, 1.0]], dtype=F64)
    R = roma.rotvec_to_rotmat(torch.tensor([0.2, -0.4, 0.1], dtype=F64)) @ torch.tensor(FRONTAL, dtype=F64)
    return Camera(K, R, torch.tensor([0.1, -0.05, 1.2], dtype=F64), size)


def some_points(*batch: int, n: int = 20) -> torch.Tensor:
    return 0.2 * torch.randn(*batch, n, 3, generator=generator(), dtype=F64)


def test_projection_is_what_the_formula_says() -> None:
    camera, points = some_camera(), some_points()
    for point, pixel in zip(points, camera.project(points), strict=True):
        x, y, z = (sum(float(camera.R[i, j] * point[j]) for j in range(3)) + float(camera.t[i]) for i in range(3))
        assert pixel.tolist() == pytest.approx([(700 * x + 3 * y) / z + 310, 650 * y / z + 250], abs=1e-9)


def test_a_frontal_camera_sees_the_subjects_left_on_the_right_and_up_above() -> None:
    camera = Camera.frontal(500.0, (200, 300))
    centre, left, up = camera.project(torch.tensor([[0.0, 0, -1], [0.1, 0, -1], [0, 0.1, -1]]))
    torch.testing.assert_close(centre, torch.tensor([150.0, 100.0]))
    torch.testing.assert_close(left, torch.tensor([200.0, 100.0]))
    torch.testing.assert_close(up, torch.tensor([150.0, 50.0]))
    assert float(torch.linalg.det(camera.R)) == 1.0


def test_frontal_keeps_leading_axes_of_the_focal_length() -> None:
    camera = Camera.frontal(torch.tensor([[400.0], [800.0]]), (10, 20))
    assert camera.K.shape == (2, 1, 3, 3)
    points = torch.tensor([[0.1, 0.2, -2.0]])
    assert camera.project(points.expand(2, 1, 1, 3))[:, 0, 0, 0].tolist() == pytest.approx([30.0, 50.0])


def test_homogeneous_coordinates_carry_pixels_and_depth() -> None:
    camera, points = some_camera(), some_points()
    h = camera.to_homogeneous(points)
    depth = camera.to_camera(points)[:, 2]
    torch.testing.assert_close(h[:, :2] / h[:, 3:], camera.project(points))
    torch.testing.assert_close(h[:, 2], depth)
    torch.testing.assert_close(h[:, 3], depth)  # K's last row is 0 0 1


def test_crop_shifts_pixels() -> None:
    camera, points = some_camera(), some_points()
    window = camera.cropped(12.5, -30.0, (100, 120))
    assert window.size == (100, 120)
    torch.testing.assert_close(window.project(points), camera.project(points) - torch.tensor([12.5, -30.0], dtype=F64))


def test_resize_scales_pixels_each_way() -> None:
    camera, points = some_camera((480, 640)), some_points()
    half = camera.resized((120, 320))
    torch.testing.assert_close(half.project(points), camera.project(points) * torch.tensor([0.5, 0.25], dtype=F64))


def test_scaling_uses_the_ratio_of_the_rounded_sizes() -> None:
    camera, points = some_camera((481, 643)), some_points()
    small = camera.scaled(0.3)
    assert small.size == (144, 193)
    ratio = torch.tensor([193 / 643, 144 / 481], dtype=F64)
    torch.testing.assert_close(small.project(points), camera.project(points) * ratio)
    assert camera.scaled(1e-6).size == (1, 1)


def test_crop_and_resize_commute_with_the_picture() -> None:
    """Cropping then shrinking equals shrinking then cropping the shrunken window."""
    camera, points = some_camera((400, 400)), some_points()
    one = camera.cropped(40, 80, (200, 200)).resized((100, 100))
    other = camera.resized((200, 200)).cropped(20, 40, (100, 100))
    torch.testing.assert_close(one.project(points), other.project(points))


@pytest.mark.parametrize("batch", [(), (1,), (3, 1, 2, 1)])
def test_leading_axes_are_free(batch: tuple[int, ...]) -> None:
    camera, points = some_camera(), some_points(*batch)
    wide = Camera(camera.K.expand(*batch, 3, 3), camera.R.expand(*batch, 3, 3), camera.t.expand(*batch, 3), camera.size)
    pixels = wide.project(points)
    assert pixels.shape == (*batch, 20, 2)
    flat = torch.stack([camera.project(p) for p in points.reshape(-1, 20, 3)])
    torch.testing.assert_close(pixels.reshape(-1, 20, 2), flat)


def test_projection_is_differentiable() -> None:
    camera, points = some_camera(), some_points(n=3).requires_grad_()
    assert torch.autograd.gradcheck(camera.project, (points,))


def test_to_changes_type_of_every_matrix() -> None:
    camera = some_camera().to(dtype=torch.float32)
    assert {camera.K.dtype, camera.R.dtype, camera.t.dtype} == {torch.float32}


WEAK = torch.tensor([[8.0, 0.01, -0.02], [6.5, -0.03, 0.015]], dtype=F64)


def weak_pixels(points: torch.Tensor, params: torch.Tensor, side: int) -> torch.Tensor:
    """DECA's projection, written out: s (x + tx), s (y + ty), y down, -1..1 onto the pixels."""
    s, tx, ty = params.tolist()
    x = (s * (points[..., 0] + tx) + 1) * side / 2
    y = (-s * (points[..., 1] + ty) + 1) * side / 2
    return torch.stack([x, y], -1)


@pytest.mark.parametrize("index", [0, 1])
def test_weak_perspective_is_decas_formula(index: int) -> None:
    points = some_points()
    h = WeakPerspective(WEAK[index]).to_homogeneous(points, (224, 224))
    torch.testing.assert_close(h[:, :2], weak_pixels(points, WEAK[index], 224))
    assert (h[:, 3] == 1).all()
    nearest = points[:, 2].argmax()  # +Z comes out of the face, towards the camera
    assert h[:, 2].argmin() == nearest


def test_weak_perspective_equals_its_pinhole_on_the_plane_z_0() -> None:
    points = some_points(2)
    points[..., 2] = 0
    weak = WeakPerspective(WEAK)
    for distance in (0.5, 10.0, 1e4):
        pixels = weak.to_pinhole(224, distance).project(points)
        for row in range(2):
            torch.testing.assert_close(pixels[row], weak_pixels(points[row], WEAK[row], 224))


def test_the_pinhole_nears_weak_perspective_as_one_over_the_distance() -> None:
    points, weak = some_points(), WeakPerspective(WEAK[0])
    errors = [
        float((weak.to_pinhole(224, d).project(points) - weak_pixels(points, WEAK[0], 224)).abs().max())
        for d in (10.0, 100.0, 1000.0)
    ]
    assert errors[0] / errors[1] == pytest.approx(10, rel=0.1)
    assert errors[1] / errors[2] == pytest.approx(10, rel=0.02)


@pytest.mark.parametrize("distance", [0.7, 10.0])
def test_weak_perspective_comes_back_from_the_pinhole(distance: float) -> None:
    back = WeakPerspective.from_pinhole(WeakPerspective(WEAK).to_pinhole(224, distance))
    torch.testing.assert_close(back.params, WEAK)


def test_weak_perspective_refuses_cameras_it_cannot_be() -> None:
    good = Camera.frontal(500.0, (224, 224))
    good = Camera(good.K, good.R, torch.tensor([0.0, 0.0, 1.0]), good.size)
    WeakPerspective.from_pinhole(good)
    turn = roma.rotvec_to_rotmat(torch.tensor([0.0, math.radians(2), 0.0]))
    bad = [
        Camera(good.K, good.R @ turn, good.t, good.size),
        Camera(good.K, good.R, good.t, (224, 225)),
        good.cropped(5, 0, (224, 224)),
    ]
    for camera in bad:
        with pytest.raises(ValueError, match="crop and rotate"):
            WeakPerspective.from_pinhole(camera)
