"""Optimiser steps of the published trainings, through headlab's own loop: losses, gradients, parameters, averages."""

import copy
from dataclasses import replace

import pytest
import torch
from upstream_nets import Golden, filled_diffae, filled_rig, small_diffae_config, small_rig_config

from headlab.diffusion.training import train
from headlab.diffusion.training_config import TrainingConfig
from headlab.diffusion.training_ema import Averages
from headlab.diffusion.upstream.diffae import DiffAEConfig
from headlab.diffusion.upstream.diffae_files import LatentStatistics, load_diffae
from headlab.diffusion.upstream.diffae_training import PUBLISHED, CodeSet, DiffAETask, LatentTask, codes_of
from headlab.diffusion.upstream.diffusionrig import load_diffusionrig
from headlab.diffusion.upstream.diffusionrig_training import DiffusionRigTask, RigBatch, published_training
from headlab.diffusion.upstream.latent_net import LatentNetConfig
from headlab.geometry.errors import HeadlabError


class Fixed:
    """One batch, always the same."""

    def __init__(self, batch, count):
        self.batch, self.count = batch, count

    def load(self, indices):
        return self.batch


def steps(config: TrainingConfig, count: int, batch: int) -> TrainingConfig:
    return replace(config, steps=count, batch=batch, cpu=True, save_every=10**9, picture_every=10**9, log_every=10**9)


def stepped(monkeypatch, task, config, folder, network, parts):
    """Train; what each step saw: losses per sample, gradients before clipping, their norm, everything after."""
    seen = []
    clip = torch.nn.utils.clip_grad_norm_

    def watch(parameters, most):
        parameters = [p for p in parameters if p.grad is not None]
        gradients = {name: p.grad.clone() for name, p in network.named_parameters() if p.grad is not None}
        norm = clip(parameters, most)
        seen.append({"gradients": gradients, "norm": norm, "most": most})
        return norm

    monkeypatch.setattr(torch.nn.utils, "clip_grad_norm_", watch)

    def after(row):
        seen[-1] |= {"loss": row[parts], "state": copy.deepcopy(network.state_dict())}

    averaged = train(task, config, folder, callback=after)
    return seen, averaged


@pytest.mark.slow
@pytest.mark.parametrize("stage", [1, 2])
def test_diffusionrig_stages(shared, tmp_path, monkeypatch, stage):
    golden = Golden(shared, "training_losses")
    network = filled_rig(small_rig_config(dropout=0.0))
    before = copy.deepcopy(network.state_dict())
    batch = RigBatch(golden["x_start"], golden["physic_cond"])
    task = DiffusionRigTask(network, Fixed(batch, 3), stage)
    monkeypatch.setattr(task, "draw", lambda photo, generator: (golden["t"], golden["noise"]))
    config = steps(published_training(stage), 2, 3)
    assert config.rate == golden.about[f"stage{stage}_lr"]
    seen, _ = stepped(monkeypatch, task, config, tmp_path / "run", network, "mse")
    for k in (1, 2):
        name, step = f"train/stage{stage}/step{k}", seen[k - 1]
        assert step["most"] == float(golden["train/stage1/step1/max_norm"])
        torch.testing.assert_close(torch.tensor(step["loss"]), golden[f"{name}/loss"].mean(), atol=1e-4, rtol=1e-4)
        torch.testing.assert_close(step["norm"], golden[f"{name}/grad_norm_before_clip"], atol=0, rtol=2e-3)
        if k == 1:
            assert len(step["gradients"]) == int(golden[f"{name}/n_with_grad"])
            for key in golden.arrays.files:
                if key.startswith(f"{name}/grad/"):
                    want = golden[key]
                    made = step["gradients"][key.removeprefix(f"{name}/grad/")]
                    torch.testing.assert_close(made, want, rtol=2e-3, atol=2e-3 * float(want.abs().max()))
        for key in golden.arrays.files:
            if key.startswith(f"{name}/after/"):
                leaf = key.removeprefix(f"{name}/after/")
                room = 2 * k * config.rate if "running" not in leaf else 1e-5
                torch.testing.assert_close(step["state"][leaf], golden[key], atol=room * 1.01, rtol=1e-4)
    after = seen[-1]["state"]
    moved = [name for name in before if not torch.equal(before[name], after[name])]
    assert (
        len(moved) == golden.about[f"stage{stage}_n_changed"] and len(before) == golden.about[f"stage{stage}_n_total"]
    )
    kinds = {name.rsplit(".", 1)[1] for name in moved if name.startswith("encoder.")}
    assert kinds == set(golden.about[f"stage{stage}_changed_encoder_keys_kinds"])
    if stage == 2:  # frozen parameters, moving statistics: and the exported file holds them
        again = load_diffusionrig(tmp_path / "run/weights/model.pt", network.config).state_dict()
        assert torch.equal(again["encoder.bn1.running_mean"], after["encoder.bn1.running_mean"])
        assert torch.equal(again["denoisingUNet.out.2.weight"], after["denoisingUNet.out.2.weight"])


def test_what_cannot_be_trained():
    with pytest.raises(HeadlabError, match="tells variances"):
        DiffusionRigTask(filled_rig(small_rig_config(outputs=6)), Fixed(None, 1))
    with pytest.raises(HeadlabError, match="stages 1 and 2"):
        published_training(3)


def test_a_step_of_the_autoencoder(shared, tmp_path, monkeypatch):
    golden = Golden(shared, "diffae_training_ema")
    config = small_diffae_config((1, 1, 2, 3, 4), (1, 1, 2, 3, 4, 4), 8, dropout=0.0)
    network = filled_diffae(config)
    task = DiffAETask(network, Fixed(golden["x_start"], 2))
    monkeypatch.setattr(task, "draw", lambda photo, generator: (golden["t"], golden["noise"]))
    settings = steps(PUBLISHED, 1, 2)
    assert (settings.average, settings.clip) == (golden.about["ema_decay"], golden.about["grad_clip"])
    (step,), averaged = stepped(monkeypatch, task, settings, tmp_path / "run", network, "mse")
    torch.testing.assert_close(torch.tensor(step["loss"]), golden["train/loss"], atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(step["norm"], golden["train/grad_norm_before_clip"], atol=0, rtol=1e-3)
    average = averaged["diffae"].state_dict()
    for key in golden.arrays.files:
        leaf = key.split("/", 2)[-1]
        if key.startswith("train/grad/"):
            want = golden[key]
            made = step["gradients"][leaf]
            torch.testing.assert_close(made, want, rtol=2e-3, atol=2e-3 * float(want.abs().max()))
        elif key.startswith("train/after/"):
            torch.testing.assert_close(step["state"][leaf], golden[key], atol=2.02e-4, rtol=1e-5)
        elif key.startswith("train/after_ema/"):
            torch.testing.assert_close(average[leaf], golden[key], atol=1e-6, rtol=1e-5)
    assert load_diffae(tmp_path / "run/weights/last.ckpt", config=config).network.sizes == config


def test_the_averaging_rule(shared):
    golden = Golden(shared, "diffae_training_ema")
    for decay in (0.9999, 0.99):
        source, target = torch.nn.Linear(5, 3), torch.nn.Linear(5, 3)
        averages = Averages({"x": target}, decay)
        with torch.no_grad():
            source.weight.copy_(golden["rule/source_weight"])
            averages.networks["x"].weight.copy_(golden["rule/target_weight0"])
        for _ in range(3):
            averages.update({"x": source})
        torch.testing.assert_close(
            averages.networks["x"].weight, golden[f"rule/after3_decay{decay}"], atol=1e-6, rtol=1e-6
        )
    counter = torch.nn.BatchNorm1d(2)
    averages = Averages({"x": counter}, 0.9)
    averages.networks["x"].num_batches_tracked.fill_(7)
    counter.num_batches_tracked.fill_(100)
    averages.update({"x": counter})
    assert int(averages.networks["x"].num_batches_tracked) == int(golden["rule/int_buffer_100_7_decay0.9"])


def test_the_latent_dpm_learns_codes(tmp_path):
    """A cloud of codes about two points: sampled codes lie about them, too."""
    sizes = small_diffae_config((1, 1), (1, 1, 1), 16, size=32, blocks=1, code=8)
    torch.manual_seed(0)
    from headlab.diffusion.upstream.diffae import DiffAE
    from headlab.diffusion.upstream.diffae_edit import DiffAEEditor

    network = DiffAE(DiffAEConfig(sizes.unet, sizes.stages, LatentNetConfig(8, 64, 4, 16))).eval()
    points = torch.randn(2, 8)
    codes = points[torch.arange(512) % 2] + 0.05 * torch.randn(512, 8)
    data = CodeSet(codes, LatentStatistics.of(codes))
    config = TrainingConfig(steps=300, batch=128, rate=3e-3, warmup=10, average=0.97, save_every=10**9, cpu=True)
    train(LatentTask(network, data), config, tmp_path / "run")
    loaded = load_diffae(tmp_path / "run/weights/last.ckpt")
    noise = torch.randn(64, 8, generator=torch.Generator().manual_seed(1))
    made = DiffAEEditor(loaded.network, loaded.statistics).sample_codes(noise, 20)
    distance = torch.cdist(made, points).amin(1)
    apart = float((points[0] - points[1]).norm())
    assert float(distance.median()) < 0.25 * apart, (distance.median(), apart)
    shown = torch.rand(3, 3, 32, 32)

    class Three:
        count = 3

        def load(self, indices):
            return shown[indices]

    views = codes_of(loaded.network, Three(), batch=2, mirrored=True)
    assert views.shape == (3, 2, 8)
    torch.testing.assert_close(views[:, 1], loaded.network.encode(shown.flip(-1)).detach(), atol=1e-5, rtol=1e-5)
