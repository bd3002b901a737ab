"""Scan-to-mesh distances of surfaces whose distance is known."""

import numpy as np
import pytest
import trimesh

from headlab.geometry.errors import HeadlabError
from headlab.heads.metrics.surfaces import moved, region_errors, scan_to_mesh


@pytest.fixture(scope="module")
def ball():
    """A lumpy ball of about 80 mm with seven marks."""
    mesh = trimesh.creation.icosphere(subdivisions=4, radius=80.0)
    v = np.array(mesh.vertices)
    v = v * (1 + 0.1 * np.sin(v[:, :1] / 20) + 0.08 * np.cos(v[:, 1:2] / 15 + 1))
    return v, np.array(mesh.faces), v[[3, 40, 90, 200, 333, 500, 620]]


def turned(points, angle=0.3, scale=1.0):
    c, s = np.cos(angle), np.sin(angle)
    return scale * points @ np.array([[c, -s, 0], [s, c, 0], [0, 0, 1]]).T + [5, -3, 8]


def test_the_same_surface_has_no_distance(ball):
    v, f, marks = ball
    everywhere = np.ones(len(v), bool)
    distance = scan_to_mesh(v, turned(v), f, marks, turned(marks), face=everywhere)
    assert distance.max() < 1e-6
    # With landmarks a little off, ICP mends it.
    off = turned(marks) + np.random.default_rng(0).normal(0, 2, marks.shape)
    assert scan_to_mesh(v, turned(v), f, marks, off, face=everywhere).mean() < 0.2
    # Another unit: only the protocol with scale can.
    small = turned(v, scale=0.1), turned(marks, scale=0.1)
    assert scan_to_mesh(v, small[0], f, marks, small[1], face=everywhere, scaled=True).max() < 1e-6
    assert scan_to_mesh(v, small[0], f, marks, small[1], face=everywhere).mean() > 20


def test_concentric_balls():
    ball = trimesh.creation.icosphere(subdivisions=5, radius=80.0)
    v, f = np.array(ball.vertices), np.array(ball.faces)
    marks = v[[0, 5, 9, 30, 60, 90, 200]]
    distance = scan_to_mesh(v * 1.025, v, f, marks * 1.025, marks, face=np.ones(len(v), bool))
    assert distance.mean() == pytest.approx(2.0, abs=0.02)


def test_far_points_are_no_face(ball):
    v, f, marks = ball
    scan = np.concatenate([v, v + 1000])
    assert len(scan_to_mesh(scan, v, f, marks, marks)) < len(v)
    with pytest.raises(HeadlabError, match="millimetres"):
        scan_to_mesh(v / 1000, v, f, marks, marks)
    with pytest.raises(HeadlabError, match="different places"):
        moved(np.zeros((4, 3)), np.zeros((4, 3)), v, scaled=True)


def test_errors_by_region(ball):
    v, _, _ = ball
    upper = v[:, 2] > 20
    regions = {"upper": upper, "lower": ~upper}
    same = region_errors(v, v, regions, regions)
    assert max(same.values()) < 1e-12
    # A bump in the upper half only.
    bumped = v.copy()
    bumped[upper] *= 1 + 0.1 * np.exp(-((v[upper, :1] - 30) ** 2 + v[upper, 1:2] ** 2) / 600)
    rigid = region_errors(bumped, v, regions, regions, bent=False)
    assert rigid["upper"] > 1e-4 and rigid["lower"] < 1e-12
    assert region_errors(bumped, v, regions, regions)["upper"] < rigid["upper"]
    with pytest.raises(HeadlabError, match="nothing"):
        region_errors(v, v, {"nothing": np.zeros(len(v), bool)}, {"nothing": upper})
