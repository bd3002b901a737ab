"""Fields written and read back, and files that are none."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from headlab.geometry.errors import HeadlabError, MissingAssetError
from headlab.geometry.sdf.anchors import FieldFrame
from headlab.geometry.sdf.expression import ExpressionConfig, ExpressionField
from headlab.geometry.sdf.field_files import load_fields, save_fields
from headlab.geometry.sdf.head_fields import HeadFields
from headlab.geometry.sdf.identity import IdentityConfig, IdentityField
from headlab.geometry.sdf.layout import EnsembleLayout
from headlab.geometry.sdf.mlp import DeepSDF

LAYOUT = EnsembleLayout(anchors=5, pairs=2, latent_global=4, latent_local=3)


def ensemble_fields() -> HeadFields:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        identity = IdentityField(IdentityConfig(LAYOUT, 24, 4, 8), 0.2 * torch.randn(5, 3))
        expression = ExpressionField(ExpressionConfig(layout=LAYOUT, latent=6, code=4, hidden=32, layers=4))
        latents = torch.randn(3, LAYOUT.latent), torch.randn(4, 6)
    frame = FieldFrame(torch.tensor([0.1, -0.2, 0.3]))
    return HeadFields(
        identity.eval(), expression.eval(), *latents, frame, {"jawOpen": 0.4}, {"source": "test", "steps": 7}
    )


def network_fields() -> HeadFields:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        identity, expression = DeepSDF(8, 32, 6), DeepSDF(14, 40, 4, out=3)
    frame = FieldFrame(torch.zeros(3))
    return HeadFields(identity.eval(), expression.eval(), torch.randn(3, 8), torch.randn(4, 6), frame)


@pytest.mark.parametrize("fields", [ensemble_fields(), network_fields()], ids=["NPHM", "NPM"])
def test_what_is_written_is_read(fields: HeadFields, tmp_path: Path) -> None:
    save_fields(tmp_path / "fields.safetensors", fields)
    found = load_fields(tmp_path)
    assert found.kind == fields.kind
    assert found.canonical == fields.canonical and found.facts == fields.facts
    assert torch.equal(found.frame.offset, fields.frame.offset)
    assert (found.identity_size, found.expression_size) == (fields.identity_size, fields.expression_size)
    points = 0.2 * torch.randn(9, 3)
    latent, code = fields.identity_latents[1], fields.expression_latents[2]
    torch.testing.assert_close(found.sdf(latent, points), fields.sdf(latent, points))
    torch.testing.assert_close(found.offsets(latent, code, points), fields.offsets(latent, code, points))
    torch.testing.assert_close(found.anchors(latent), fields.anchors(latent))
    assert not any(parameter.requires_grad for parameter in found.identity.parameters())


def test_half_precision_is_half_the_size_and_nearly_the_same(tmp_path: Path) -> None:
    fields = ensemble_fields()
    save_fields(tmp_path / "whole.safetensors", fields)
    save_fields(tmp_path / "half.safetensors", fields, half=True)
    assert (tmp_path / "half.safetensors").stat().st_size < 0.6 * (tmp_path / "whole.safetensors").stat().st_size
    points = 0.2 * torch.randn(50, 3)
    found = load_fields(tmp_path / "half.safetensors")
    latent = fields.identity_latents[0]
    torch.testing.assert_close(found.sdf(latent, points), fields.sdf(latent, points), atol=2e-3, rtol=2e-3)


def test_batches_of_heads_and_expressions() -> None:
    for fields in (ensemble_fields(), network_fields()):
        points = 0.2 * torch.randn(2, 5, 3)
        both = fields.sdf(fields.identity_latents[:2], points, share=0.0)
        one = fields.sdf(fields.identity_latents[1], points[1], share=0.0)
        torch.testing.assert_close(both[1], one, atol=1e-6, rtol=1e-5)
        moved = fields.offsets(fields.identity_latents[:2], fields.expression_latents[:2], points)
        alone = fields.offsets(fields.identity_latents[1], fields.expression_latents[1], points[1])
        torch.testing.assert_close(moved[1], alone, atol=1e-6, rtol=1e-5)


def test_the_fast_field_is_the_same_field() -> None:
    for fields in (ensemble_fields(), network_fields()):
        points = 0.15 * torch.randn(200, 3)
        latent = fields.identity_latents[0]
        torch.testing.assert_close(
            fields.surface(latent).value(points), fields.sdf(latent, points, 0.0), atol=5e-6, rtol=1e-4
        )


def test_fields_without_expressions_say_so(tmp_path: Path) -> None:
    alone = replace(ensemble_fields(), expression=None, expression_latents=torch.zeros(0, 0))
    save_fields(tmp_path / "alone.safetensors", alone)
    found = load_fields(tmp_path / "alone.safetensors")
    assert found.expression is None and found.expression_size == 0
    with pytest.raises(HeadlabError, match="no expressions"):
        found.deformation(found.identity_latents[0], torch.zeros(6))


def test_files_that_are_no_fields(tmp_path: Path) -> None:
    with pytest.raises(MissingAssetError, match="headlab train nphm"):
        load_fields(tmp_path)
    bad = tmp_path / "bad.safetensors"
    bad.write_bytes(b"\x10\x00\x00\x00\x00\x00\x00\x00not a file")
    with pytest.raises(HeadlabError, match="damaged"):
        load_fields(bad)
    from safetensors.torch import save_file

    save_file({"a": torch.zeros(2)}, bad)
    with pytest.raises(HeadlabError, match="no headlab fields"):
        load_fields(bad)
    fields = ensemble_fields()
    save_fields(bad, fields)
    whole = bad.read_bytes()
    bad.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(HeadlabError, match="damaged"):
        load_fields(bad)
    save_fields(bad, replace(fields, identity_latents=torch.zeros(2, 5)))
    with pytest.raises(HeadlabError, match="disagree"):
        load_fields(bad)


def test_numbers_that_are_none_are_not_written(tmp_path: Path) -> None:
    fields = ensemble_fields()
    broken = replace(fields, identity_latents=fields.identity_latents * torch.nan)
    with pytest.raises(HeadlabError, match="NaN"):
        save_fields(tmp_path / "fields.safetensors", broken)
    assert list(tmp_path.iterdir()) == []
