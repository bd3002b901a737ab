"""Nearest points of meshes and clouds."""

import numpy as np
import pytest

from headlab.geometry.fitting.scan_surface import CloudSurface, MeshSurface, scan_surface


def plane(side: int = 15) -> tuple[np.ndarray, np.ndarray]:
    """The square 0..1 at z = 0, facing +z."""
    x, y = np.meshgrid(np.linspace(0, 1, side), np.linspace(0, 1, side), indexing="xy")
    vertices = np.stack([x.ravel(), y.ravel(), np.zeros(side * side)], 1)
    i = np.arange((side - 1) * side).reshape(side - 1, side)[:, :-1].ravel()
    faces = np.concatenate([np.stack([i, i + 1, i + side + 1], 1), np.stack([i, i + side + 1, i + side], 1)])
    return vertices, faces


def test_mesh_hits_and_borders() -> None:
    surface = scan_surface(*plane())
    assert isinstance(surface, MeshSurface) and surface.oriented
    assert surface.on_border.sum() == 4 * 14
    hits = surface.nearest(np.array([[0.31, 0.52, 0.2], [1.4, 0.5, 0.3], [0.5, 0.5, -0.1]]))
    assert hits.distance == pytest.approx([0.2, 0.5, 0.1])
    assert hits.position == pytest.approx(np.array([[0.31, 0.52, 0], [1, 0.5, 0], [0.5, 0.5, 0]]))
    assert hits.normal == pytest.approx(np.tile([0, 0, 1.0], (3, 1)))
    assert hits.border.tolist() == [False, True, False]


def test_seams_are_no_borders() -> None:
    """A mesh cut along texture seams: its vertices are doubled where the parts meet."""
    vertices, faces = plane()
    left = vertices[faces].mean(1)[:, 0] < 0.5
    cut = np.concatenate([vertices, vertices])
    faces = np.where(left[:, None], faces, faces + len(vertices))
    surface = scan_surface(cut, faces)
    used = np.unique(faces)
    inside = ((cut > 0) & (cut < 1))[:, :2].all(1)
    assert not surface.on_border[used][inside[used]].any()
    assert surface.on_border[used][~inside[used]].all()


def test_cloud_measures_to_tangent_planes() -> None:
    rng = np.random.default_rng(0)
    points = np.concatenate([rng.random((4000, 2)), np.zeros((4000, 1))], 1)
    surface = scan_surface(points, None)
    assert isinstance(surface, CloudSurface) and not surface.oriented
    hits = surface.nearest(np.array([[0.5, 0.5, 0.2], [1.5, 0.5, 0.01]]))
    assert hits.distance == pytest.approx([0.2, 0.01])
    assert np.abs(hits.normal[:, 2]) == pytest.approx(1)
    assert hits.border.tolist() == [False, True]
    assert 0.005 < surface.spacing < 0.05


def test_empty_faces_mean_a_cloud() -> None:
    assert isinstance(scan_surface(plane()[0], np.zeros((0, 3), dtype=int)), CloudSurface)
