"""`headlab assets add` on the diffusion projects' checkpoints: recognised by their keys, verified, their terms told."""

import json

import pytest
import torch
from safetensors.torch import save_file
from tiny_pipeline import tiny_pipeline
from upstream_nets import Malicious, filled_diffae, filled_rig, small_diffae_config, small_rig_config

from headlab.diffusion.upstream.classifier import CELEBA, LatentClassifier
from headlab.diffusion.upstream.diffae_files import LatentStatistics, save_diffae, save_latents
from headlab.diffusion.upstream.diffusionrig import save_diffusionrig
from headlab.diffusion.upstream.recognition import identify
from headlab.geometry.errors import HeadlabError
from headlab.geometry.safe_pickle import UnsafePickleError
from headlab.heads.asset_kinds import KINDS
from headlab.heads.assets import add_asset, asset_path, still_missing
from headlab.scripts.assets import AddAsset


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.setenv("HEADLAB_ASSETS", str(tmp_path / "assets"))


def rig():
    return filled_rig(small_rig_config(size=32, multipliers=(1, 1), attention=(16,), blocks=1))


@pytest.mark.parametrize(
    ("file", "id"),
    [
        ("diffusionrig_ffhq256_resnet18", "diffusionrig"),
        ("diffusionrig_ffhq256_resnet50", "diffusionrig"),
        ("diffae_ffhq128_autoenc_130M", "diffae128"),
        ("diffae_ffhq256_autoenc", "diffae256"),
        ("diffae_ffhq128_autoenc_latent", "diffae128_latent"),
        ("diffae_ffhq256_autoenc_latent", "diffae256_latent"),
        ("diffae_ffhq128_ddpm_130M", "diffae128_ddpm"),
        ("diffae_cls", "diffae_classifier"),
    ],
)
def test_released_names_are_recognised_and_half_of_them_is_told(shared, file, id):
    """By the published lists of names and shapes alone."""
    keys = json.loads((shared / f"parity/diffusion/keys/{file}.json").read_text())
    state = keys.get("state_dict")
    if state is None:
        state = json.loads((shared / "parity/diffusion" / keys["autoenc_keys_in"]).read_text())["state_dict"]
        state = state | keys["state_dict_latent_net"]
    prefixes = [""] if file.startswith("diffusionrig") or file.endswith("cls") else ["model.", "ema_model."]
    shapes = {p + name: tuple(shape) for p in prefixes for name, shape in state.items()}
    found = identify(shapes)
    assert found is not None and found.id == id and found.missing == () and id in KINDS
    own = [n for n in shapes if n.startswith(prefixes[-1])]
    gone = set(own[1::2])
    half = identify({n: s for n, s in shapes.items() if n not in gone})
    assert half is not None and half.id == id
    assert {n.removeprefix(prefixes[-1]) for n in gone} <= set(half.missing)


def test_diffusionrig_is_added(tmp_path, capsys):
    save_diffusionrig(rig(), tmp_path / "model000010.pt")
    AddAsset(tmp_path / "model000010.pt").run()
    told = capsys.readouterr().out
    assert "added diffusionrig" in told and "Adobe Research License" in told and "no commercial use" in told
    assert "still missing to go with it: FLAME 2020 head model" in told
    assert asset_path("diffusionrig").read_bytes() == (tmp_path / "model000010.pt").read_bytes()


def test_what_is_not_whole_or_malicious_is_refused(tmp_path):
    state = rig().state_dict()
    names = list(state)
    torch.save({name: state[name] for name in names[::2]}, tmp_path / "half.pt")
    with pytest.raises(HeadlabError) as caught:
        add_asset(tmp_path / "half.pt")
    assert "lacks" in str(caught.value) and "\n" not in str(caught.value)
    # Names that the sizes are read from are among the gone, so the released ones are asked for.
    assert sum(name in str(caught.value) for name in names[1::2]) > 0.8 * len(names[1::2])
    whole = tmp_path / "whole.pt"
    torch.save(state, whole)
    (tmp_path / "cut.pt").write_bytes(whole.read_bytes()[:-5000])
    with pytest.raises(HeadlabError, match=r"damaged|none of the files"):
        add_asset(tmp_path / "cut.pt")
    torch.save({"denoisingUNet.x": Malicious()}, tmp_path / "bad.pt")
    with pytest.raises(UnsafePickleError, match="eval"):
        add_asset(tmp_path / "bad.pt")
    torch.save({"something": torch.zeros(1)}, tmp_path / "else.pt")
    with pytest.raises(HeadlabError, match="something else"):
        add_asset(tmp_path / "else.pt")


def test_diffae_files(tmp_path, capsys):
    network = filled_diffae(small_diffae_config((1, 1), (1, 1, 1), 16, size=32, blocks=1))
    save_diffae(network, tmp_path / "last.ckpt")
    with pytest.raises(HeadlabError, match="autoencoder, 32 pixels, which is used where it lies"):
        add_asset(tmp_path / "last.ckpt")
    save_latents(tmp_path / "latent.pkl", torch.randn(5, 8))
    (added,) = add_asset(tmp_path / "latent.pkl")
    assert added.kind.id == "diffae_latents"
    state = {
        f"{p}classifier.{leaf}": torch.zeros(s) for p in ("", "ema_") for leaf, s in (("weight", (40, 8)), ("bias", 40))
    }
    state |= {"conds_mean": torch.zeros(1, 8), "conds_std": torch.ones(1, 8)}
    torch.save({"state_dict": state}, tmp_path / "cls.ckpt")
    AddAsset(tmp_path / "cls.ckpt").run()
    assert "still missing to go with it: DiffAE autoencoder, 256 pixels" in capsys.readouterr().out
    assert [kind.id for kind in still_missing("diffae_classifier")] == ["diffae256"]
    statistics = LatentStatistics(torch.zeros(8), torch.ones(8))
    LatentClassifier(CELEBA, torch.zeros(40, 8), torch.zeros(40), statistics).save(tmp_path / "mine.safetensors")
    assert add_asset(tmp_path / "mine.safetensors")[0].kind.id == "diffae_classifier"


def test_adapters_autoencoders_and_pipelines(tmp_path):
    part = "unet.down_blocks.0.attentions.0.transformer_blocks.0.attn2.to_k"
    state = {f"{part}.lora_A.weight": torch.zeros(4, 1024), f"{part}.lora_B.weight": torch.zeros(320, 4)}
    save_file(state, tmp_path / "pytorch_lora_weights.safetensors")
    assert add_asset(tmp_path / "pytorch_lora_weights.safetensors")[0].kind.id == "booth_lora"
    del state[f"{part}.lora_B.weight"]
    save_file(state, tmp_path / "half.safetensors")
    with pytest.raises(HeadlabError, match=r"LoRA of rank 4 for Stable Diffusion 2 .*but lacks 1"):
        add_asset(tmp_path / "half.safetensors")
    folder = tiny_pipeline(tmp_path / "ldm3d", channels=6)
    file = folder / "vae/diffusion_pytorch_model.safetensors"
    assert add_asset(file)[0].kind.id == "ldm3d_vae"
    with pytest.raises(HeadlabError, match="used where it lies"):
        add_asset(folder)
    (tmp_path / "cut.safetensors").write_bytes(file.read_bytes()[:1000])
    with pytest.raises(HeadlabError, match="damaged"):
        add_asset(tmp_path / "cut.safetensors")
