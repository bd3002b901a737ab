"""Systems on disk, and files that are none."""

import json

import pytest
import torch
from safetensors.torch import save_file
from small_diffusion import small_diffusion, some_given

from headlab.diffusion.autoencoder import AutoencoderConfig, build_autoencoder
from headlab.diffusion.bundle import (
    DEFAULT,
    DiffusionConfig,
    LatentDiffusion,
    load_default_diffusion,
    load_latent_diffusion,
)
from headlab.diffusion.schedule import ScheduleConfig
from headlab.geometry.errors import HeadlabError


@pytest.mark.parametrize("half", [False, True])
def test_a_system_comes_back(tmp_path, half):
    system = small_diffusion()
    system.save(tmp_path / "model", half=half, about={"steps": 3})
    loaded = load_latent_diffusion(tmp_path / "model")
    assert loaded.config == system.config and loaded.depth
    assert json.loads((tmp_path / "model/config.json").read_text())["about"] == {"steps": 3}
    noisy, t, given = torch.randn(2, 3, 8, 8), torch.tensor([3, 900]), some_given(2)
    with torch.no_grad():
        want, made = (s.denoiser(noisy, t, s.denoiser.context(given)) for s in (system, loaded))
        pictures = [s.colour(noisy) for s in (system, loaded)]
    torch.testing.assert_close(made, want, atol=5e-3 if half else 1e-6, rtol=0)
    torch.testing.assert_close(pictures[1], pictures[0], atol=5e-3 if half else 1e-6, rtol=0)
    assert not any(p.requires_grad for p in (*loaded.vae.parameters(), *loaded.denoiser.parameters()))
    assert loaded.denoiser.unet.dtype == torch.float32


def test_networks_that_do_not_go_together_are_refused():
    vae = build_autoencoder(AutoencoderConfig(widths=(8, 16), latents=3, groups=4))
    with pytest.raises(HeadlabError, match="3 latent channels at 1/2 of the size, the denoiser takes 6 at 1/4"):
        LatentDiffusion.build(vae, DiffusionConfig())


def test_damage_and_absence_are_told(tmp_path):
    with pytest.raises(HeadlabError, match="no folder of a latent diffusion model"):
        load_latent_diffusion(tmp_path / "nothing")
    small_diffusion().save(tmp_path / "model")
    (tmp_path / "model/denoiser.safetensors").write_bytes(b"?")
    with pytest.raises(HeadlabError, match="damaged"):
        load_latent_diffusion(tmp_path / "model")


@pytest.mark.parametrize(
    ("keys", "said"),
    [
        (["denoisingUNet.input_blocks.0.0.weight"], "DiffusionRig's network"),
        (["ema_model.time_embed.0.weight"], "Diffusion Autoencoders"),
        (["model.diffusion_model.out.2.weight"], "Stable Diffusion checkpoint of CompVis"),
        (["encoder.down.0.block.0.conv1.weight"], "load it with load_autoencoder"),
    ],
)
def test_checkpoints_of_other_systems_are_named(tmp_path, keys, said):
    state = {key: torch.zeros(1) for key in keys}
    save_file(state, tmp_path / "model.safetensors")
    torch.save(state, tmp_path / "model.pt")
    torch.save({"state_dict": state}, tmp_path / "last.ckpt")
    for name in ("model.safetensors", "model.pt", "last.ckpt"):
        with pytest.raises(HeadlabError, match=said):
            load_latent_diffusion(tmp_path / name)


def test_folders_of_diffusers_are_named(tmp_path):
    (tmp_path / "pipeline").mkdir()
    (tmp_path / "pipeline/model_index.json").write_text("{}")
    with pytest.raises(HeadlabError, match="headlab train denoiser --stable-diffusion"):
        load_latent_diffusion(tmp_path / "pipeline")
    build_autoencoder(AutoencoderConfig(widths=(8,), groups=4)).save_pretrained(tmp_path / "vae")
    with pytest.raises(HeadlabError, match="diffusers AutoencoderKL"):
        load_latent_diffusion(tmp_path / "vae")


def test_the_shipped_system_edits_better_than_a_copy(default_head):
    """Held-out people: nearer to the true edit than the unedited photo, within the faces and as a whole."""
    from headlab.datasets.synthetic import EditPairs, PairConfig
    from headlab.diffusion.edit import EditConfig, edit
    from headlab.diffusion.training_latents import PairLatents, alternating, encode_pairs

    system = load_default_diffusion()
    assert sum(path.stat().st_size for path in DEFAULT.iterdir()) < 24e6
    assert system.config.schedule == ScheduleConfig("cosine", prediction="v")
    pairs = EditPairs(default_head, PairConfig(seed=1_000_003)).batch(range(100, 112))
    data = PairLatents(pairs, encode_pairs(system.vae, pairs, alternating(pairs)))
    before, batch = (data.load(torch.arange(face, 24, 2)) for face in (0, 1))
    photo = torch.where(alternating(pairs)[:, None, None, None], pairs.pictures(True)[:, 0], pairs.pictures()[:, 0])
    made = edit(system, photo * 2 - 1, batch.given, EditConfig(steps=10), before.given)[:, :3] / 2 + 0.5
    face = (pairs.mask[:, 1, None] > 0).float()

    def errors(picture: torch.Tensor) -> tuple[float, float]:
        error = (picture - batch.colour).square().mean(1, keepdim=True)
        return float(error.mean()), float((error * face).sum() / face.sum())

    for ours, copied in zip(errors(made), errors(photo[:, :3]), strict=True):
        assert ours < 0.75 * copied
