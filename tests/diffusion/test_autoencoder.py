"""Autoencoders: shapes, latents of unit deviation, and files of other projects."""

from dataclasses import replace

import pytest
import torch
from safetensors.torch import save_file

from headlab.diffusion.autoencoder import (
    AutoencoderConfig,
    build_autoencoder,
    decode,
    encode,
    factor,
    load_autoencoder,
    set_normaliser,
)
from headlab.diffusion.autoencoder_losses import FaceFeatures, PatchDiscriminator, hinge, kl_divergence, perceptual
from headlab.geometry.errors import HeadlabError

TINY = AutoencoderConfig(widths=(8, 16, 16), latents=3, groups=4)
#: Layout of Stable Diffusion's: attention in the middle, groups of 32.
LIKE_SD = AutoencoderConfig(3, (32, 64), 2, 4, 32, True)


@pytest.mark.parametrize("channels", [3, 4, 6])
def test_pictures_come_back_in_their_shape(channels):
    vae = build_autoencoder(AutoencoderConfig(channels, (8, 16, 16), latents=5, groups=4))
    pictures = torch.rand(2, channels, 32, 24) * 2 - 1
    latents = encode(vae, pictures)
    assert factor(vae) == 4 and latents.shape == (2, 5, 8, 6)
    assert decode(vae, latents).shape == pictures.shape


def test_latents_are_normalised_and_decoding_undoes_it():
    torch.manual_seed(0)
    vae = build_autoencoder(TINY)
    pictures = torch.rand(8, 4, 32, 32) * 2 - 1
    raw = encode(vae, pictures)
    plain = decode(vae, raw)
    flat = raw.movedim(1, 0).flatten(1)
    set_normaliser(vae, flat.mean(1).detach(), flat.std(1).detach())
    latents = encode(vae, pictures)
    again = latents.movedim(1, 0).flatten(1)
    torch.testing.assert_close(again.mean(1), torch.zeros(3), atol=1e-4, rtol=0)
    torch.testing.assert_close(again.std(1), torch.ones(3), atol=1e-4, rtol=0)
    torch.testing.assert_close(decode(vae, latents), plain, atol=1e-4, rtol=0)


def test_a_draw_follows_its_generator():
    vae, pictures = build_autoencoder(TINY), torch.rand(1, 4, 16, 16)
    first, second, other = (encode(vae, pictures, torch.Generator().manual_seed(s)) for s in (1, 1, 2))
    assert torch.equal(first, second) and not torch.equal(first, other)


def test_other_pictures_are_refused():
    vae = build_autoencoder(TINY)
    with pytest.raises(HeadlabError, match="4 channels"):
        encode(vae, torch.zeros(1, 3, 32, 32))
    with pytest.raises(HeadlabError, match="4 divides"):
        encode(vae, torch.zeros(1, 4, 30, 32))
    with pytest.raises(HeadlabError, match="channels, not 5"):
        build_autoencoder(AutoencoderConfig(5))
    with pytest.raises(HeadlabError, match="multiples of the groups"):
        build_autoencoder(AutoencoderConfig(widths=(12,)))


@pytest.mark.parametrize("channels", [3, 6])
def test_stable_diffusion_folders_and_files_load(tmp_path, channels):
    torch.manual_seed(0)
    vae = build_autoencoder(replace(LIKE_SD, channels=channels))
    pictures = torch.rand(1, channels, 16, 16) * 2 - 1
    with torch.no_grad():
        want = vae(pictures).sample
    vae.save_pretrained(tmp_path / "pipeline" / "vae")
    save_file({k: v.contiguous() for k, v in vae.state_dict().items()}, tmp_path / "plain.safetensors")
    compvis = {"first_stage_model." + compvis_name(k, 2): compvis_value(k, v) for k, v in vae.state_dict().items()}
    save_file(compvis, tmp_path / "compvis.safetensors")
    for name in ("pipeline", "pipeline/vae", "plain.safetensors", "compvis.safetensors"):
        loaded = load_autoencoder(tmp_path / name)
        with torch.no_grad():
            torch.testing.assert_close(loaded(pictures).sample, want, atol=1e-5, rtol=0, msg=name)


def compvis_name(name: str, levels: int) -> str:
    """Names of the latent-diffusion code, as its published checkpoints have them."""
    import re

    name = re.sub(r"encoder\.down_blocks\.(\d+)\.resnets\.(\d+)", r"encoder.down.\1.block.\2", name)
    name = re.sub(r"encoder\.down_blocks\.(\d+)\.downsamplers\.0", r"encoder.down.\1.downsample", name)

    def up(match: re.Match) -> str:
        return f"decoder.up.{levels - 1 - int(match[1])}."

    name = re.sub(r"decoder\.up_blocks\.(\d+)\.", up, name)
    name = re.sub(r"(decoder\.up\.\d+)\.resnets\.(\d+)", r"\1.block.\2", name).replace("upsamplers.0", "upsample")
    name = name.replace("conv_shortcut", "nin_shortcut").replace("conv_norm_out", "norm_out")
    name = re.sub(r"mid_block\.resnets\.(\d)", lambda m: f"mid.block_{int(m[1]) + 1}", name)
    name = name.replace("mid_block.attentions.0", "mid.attn_1")
    for ours, theirs in (("to_q", "q"), ("to_k", "k"), ("to_v", "v"), ("to_out.0", "proj_out"), ("group_norm", "norm")):
        name = name.replace(f"attn_1.{ours}", f"attn_1.{theirs}")
    return name


def compvis_value(name: str, value: torch.Tensor) -> torch.Tensor:
    """Their attention is made of 1 x 1 convolutions."""
    is_matrix = "attentions" in name and value.ndim == 2
    return (value[:, :, None, None] if is_matrix else value).contiguous()


def test_what_is_no_autoencoder_is_refused(tmp_path):
    with pytest.raises(HeadlabError, match="no autoencoder at"):
        load_autoencoder(tmp_path / "nothing")
    save_file({"weight": torch.zeros(2)}, tmp_path / "other.safetensors")
    with pytest.raises(HeadlabError, match="no encoder with residual blocks"):
        load_autoencoder(tmp_path / "other.safetensors")


def test_loss_terms_have_their_closed_forms():
    mean, log_variance = torch.full((1, 1, 2, 2), 2.0), torch.zeros(1, 1, 2, 2)
    assert float(kl_divergence(mean, log_variance)) == pytest.approx(2.0)  # mean^2 / 2
    assert float(kl_divergence(0 * mean, log_variance)) == 0
    assert float(hinge(torch.tensor([2.0, 0.0]), torch.tensor([-3.0, 0.0]))) == pytest.approx(0.5)
    assert PatchDiscriminator(4)(torch.zeros(2, 4, 64, 64)).shape[1] == 1


def test_the_perceptual_loss_sees_blur_and_moves_no_feature():
    features = FaceFeatures()
    true = torch.rand(2, 4, 64, 64) * 2 - 1
    assert float(perceptual(features, true, true)) == pytest.approx(0, abs=1e-6)
    made = torch.nn.functional.avg_pool2d(true, 3, 1, 1).requires_grad_()
    loss = perceptual(features.train(), made, true)
    loss.backward()
    loss = loss.detach()
    assert float(loss) > 0.01 and made.grad is not None and float(made.grad[:, :3].abs().sum()) > 0
    assert all(p.grad is None for p in features.parameters()) and not features.training
    stronger = torch.nn.functional.avg_pool2d(true, 7, 1, 3)
    assert float(perceptual(features, stronger, true)) > float(loss)
