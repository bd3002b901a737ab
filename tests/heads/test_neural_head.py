"""head.npz of a neural head: round trip, meshes in the right place, and what is refused."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from headlab.geometry.errors import HeadlabError
from headlab.geometry.sdf.anchors import FieldFrame
from headlab.geometry.sdf.head_fields import HeadFields
from headlab.geometry.sdf.mlp import DeepSDF
from headlab.heads.neural_head import CANONICAL, NeuralHead, fields_digest


def ball_fields() -> HeadFields:
    """A field whose heads are balls of about radius 0.3."""
    network = DeepSDF(4, 64, 4)
    network.initialise_as_sphere(0.3, torch.Generator().manual_seed(0))
    latents = torch.zeros(2, 4)
    return HeadFields(network.requires_grad_(False), None, latents, torch.zeros(0, 0), FieldFrame(torch.ones(3) * 0.1))


def head_of(fields: HeadFields, name: str = "fields.safetensors") -> NeuralHead:
    turn = torch.tensor([[0.0, -1, 0], [1, 0, 0], [0, 0, 1]])
    offset = torch.tensor([0.1, 0.2, -0.1])
    return NeuralHead(
        name, fields_digest(fields), torch.zeros(4), torch.zeros(0, 0), 0.004, turn, offset, ("scan.ply",), {"x": 1.5}
    )


def test_round_trip(tmp_path: Path) -> None:
    head = head_of(ball_fields())
    head.save(tmp_path / "head.npz")
    again = NeuralHead.load(tmp_path / "head.npz")
    assert torch.equal(again.rotation, head.rotation) and torch.equal(again.identity, head.identity)
    assert (again.sources, again.report, again.scale, again.digest) == (("scan.ply",), {"x": 1.5}, 0.004, head.digest)


def test_meshes_lie_where_the_scan_lay_and_upright() -> None:
    fields = ball_fields()
    head = head_of(fields)
    field_mesh = fields.extract(head.identity, None, 32)
    placed = head.mesh(fields, 32)
    scan_units = placed.vertices * head.scan_per_metre  # millimetres
    back = head.scale * scan_units @ head.rotation.T + head.offset
    torch.testing.assert_close(back, field_mesh.vertices, atol=1e-5, rtol=0)
    assert placed.normals is not None and field_mesh.normals is not None
    torch.testing.assert_close(placed.normals @ head.rotation.T, field_mesh.normals, atol=1e-5, rtol=0)
    upright = head.mesh(fields, 32, CANONICAL)
    torch.testing.assert_close(fields.frame.to_field(upright.vertices), field_mesh.vertices, atol=1e-5, rtol=0)


def test_other_fields_and_expressions_are_refused() -> None:
    fields = ball_fields()
    head = head_of(fields)
    with pytest.raises(HeadlabError, match="have changed"):
        head.mesh(replace(fields, identity_latents=torch.ones(2, 4)), 32)
    with pytest.raises(HeadlabError, match="has 1 expressions, not number 3"):
        head.mesh(fields, 32, 3)


def test_other_files_are_said(tmp_path: Path) -> None:
    path = tmp_path / "head.npz"
    for data in (b"", b"PK\x03\x04 no"):
        path.write_bytes(data)
        with pytest.raises(HeadlabError, match="is not a neural head"):
            NeuralHead.load(path)
    np.savez(path, a=np.zeros(3))
    with pytest.raises(HeadlabError, match="is not a neural head"):
        NeuralHead.load(path)
