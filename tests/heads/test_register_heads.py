"""Folders of scans into correspondence: registered ones, scans with landmarks, and bad ones."""

from pathlib import Path

import numpy as np
import pytest
import torch
import trimesh

from headlab.geometry.errors import HeadlabError
from headlab.geometry.fitting.scan import outer_skin
from headlab.geometry.landmarks import LandmarkDetector
from headlab.geometry.models.head_model import HeadModel
from headlab.heads.register_heads import register_heads


def test_a_mixed_folder(default_head: HeadModel, detector: LandmarkDetector, tmp_path: Path) -> None:
    code = torch.randn(2, default_head.shapes, generator=torch.Generator().manual_seed(0))
    heads = default_head.shaped(code, torch.zeros(2, default_head.expressions))
    faces = default_head.faces.numpy()
    folder = tmp_path / "scans"
    folder.mkdir()
    trimesh.Trimesh(heads[0].numpy(), faces, process=False).export(folder / "a.ply")
    # The second as a scan: skin alone, another order of vertices, millimetres.
    _, skin = outer_skin(default_head)
    scan = trimesh.Trimesh(1000 * heads[1].numpy(), skin, process=False)
    scan.remove_unreferenced_vertices()
    scan.export(folder / "b.ply")
    marks = 1000 * default_head.landmarks3d(heads[1], "68").numpy()
    np.savetxt(folder / "b.landmarks.txt", marks)
    (folder / "c.ply").write_text("nonsense")
    trimesh.PointCloud(np.random.default_rng(0).normal(size=(500, 3)) * 0.1).export(folder / "d.ply")

    found = register_heads(folder, default_head, detector, tmp_path / "kept")
    assert found.names == ("a", "b") and found.vertices.shape == (2, len(default_head.template), 3)
    np.testing.assert_allclose(found.vertices[0], heads[0].numpy(), atol=1e-6)
    face = default_head.regions["face"].numpy()
    off = np.linalg.norm(found.vertices[1] - heads[1].numpy(), axis=1)[face]
    assert off.mean() < 0.001 and found.report["b.ply"]["unit"] == "millimetres"
    assert "cannot be read" in found.report["c.ply"]["left_out"]
    assert "cloud of points" in found.report["d.ply"]["left_out"]
    again = register_heads(folder, default_head, detector, tmp_path / "kept")
    assert again.report["b.ply"]["registered"] == "earlier"
    np.testing.assert_array_equal(again.vertices, found.vertices)
    for name in ("a.ply", "b.ply"):
        (folder / name).unlink()
    with pytest.raises(HeadlabError, match="none of the 2 scans"):
        register_heads(folder, default_head, detector, tmp_path / "kept")
