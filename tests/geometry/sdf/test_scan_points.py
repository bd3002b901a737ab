"""What is made of scans before anything is fitted, and what is refused."""

import numpy as np
import pytest
import torch
import trimesh

from headlab.geometry.camera import Camera
from headlab.geometry.errors import HeadlabError
from headlab.geometry.sdf.scan_points import Scan, depth_scan, lonely, nearest_colors, scan_unit, surface_points


def ball(radius: float = 0.1) -> Scan:
    mesh = trimesh.creation.icosphere(4, radius)
    return Scan(np.asarray(mesh.vertices), np.asarray(mesh.faces))


@pytest.mark.parametrize(
    ("size", "unit"), [(0.25, "m"), (25.0, "cm"), (250.0, "mm"), (0.6, "m"), (140.0, "mm"), (4.0, None), (3000.0, None)]
)
def test_units_are_told_by_the_size(size: float, unit: str | None) -> None:
    assert scan_unit(size) == unit


def test_points_of_a_mesh_lie_on_it_with_its_normals() -> None:
    points = surface_points(ball(), 3000, np.random.default_rng(0))
    length = np.linalg.norm(points.points, axis=1)
    assert points.oriented and len(length) == 3000
    assert np.abs(length - 0.1).max() < 1e-3
    assert (points.normals * points.points).sum(1).min() > 0.099


def test_normals_of_clouds_are_estimated_and_outliers_dropped() -> None:
    draws = np.random.default_rng(0)
    good = ball().points[draws.permutation(2562)]
    bad = np.concatenate([draws.uniform(-3, 3, (20, 3)), np.full((5, 3), np.nan)])
    points = surface_points(Scan(np.concatenate([good, bad])), 5000, draws)
    assert not points.oriented and points.dropped == 5
    assert np.linalg.norm(points.points, axis=1).max() < 0.11
    cosine = np.abs((points.normals * points.points).sum(1)) / 0.1
    assert cosine.mean() > 0.99
    assert lonely(np.concatenate([good, [[0.0, 0.0, 5.0]]]))[-1]


def test_what_is_no_scan_is_refused() -> None:
    draws = np.random.default_rng(0)
    with pytest.raises(HeadlabError, match="12 usable points of 12; at least 200"):
        surface_points(Scan(np.zeros((12, 3))), 100, draws)
    with pytest.raises(HeadlabError, match="0 usable points of 300"):
        surface_points(Scan(np.full((300, 3), np.inf)), 100, draws)
    with pytest.raises(HeadlabError, match=r"faces name points 0\.\.9 but it has 3"):
        surface_points(Scan(np.zeros((3, 3)), np.array([[0, 1, 9]])), 100, draws)
    flat = Scan(np.zeros((300, 3)), np.arange(300).reshape(-1, 3))
    with pytest.raises(HeadlabError, match="no area"):
        surface_points(flat, 100, draws)


def test_broken_points_neither_count_for_the_size_nor_stay() -> None:
    good = ball()
    broken = good.points.copy()
    broken[7], broken[100, 1] = np.nan, np.inf
    scan = Scan(broken, good.faces, np.tile(broken[:, :1], (1, 3)), "m")
    assert scan.extent == pytest.approx(good.extent, rel=1e-2)
    assert good.faces is not None and good.unbroken() is good
    left = scan.unbroken()
    touched = np.isin(good.faces, [7, 100]).any(1)
    assert left.faces is not None and left.colors is not None and left.unit == "m"
    assert len(left.points) == len(left.colors) == len(good.points) - 2
    np.testing.assert_array_equal(left.points[left.faces], good.points[good.faces[~touched]])
    assert Scan(np.full((300, 3), np.nan)).extent == 0.0


def test_of_a_standing_person_the_upper_end_is_kept() -> None:
    camera = Camera.frontal(100.0, (120, 50))
    depth = torch.full((120, 50), 1.0)  # 1.2 m high
    scan = depth_scan(depth, camera)
    below = scan.points @ camera.R[1].double().numpy()
    assert scan.unit == "m" and np.ptp(below) == pytest.approx(0.4, abs=0.03)
    assert below.min() == pytest.approx(-0.6, abs=0.03)
    assert len(depth_scan(depth[:50], Camera.frontal(100.0, (50, 50))).points) == 2500


def test_depth_maps_become_points_of_the_nearest_thing() -> None:
    camera = Camera.frontal(100.0, (40, 50))
    depth = torch.zeros(40, 50)
    depth[10:30, 10:40] = 0.6
    depth[0:5] = 2.0  # a wall behind
    image = torch.rand(3, 40, 50)
    scan = depth_scan(depth, camera, image)
    assert scan.points.shape == (600, 3) and scan.colors is not None
    camera_points = torch.from_numpy(scan.points).float() @ camera.R.T + camera.t
    torch.testing.assert_close(camera_points[:, 2], torch.full((600,), 0.6))
    pixel = camera.project(torch.from_numpy(scan.points).float())
    torch.testing.assert_close(pixel[0], torch.tensor([10.5, 10.5]), atol=1e-3, rtol=0)
    np.testing.assert_allclose(scan.colors[0], image[:, 10, 10], atol=1e-6)
    with pytest.raises(HeadlabError, match="empty"):
        depth_scan(torch.zeros(40, 50), camera)


def test_colours_come_from_the_nearest_points() -> None:
    scan = Scan(ball().points, None, np.where(ball().points[:, :1] > 0, [[1.0, 0, 0]], [[0.0, 0, 1]]))
    near = nearest_colors(scan, np.array([[0.101, 0, 0], [-0.101, 0, 0], [0.5, 0, 0]]))
    assert near[0, 0] > 0.95 and near[1, 2] > 0.95
    np.testing.assert_allclose(near[2], scan.colors.mean(0) if scan.colors is not None else 0, atol=1e-6)
