"""The authors' files: written here as they write them, read back; and files that are something else."""

from pathlib import Path

import nphm
import pytest
import torch

from headlab.geometry.errors import HeadlabError, MissingAssetError
from headlab.geometry.safe_pickle import UnsafePickleError
from headlab.geometry.sdf.checkpoints import (
    SdfCheckpoint,
    expression_field,
    find_checkpoint,
    identity_config,
    identity_field,
    npm_field,
    read_checkpoint,
    shortened,
)
from headlab.geometry.sdf.identity import IdentityConfig


@pytest.fixture(scope="module")
def folder(shared: Path) -> Path:
    return shared / "parity" / "nphm"


def write(path: Path, state: dict, latents: torch.Tensor, epoch: int) -> None:
    """As upstream's trainer saves, optimisers and all."""
    parameter = torch.nn.Parameter(torch.ones(2))
    optimizer = torch.optim.AdamW([parameter])
    parameter.sum().backward()
    optimizer.step()
    saved = {
        "epoch": epoch,
        "decoder_state_dict": state,
        "optimizer_encoder_state_dict": optimizer.state_dict(),
        "optimizer_lat_state_dict": optimizer.state_dict(),
        "optimizer_lat_val_state_dict": optimizer.state_dict(),
        "latent_codes_state_dict": {"weight": latents},
        "latent_codes_val_state_dict": {"weight": latents[:2]},
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    torch.save(saved, path)


def test_round_trip_through_the_authors_layout(folder: Path, tmp_path: Path) -> None:
    state = dict(nphm.state(folder, "identity"))
    latents = torch.randn(5, 1344)
    for epoch in (500, 15000, 2000):
        write(tmp_path / "nphm" / "checkpoints" / f"checkpoint_epoch_{epoch}.tar", state, latents * epoch, epoch)
    found = read_checkpoint(tmp_path / "nphm")
    assert found.epoch == 15000
    assert read_checkpoint(tmp_path / "nphm", 500).epoch == 500
    assert identity_config(found) == IdentityConfig()
    golden = nphm.golden(folder, "nphm_identity")
    field = identity_field(found, golden["anchors_mean"])
    points, latent = golden["xyz"][0, :50], golden["latent"][0, 0]
    assert torch.equal(field(points, latent), nphm.identity(folder)(points, latent))
    table = torch.nn.Embedding(5, 1344, max_norm=1.0, _weight=latents * 15000)
    assert found.latents is not None and found.validation_latents is not None
    torch.testing.assert_close(found.latents, table(torch.arange(5)).detach())
    assert found.validation_latents.shape == (2, 1344)


def test_short_latents_are_kept() -> None:
    latents = torch.randn(3, 20) * torch.tensor([[0.01], [1.0], [3.0]])
    table = torch.nn.Embedding(3, 20, max_norm=1.0, _weight=latents.clone())
    torch.testing.assert_close(shortened(latents), table(torch.arange(3)).detach())


@pytest.mark.parametrize("mode", ["compress", "glob_only", "expr_only", "interpolate", "GNN"])
def test_the_mode_is_read_off_the_tensors(folder: Path, mode: str) -> None:
    field = expression_field(SdfCheckpoint("here", 1, nphm.state(folder, f"expression_{mode}"), None, None))
    assert field.config == nphm.expression(folder, mode).config


def test_npm_is_read(folder: Path) -> None:
    for name, latent, out in (("npm_identity", 512, 1), ("npm_expression", 712, 3)):
        field = npm_field(SdfCheckpoint("here", 1, nphm.state(folder, name), None, None))
        assert field.latent == latent and field.linear(8).out_features == out


def test_wrong_files_are_said(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(MissingAssetError, match=r"checkpoint_epoch_N\.tar.*non-commercial"):
        find_checkpoint(tmp_path)
    path = tmp_path / "checkpoint_epoch_1.tar"
    torch.save({"state_dict": {}}, path)
    with pytest.raises(HeadlabError, match="decoder_state_dict expected, state_dict found"):
        read_checkpoint(path)
    torch.save({"decoder_state_dict": {}, "thing": Path("x")}, path)
    with pytest.raises(UnsafePickleError):
        read_checkpoint(path)
    path.write_bytes(b"not a file of torch")
    with pytest.raises(HeadlabError, match="damaged"):
        read_checkpoint(path)
    state = dict(nphm.state(folder, "identity"))
    anchors = torch.zeros(39, 3)
    wrong = SdfCheckpoint("here", 1, nphm.state(folder, "npm_identity"), None, None)
    with pytest.raises(HeadlabError, match="is not an NPHM identity network"):
        identity_field(wrong, anchors)
    with pytest.raises(HeadlabError, match="is not an NPHM expression network"):
        expression_field(wrong)
    with pytest.raises(HeadlabError, match="is not an NPM network"):
        npm_field(SdfCheckpoint("here", 1, state, None, None))
    with pytest.raises(HeadlabError, match="39 anchors, the table"):
        identity_field(SdfCheckpoint("here", 1, state, None, None), anchors[:5])
    del state["mlp_pos.2.bias"]
    with pytest.raises(HeadlabError, match=r"missing: mlp_pos\.2\.bias"):
        identity_field(SdfCheckpoint("here", 1, state, None, None), anchors)
