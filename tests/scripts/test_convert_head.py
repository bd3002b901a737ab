"""`headlab convert` of heads, and `headlab fit --method nphm` on what cannot be fitted."""

from pathlib import Path

import numpy as np
import pytest
import torch
import trimesh

from headlab.geometry.camera import Camera
from headlab.geometry.errors import HeadlabError
from headlab.geometry.models.head_model import HeadModel
from headlab.geometry.sdf.anchors import FieldFrame
from headlab.geometry.sdf.field_files import save_fields
from headlab.geometry.sdf.head_fields import HeadFields
from headlab.geometry.sdf.mlp import DeepSDF
from headlab.heads.head_fit import HeadFit
from headlab.heads.neural_head import NeuralHead, fields_digest, named_fields
from headlab.scripts.convert import Convert, convert
from headlab.scripts.fit import Fit, fit


@pytest.fixture
def neural(tmp_path: Path) -> Path:
    """A head of fields whose heads are roundish."""
    network = DeepSDF(4, 64, 4)
    network.initialise_as_sphere(0.3, torch.Generator().manual_seed(0))
    path = tmp_path / "fields.safetensors"
    save_fields(path, HeadFields(network, None, torch.zeros(1, 4), torch.zeros(0, 0), FieldFrame(torch.zeros(3))))
    fields = named_fields(str(path))
    codes = torch.zeros(4), torch.zeros(0, 0)
    head = NeuralHead(str(path), fields_digest(fields), *codes, 4.0, torch.eye(3), torch.zeros(3), ("scan",))
    head.save(tmp_path / "head.npz")
    return tmp_path / "head.npz"


@pytest.mark.parametrize("suffix", [".ply", ".obj", ".glb"])
def test_neural_heads_become_meshes_of_the_asked_resolution(neural: Path, tmp_path: Path, suffix: str) -> None:
    counts = []
    for resolution in (24, 48):
        out = tmp_path / f"mesh{resolution}{suffix}"
        assert str(out) in convert(Convert(neural, "mesh", out, resolution))
        mesh = trimesh.load(out, process=False, force="mesh")
        assert isinstance(mesh, trimesh.Trimesh)
        counts.append(len(mesh.faces))
        # Metres: a field's unit is 250 mm.
        direct = named_fields(str(neural.with_name("fields.safetensors"))).extract(torch.zeros(4), None, resolution)
        np.testing.assert_allclose(mesh.extents, direct.vertices.numpy().ptp(0) / 4, atol=1e-5)
        assert mesh.volume > 0
    assert counts[1] > 3 * counts[0]


def test_nothing_is_overwritten_and_targets_are_named(neural: Path, tmp_path: Path) -> None:
    out = tmp_path / "mesh.ply"
    out.write_bytes(b"mine")
    with pytest.raises(HeadlabError, match="there already"):
        convert(Convert(neural, "mesh", out, 24))
    assert out.read_bytes() == b"mine"
    convert(Convert(neural, "mesh", out, 24, overwrite=True))
    with pytest.raises(HeadlabError, match=r"no film can be made; --to takes mesh"):
        convert(Convert(neural, "film"))
    with pytest.raises(HeadlabError, match="no ending of a mesh"):
        convert(Convert(neural, "mesh", tmp_path / "mesh.txt"))


def test_parametric_heads_keep_their_triangles(default_head: HeadModel, tmp_path: Path) -> None:
    code = default_head.neutral((1,))
    HeadFit("default", code, (Camera.frontal(500.0, (64, 64)),), None, ("photo.png",)).save(tmp_path / "head.npz")
    for suffix in (".ply", ".obj"):
        assert "of default" in convert(Convert(tmp_path / "head.npz", "mesh", tmp_path / f"mesh{suffix}"))
    mesh = trimesh.load(tmp_path / "mesh.ply", process=False)
    assert isinstance(mesh, trimesh.Trimesh)
    np.testing.assert_allclose(mesh.vertices, default_head.template, atol=1e-5)
    with pytest.raises(HeadlabError, match="leave --resolution away"):
        convert(Convert(tmp_path / "head.npz", "mesh", tmp_path / "b.ply", 64))


def test_what_cannot_be_fitted_is_said(neural: Path, tmp_path: Path) -> None:
    fields = neural.with_name("fields.safetensors")
    cloud = tmp_path / "cloud.npy"
    np.save(cloud, np.random.default_rng(0).random((20, 3)))
    depth = tmp_path / "depth.png"
    depth.write_bytes(b"x")
    for photos, complaint in (
        ((cloud, cloud), "one scan at a time"),
        ((tmp_path / "photo.jpg",), "is no scan"),
        ((depth,), "--focal"),
        ((cloud,), "NPM fields cannot be fitted"),
    ):
        with pytest.raises(HeadlabError, match=complaint):
            fit(Fit(photos, tmp_path / "out", method="nphm", fields=fields))
    assert not (tmp_path / "out").exists()
