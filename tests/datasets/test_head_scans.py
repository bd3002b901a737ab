"""Scans from files: units, kept order of vertices, landmarks beside them."""

from pathlib import Path

import numpy as np
import pytest
import trimesh

from headlab.datasets.head_scans import find_scans, read_head_scan
from headlab.geometry.errors import HeadlabError

BALL = trimesh.creation.icosphere(3, 0.12)


def test_units_are_told_by_size(tmp_path: Path) -> None:
    for name, factor in (("metres", 1), ("centimetres", 100), ("millimetres", 1000), ("unknown", 3e6)):
        path = tmp_path / f"{name}.ply"
        trimesh.Trimesh(BALL.vertices * factor, BALL.faces, process=False).export(path)
        np.savetxt(tmp_path / f"{name}.landmarks.txt", BALL.vertices[:68] * factor)
        scan = read_head_scan(path)
        assert scan.unit == name and scan.name == name and scan.landmarks is not None
        scale = 1 if name != "unknown" else 3e6
        np.testing.assert_allclose(scan.vertices, BALL.vertices * scale, rtol=1e-4, atol=1e-6 * scale)
        np.testing.assert_allclose(scan.landmarks, BALL.vertices[:68] * scale, rtol=1e-4, atol=1e-6 * scale)
        assert scan.faces is not None and (scan.faces == BALL.faces).all()
    assert [path.name for path in find_scans(tmp_path)] == sorted(f"{n}.ply" for n in ("metres", "centimetres", "millimetres", "unknown"))  # fmt: skip # noqa: E501


def test_texture_seams_double_no_vertices(tmp_path: Path) -> None:
    lines = [f"v {x} {y} {z}" for x, y, z in BALL.vertices]
    corners = BALL.faces.ravel()
    lines += [f"vt {i / len(corners)} 0" for i in range(len(corners))]  # a coordinate of its own for every corner
    lines += [f"f {' '.join(f'{v + 1}/{3 * i + k + 1}' for k, v in enumerate(f))}" for i, f in enumerate(BALL.faces)]
    (tmp_path / "a.obj").write_text("\n".join(lines) + "\n")
    scan = read_head_scan(tmp_path / "a.obj")
    np.testing.assert_allclose(scan.vertices, BALL.vertices, atol=1e-6)
    assert scan.faces is not None and (scan.faces == BALL.faces).all()


def test_clouds_have_no_faces(tmp_path: Path) -> None:
    trimesh.PointCloud(BALL.vertices).export(tmp_path / "a.ply")
    assert read_head_scan(tmp_path / "a.ply").faces is None


def test_refused(tmp_path: Path) -> None:
    with pytest.raises(HeadlabError, match="is no folder"):
        find_scans(tmp_path / "nowhere")
    with pytest.raises(HeadlabError, match="holds no meshes"):
        find_scans(tmp_path)
    (tmp_path / "bad.ply").write_text("nonsense")
    with pytest.raises(HeadlabError, match="cannot be read"):
        read_head_scan(tmp_path / "bad.ply")
    trimesh.PointCloud(BALL.vertices[:20]).export(tmp_path / "few.ply")
    with pytest.raises(HeadlabError, match="at least 100"):
        read_head_scan(tmp_path / "few.ply")
    BALL.export(tmp_path / "a.ply")
    (tmp_path / "a.landmarks.txt").write_text("1 2 3\n")
    with pytest.raises(HeadlabError, match="68 lines"):
        read_head_scan(tmp_path / "a.ply")
