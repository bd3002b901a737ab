"""Stage 2: a latent diffusion model learns one person from a few pictures (DiffusionRig, DreamBooth, ID-Booth).

    examples of the person ──> L_simple, L_id_DECA, L_TID ──┐
    pictures that the frozen base made of others ──> L_PR ──┴──> LoRA, or all weights but the encoder's of z

The encoder's parameters stay as they are; where it has BatchNorm its running statistics keep moving, as DiffusionRig's
do. LoRA (Hu et al. 2022) is merged at the end, so the result is a model like any other.
"""

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor

from ..datasets.synthetic.pairs import EditPairs, PairConfig
from ..geometry.errors import HeadlabError
from ..geometry.models.head_model import HeadModel
from .bundle import LatentDiffusion
from .denoiser import Denoiser, Given
from .identity import Embedder, ShapeReader
from .identity_losses import IdentityWeights
from .lora import add_lora, merge_lora
from .sampling import sample
from .training import TrainingConfig, train
from .training_denoiser import DenoiserTask, DenoiserTaskConfig, DropoutConfig
from .training_latents import DenoiserBatch, PairLatents, alternating, encode_pairs


@dataclass(frozen=True)
class PersonalConfig:
    """How a person is learned."""

    method: Literal["lora", "full"] = "lora"
    rank: int = 16  #: of LoRA
    prior_pictures: int = 48  #: that the base model makes of other people
    prior_steps: int = 10  #: of sampling each
    #: The person's latent is left out often: then only what was learned of the person can draw it.
    dropout: DropoutConfig = field(default_factory=lambda: DropoutConfig(0.7, 0.1, 0.02, 0.2, 1.0, 1.0, 0.02))
    prior: float = 1.0  #: factor of L_PR
    identity: IdentityWeights = field(default_factory=lambda: IdentityWeights(triplet=0.05, shape=0.02, latest=0.6))
    training: TrainingConfig = field(
        default_factory=lambda: TrainingConfig(
            steps=400, batch=8, rate=3e-4, warmup=20, average=0.98, save_every=200, picture_every=10**9, log_every=20
        )
    )


@dataclass(frozen=True)
class Examples:
    """Samples in memory; see `training_latents.DenoiserData`."""

    latents: Float[Tensor, "count latent rows columns"]
    given: Given
    colour: Float[Tensor, "count 3 height width"]  #: sRGB 0..1

    @property
    def count(self) -> int:
        return len(self.latents)

    def load(self, indices: Int[Tensor, "batch"], device: torch.device | str = "cpu") -> DenoiserBatch:
        given = self.given[indices].to(device)
        return DenoiserBatch(self.latents[indices].to(device), given, self.colour[indices].to(device))


def personalized(
    base: LatentDiffusion,
    examples: Examples,
    prior: Examples,
    config: PersonalConfig,
    folder: Path,
    *,
    reader: ShapeReader | None = None,
    embedder: Embedder | None = None,
    callback: Callable[[dict], None] | None = None,
    told: Any = None,
) -> LatentDiffusion:
    """A model that knows a person.

    Args:
        base: stays as it is.
        examples: the person.
        prior: `prior_examples` of the base.
        config: see `PersonalConfig`.
        folder: of the run's checkpoints; a run that was interrupted goes on.
        reader: for L_id_DECA.
        embedder: for L_TID.
        callback: gets every step's losses.
        told: kept in the run's record.

    Raises:
        HeadlabError: a loss is on whose network is missing; the loss is not finite; memory runs out.
    """
    tuned = replace(base, denoiser=copy.deepcopy(base.denoiser))
    denoiser = tuned.denoiser.requires_grad_(config.method == "full")
    if config.method == "lora":
        # LoRA starts at random, and the same for the same seed.
        with torch.random.fork_rng():
            torch.manual_seed(config.training.seed)
            add_lora(denoiser.unet, config.rank)
    task_config = DenoiserTaskConfig(
        tuned.config, config.dropout, "min_snr", prior=config.prior, identity=config.identity, frozen_encoder=True
    )
    task = DenoiserTask(
        task_config, tuned, examples, prior=prior, reader=reader, embedder=embedder, save=lambda system, path: None
    )
    networks = train(task, config.training, folder, told, callback)
    result = networks["denoiser"].denoiser
    assert isinstance(result, Denoiser)
    if config.method == "lora":
        merge_lora(result.unet)
    return replace(base, denoiser=result.eval()).frozen()


@torch.no_grad()
def prior_examples(
    base: LatentDiffusion, model: HeadModel, count: int, steps: int = 10, seed: int = 0, batch: int = 8
) -> Examples:
    """Pictures that a frozen model makes of synthetic people, with what it was given.

    Args:
        base: the model.
        model: head model of the synthetic people.
        count: of pictures.
        steps: of sampling.
        seed: of people and noise; training and held-out sets have other people.
        batch: pictures at once.

    Raises:
        HeadlabError: no pictures are asked for.
    """
    if count < 1:
        raise HeadlabError(f"L_PR and L_TID need at least 1 prior picture, not {count}; 50 to 200 are usual")
    size = base.config.denoiser.size
    people = EditPairs(model, PairConfig(size=size, seed=7_000_003 + seed, pairs_per_person=1))
    generator = torch.Generator().manual_seed(seed)
    parts: list[Examples] = []
    for start in range(0, count, batch):
        pairs = people.batch(range(start, min(start + batch, count)))
        data = PairLatents(pairs, encode_pairs(base.vae, pairs, alternating(pairs), batch))
        given = data.load(torch.arange(0, data.count, 2)).given
        context = base.denoiser.context(given)
        noise = torch.randn(data.latents[:, 0].shape, generator=generator)

        def predict(x: Tensor, t: Tensor, context=context) -> Tensor:
            return base.denoiser(x, t, context)

        latents = sample(predict, noise, base.schedule, steps, "dpm++")
        parts.append(Examples(latents, given, base.colour(latents).clamp(0, 1)))
    return joined_examples(parts)


def joined_examples(parts: Sequence[Examples]) -> Examples:
    """One after the other; all are given the same things."""
    names = parts[0].given.tensors()
    given = Given(**{name: torch.cat([part.given.tensors()[name] for part in parts]) for name in names})
    return Examples(torch.cat([p.latents for p in parts]), given, torch.cat([p.colour for p in parts]))
