"""LDM3D from a tiny random pipeline: words to depth and points, the repaired unpacking, fine-tuning on RGB-D."""

import math
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from tiny_pipeline import tiny_pipeline

from headlab.diffusion.autoencoder import AutoencoderConfig, build_autoencoder, decode, encode
from headlab.diffusion.autoencoder_losses import AutoencoderWeights
from headlab.diffusion.depth_packing import levels, packed
from headlab.diffusion.training import train
from headlab.diffusion.training_config import TrainingConfig
from headlab.diffusion.training_data import PictureSet
from headlab.diffusion.upstream.ldm3d import DepthPictures, decoded, load_text_to_depth
from headlab.diffusion.upstream.rgbd_training import (
    DepthAutoencoderTask,
    DepthDenoiserTask,
    latents_of,
    schedule_of,
    with_depth_channels,
)
from headlab.geometry.errors import HeadlabError


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tiny_pipeline(tmp_path_factory.mktemp("ldm3d"), channels=6)


def test_words_become_pictures_with_depth_and_points(folder):
    model = load_text_to_depth(folder)
    made = model.generate(["a face", "a person"], steps=2, seed=3, size=(32, 32))
    again = model.generate(["a face", "a person"], steps=2, seed=3, size=(32, 32))
    assert made.colour.shape == (2, 3, 32, 32) and made.depth is not None and made.depth.shape == (2, 32, 32)
    assert torch.equal(made.colour, again.colour) and float(made.depth.std()) > 0
    assert 0 <= float(made.depth.min()) <= float(made.depth.max()) <= 1
    cloud, mesh = made.clouds(near=0.5, far=1.5)[0], made.meshes(near=0.5, far=1.5)[0]
    z = made.metres(0.5, 1.5)[0]
    assert cloud.grid == (32, 32) and int(cloud.valid.sum()) == int((z > 0).sum())
    assert mesh.faces.shape[1] == 3


def test_the_depth_that_comes_out_is_the_one_that_went_in():
    """Sixteen bits through a perfect decoder, where the library keeps eight or takes floats for bytes."""
    depth = torch.arange(65536, dtype=torch.float32).reshape(1, 256, 256) / 65535
    picture = torch.cat([torch.zeros(1, 3, 256, 256), packed(depth)], 1) * 2 - 1
    config = {"scaling_factor": 1.0, "latents_mean": None, "latents_std": None}

    class Perfect:
        dtype = torch.float32

        def __init__(self):
            self.config = config

        def decode(self, latents):
            return SimpleNamespace(sample=latents)

    made = decoded(Perfect(), picture)
    assert made.depth is not None
    assert torch.equal(levels(made.depth), levels(depth))
    from diffusers.image_processor import VaeImageProcessorLDM3D

    theirs = VaeImageProcessorLDM3D().postprocess(picture, "np")[1][0]
    assert np.abs(theirs - np.arange(65536).reshape(256, 256)).max() > 1000  # what is repaired here


def test_metres_and_the_camera():
    made = DepthPictures(torch.zeros(1, 3, 2, 4), torch.tensor([[[0.0, 0.5, 1.0, 0.03]] * 2]))
    z = made.metres(0.5, 2.0)[0, 0]
    torch.testing.assert_close(z[:3], torch.tensor([0.0, 1 / 1.25, 0.5]))
    assert float(made.metres(0.5, 2.0, "linear")[0, 0, 1]) == 1.25
    camera = made.camera(90.0)
    assert math.isclose(float(camera.K[0, 0]), 2.0, rel_tol=1e-6)
    with pytest.raises(HeadlabError, match="near and a far"):
        made.metres(2.0, 1.0)
    with pytest.raises(HeadlabError, match="colour alone"):
        DepthPictures(torch.zeros(1, 3, 2, 4), None).metres()


def test_plain_stable_diffusion_has_no_depth_and_parts_that_lack_are_named(tmp_path):
    model = load_text_to_depth(tiny_pipeline(tmp_path / "sd"))
    assert model.generate(["x"], steps=1, size=(32, 32)).depth is None
    (tmp_path / "half/vae").mkdir(parents=True)
    with pytest.raises(HeadlabError, match="lacks unet, text_encoder, tokenizer, scheduler"):
        load_text_to_depth(tmp_path / "half")


def test_a_widened_autoencoder_draws_the_same_colours():
    torch.manual_seed(0)
    vae = build_autoencoder(AutoencoderConfig(3, (32, 32), 1, 4, 32, True))
    wide = with_depth_channels(vae, 6)
    colour, depth = torch.rand(2, 3, 16, 16) * 2 - 1, torch.rand(2, 3, 16, 16) * 2 - 1
    with torch.no_grad():
        latents = encode(vae, colour)
        torch.testing.assert_close(encode(wide, torch.cat([colour, depth], 1)), latents, atol=1e-5, rtol=0)
        made = decode(wide, latents)
        torch.testing.assert_close(made[:, :3], decode(vae, latents), atol=1e-5, rtol=0)
        torch.testing.assert_close(
            made[:, 3:], made[:, :3].mean(1, keepdim=True).expand(-1, 3, -1, -1), atol=1e-5, rtol=0
        )
    with pytest.raises(HeadlabError, match="already"):
        with_depth_channels(wide, 4)


class Pictures(PictureSet):
    """RGB-D pictures in memory, in place of the synthetic pairs."""

    def __init__(self, count=8, channels=6, size=16):
        coarse = torch.rand(count, 3, 4, 4, generator=torch.Generator().manual_seed(0))
        colour = torch.nn.functional.interpolate(coarse, size)
        depth = packed(colour.mean(1)) if channels == 6 else colour.mean(1, keepdim=True)
        object.__setattr__(self, "channels", channels)
        object.__setattr__(self, "data", torch.cat([colour, depth], 1) * 2 - 1)

    @property
    def count(self):
        return len(self.data)

    def load(self, indices):
        return self.data[indices]


@pytest.mark.slow
def test_fine_tuning_the_ends_and_then_the_unet(tmp_path, folder):
    torch.manual_seed(0)
    vae = with_depth_channels(build_autoencoder(AutoencoderConfig(3, (32, 32), 1, 4, 32, True)), 4)
    vae.register_to_config(scaling_factor=0.18215)
    before = {k: v.clone() for k, v in vae.state_dict().items()}
    pictures = Pictures(channels=4)
    weights = AutoencoderWeights(0.0, 1e-6, 0.0, 0)
    config = TrainingConfig(
        steps=30, batch=8, rate=3e-3, warmup=1, average=0.0, cpu=True, save_every=10**9, log_every=10**9
    )
    rows = []
    task = DepthAutoencoderTask(vae, pictures, pictures, weights=weights)
    train(task, config, tmp_path / "vae", callback=rows.append)
    moved = {k for k, v in vae.state_dict().items() if not torch.equal(v, before[k])}
    assert moved == {
        f"{part}.{leaf}" for part in ("encoder.conv_in", "decoder.conv_out") for leaf in ("weight", "bias")
    }
    assert rows[-1]["l1"] < 0.95 * rows[0]["l1"]
    from headlab.diffusion.autoencoder_files import load_autoencoder

    assert load_autoencoder(tmp_path / "vae/weights").config["scaling_factor"] == 0.18215

    model = load_text_to_depth(folder)
    six = Pictures(size=32)
    latents = latents_of(model.pipeline.vae, six)
    assert latents.shape == (8, 4, 16, 16)
    task = DepthDenoiserTask(model.pipeline, latents, ["a face"] * 4 + ["a person"] * 4)
    assert schedule_of(model.pipeline.scheduler).prediction == "epsilon"
    rows.clear()
    train(task, TrainingConfig(**{**config.__dict__, "steps": 25}), tmp_path / "unet", callback=rows.append)
    first, last = (sum(r["simple"] for r in part) / 8 for part in (rows[:8], rows[-8:]))
    assert last < first
    tuned = load_text_to_depth(tmp_path / "unet/weights")
    assert tuned.generate(["a face"], steps=1, size=(32, 32)).depth is not None
    with pytest.raises(HeadlabError, match="give one each"):
        DepthDenoiserTask(model.pipeline, latents, ["a face"])
