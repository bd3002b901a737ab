"""Scans in every format that is read."""

from pathlib import Path

import numpy as np
import pytest
import trimesh

from headlab.datasets.scan_file import read_scan
from headlab.geometry.errors import HeadlabError


@pytest.fixture(scope="module")
def mesh() -> trimesh.Trimesh:
    made = trimesh.creation.icosphere(2, 0.1)
    colors = np.random.default_rng(0).integers(0, 255, (len(made.vertices), 3)).astype(np.uint8)
    return trimesh.Trimesh(made.vertices, made.faces, vertex_colors=colors, process=False)


@pytest.mark.parametrize("suffix", [".ply", ".obj", ".stl", ".off", ".glb"])
def test_meshes(mesh: trimesh.Trimesh, tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"scan{suffix}"
    mesh.export(path)
    scan = read_scan(path)
    assert scan.faces is not None and len(scan.faces) == len(mesh.faces)
    corners = scan.points[scan.faces].reshape(-1, 9)
    expected = mesh.triangles.reshape(-1, 9)
    np.testing.assert_allclose(np.sort(corners, 0), np.sort(expected, 0), atol=1e-6)
    if suffix == ".ply":
        assert scan.colors is not None
        np.testing.assert_allclose(scan.colors, mesh.visual.vertex_colors[:, :3] / 255, atol=1e-6)


def test_clouds(mesh: trimesh.Trimesh, tmp_path: Path) -> None:
    points, colors = np.asarray(mesh.vertices), mesh.visual.vertex_colors[:, :3] / 255
    trimesh.PointCloud(points, colors=mesh.visual.vertex_colors).export(tmp_path / "cloud.ply")
    np.savetxt(tmp_path / "cloud.xyz", np.concatenate([points, colors * 255], 1))
    np.save(tmp_path / "cloud.npy", np.concatenate([points, colors], 1))
    np.savez(tmp_path / "cloud.npz", vertices=points, triangles=mesh.faces)
    for name in ("cloud.ply", "cloud.xyz", "cloud.npy"):
        scan = read_scan(tmp_path / name)
        assert scan.faces is None and scan.colors is not None
        np.testing.assert_allclose(scan.points, points, atol=1e-6)
        np.testing.assert_allclose(scan.colors, colors, atol=1e-3)
    scan = read_scan(tmp_path / "cloud.npz")
    assert scan.faces is not None and np.array_equal(scan.faces, mesh.faces)


def test_what_is_no_scan_is_said(tmp_path: Path) -> None:
    with pytest.raises(HeadlabError, match="not a file"):
        read_scan(tmp_path / "none.ply")
    for name, data, complaint in (
        ("a.jpg", b"x", "no scan that can be read"),
        ("a.ply", b"ply\nformat ascii 1.0\n", "cannot be read|holds no points"),
        ("a.npz", b"PK\x03\x04", "damaged|cannot be read"),
        ("a.xyz", b"1 2\n3 4\n", "no rows of x y z"),
    ):
        (tmp_path / name).write_bytes(data)
        with pytest.raises(HeadlabError, match=complaint):
            read_scan(tmp_path / name)
    np.savez(tmp_path / "b.npz", other=np.zeros(3))
    with pytest.raises(HeadlabError, match="holds no `points`"):
        read_scan(tmp_path / "b.npz")
