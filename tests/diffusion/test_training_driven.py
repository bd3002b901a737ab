"""Identity losses on edits driven by other heads: what they compare, whom they move, and what they need."""

from dataclasses import dataclass, field, replace

import pytest
import torch
from small_diffusion import RandomData, small_diffusion, some_given

from headlab.diffusion.identity_losses import IdentityWeights
from headlab.diffusion.losses import time_weight
from headlab.diffusion.training_denoiser import DenoiserTask, DenoiserTaskConfig, DropoutConfig
from headlab.diffusion.training_driven import DrivenBatch, DrivenTask
from headlab.geometry.errors import HeadlabError

ALL_TOLD = DropoutConfig(*(0.0,) * 7)
STILL = IdentityWeights(shape=0.5, views=0.0, power=1.0)


@dataclass(frozen=True)
class ColourReader:
    """β: the mean colour; ψ: its square."""

    gram: torch.Tensor = field(default_factory=lambda: 10 * torch.eye(3))
    expression_gram: torch.Tensor = field(default_factory=lambda: torch.eye(3))

    def shapes(self, pictures):
        return pictures.mean((-2, -1))

    def vectors(self, pictures):
        return torch.nn.functional.normalize(self.shapes(pictures) + 0.1, dim=-1)

    def read(self, pictures):
        return self.shapes(pictures), self.shapes(pictures).square()


class DrivenData(RandomData):
    """With conditions and edits of their own for the identity losses."""

    def load(self, indices, device="cpu"):
        own = super().load(indices, device)
        generator = torch.Generator().manual_seed(9)
        edits = torch.randn(self.latents.shape, generator=generator)[indices]
        return DrivenBatch(own.latents, own.given, own.colour, None, some_given(self.count, seed=8)[indices], edits)


def driven_task(identity: IdentityWeights, **options) -> DrivenTask:
    system = small_diffusion()
    config = DenoiserTaskConfig(system.config, dropout=ALL_TOLD, identity=identity)
    return DrivenTask(config, system, DrivenData(), reader=ColourReader(), **options)


def terms_of(task: DenoiserTask, seed: int = 5) -> dict[str, torch.Tensor]:
    batch = task.load(torch.arange(4), torch.device("cpu"))
    return task.losses("denoiser", task.networks, batch, 0, torch.Generator().manual_seed(seed))


def test_the_loss_compares_the_driven_edit_with_the_photo():
    task = driven_task(STILL)
    got = terms_of(task)
    plain = driven_task(IdentityWeights())
    assert set(got) == {"simple", "shape"} and torch.equal(got["simple"], terms_of(plain)["simple"])
    # by hand, with the same chance: L_simple draws first
    system, generator = task.diffusion, torch.Generator().manual_seed(5)
    batch = task.load(torch.arange(4), torch.device("cpu"))
    DenoiserTask.losses(plain, "denoiser", plain.networks, batch, 0, generator)
    t = torch.randint(0, 1000, (4,), generator=generator)
    noisy = system.schedule.add_noise(batch.edits, torch.randn(batch.edits.shape, generator=generator), t)
    said = system.denoiser(noisy, t, system.denoiser.context(batch.driven))
    made = system.colour(system.schedule.x0_from(said, noisy, t))
    change = made.mean((-2, -1)) - system.colour(batch.driven.capture).mean((-2, -1))
    want = 0.5 * (time_weight(system.schedule, t, 1.0) * 10 * change.square().sum(1)).mean()
    torch.testing.assert_close(got["shape"].double(), want.double(), rtol=1e-5, atol=1e-7)


def test_only_the_denoiser_learns_and_the_loss_pulls_towards_the_photo():
    task = driven_task(replace(STILL, shape=5.0, expression=0.1))
    before = terms_of(task)
    assert set(before) == {"simple", "shape", "expression"}
    (before["shape"]).backward()
    denoiser = task.diffusion.denoiser
    assert all(p.grad is None for p in task.diffusion.vae.parameters())
    moved = [p for p in denoiser.unet.parameters() if p.grad is not None]
    norm = torch.stack([p.grad.square().sum() for p in moved]).sum().sqrt()
    with torch.no_grad():
        for p in moved:
            p -= 1e-2 * p.grad / norm
    assert float(terms_of(task)["shape"].detach()) < float(before["shape"].detach())


def test_the_same_seed_gives_the_same_losses():
    losses = [terms_of(driven_task(STILL), seed) for seed in (5, 5, 6)]
    assert torch.equal(losses[0]["shape"], losses[1]["shape"])
    assert not torch.equal(losses[0]["shape"], losses[2]["shape"])


def test_what_is_missing_or_makes_no_sense_is_said():
    with pytest.raises(HeadlabError, match="prior pictures"):
        driven_task(IdentityWeights(triplet=1.0), embedder=ColourReader())
    with pytest.raises(HeadlabError, match=r"weight triplet .* not -1"):
        driven_task(IdentityWeights(triplet=-1.0), prior=RandomData(2))
    with pytest.raises(HeadlabError, match="L_PR is 0 or more, not nan"):
        DenoiserTask(DenoiserTaskConfig(prior=float("nan")), small_diffusion(), RandomData())
