"""Identity losses on edits of which no true picture exists: another head drives, and the person must stay.

    photo's latent, maps of another head with the wanted expression ──> the base model's edit, made once
    that edit, made noisy ──> x̂0, with a gradient ──> picture ──> identity losses against the photo

Pairs of photos of one person teach what an edit looks like (L_simple), but nobody has photographed one person wearing
another's performance. Maps drawn with the driver's shape draw the driver's face into the edit, and only the identity
terms can say so. The base model's edit also says which expression must stay (`IdentityWeights.expression`): a denoiser
that gives back the photo keeps the person, too.
"""

from dataclasses import dataclass, replace
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from ..geometry.errors import HeadlabError
from .bundle import LatentDiffusion
from .denoiser import Given
from .identity_losses import IdentityLosses, IdentityWeights
from .sampling import guided, sample
from .training_denoiser import DenoiserTask
from .training_latents import DenoiserBatch, PairLatents


@dataclass(frozen=True)
class DrivenBatch(DenoiserBatch):
    """Samples with a second edit each, driven by somebody else."""

    driven: Given | None = None  #: capture and person of the photo; maps of the driver; the wanted expression
    edits: Float[Tensor, "batch latent rows columns"] | None = None  #: what the base model makes of that


@dataclass(frozen=True)
class DrivenPairs:
    """Pairs, the same with maps of other heads, and the base model's edits. See `training_latents.DenoiserData`."""

    own: PairLatents
    driven: PairLatents
    edits: Float[Tensor, "samples latent rows columns"]  #: of `driven_edits`

    @property
    def count(self) -> int:
        return self.own.count

    def load(self, indices: Int[Tensor, "batch"], device: torch.device | str = "cpu") -> DrivenBatch:
        own, other = self.own.load(indices, device), self.driven.load(indices, device)
        return DrivenBatch(
            own.latents, own.given, own.colour, own.weight, other.given, self.edits[indices].float().to(device)
        )


@torch.no_grad()
def driven_edits(
    base: LatentDiffusion, driven: PairLatents, steps: int = 10, seed: int = 0, batch: int = 32
) -> Float[Tensor, "samples latent rows columns"]:
    """What a base model makes of driven samples, all of them; DPM-Solver++, the expression told as ψ alone.

    Args:
        base: stays as it is.
        driven: pairs with maps of other heads.
        steps: of sampling.
        seed: of the noise.
        batch: samples at once.
    """
    generator, parts = torch.Generator().manual_seed(seed), []
    for indices in torch.arange(driven.count).split(batch):
        loaded = driven.load(indices)
        noise = torch.randn(loaded.latents.shape, generator=generator)
        given = loaded.given.without("emotion", "valence_arousal")
        predict = guided(base.denoiser, base.denoiser.context(given), None, 1.0)
        parts.append(sample(predict, noise, base.schedule, steps, "dpm++"))
    return torch.cat(parts)


class DrivenTask(DenoiserTask):
    """A denoiser's training whose identity losses look at driven edits; L_simple and L_PR as ever."""

    def __init__(self, config, diffusion: LatentDiffusion, data, *args: Any, earliest: float = 0.0, **options: Any):
        """Arguments as `DenoiserTask`'s; the data give `DrivenBatch`.

        Args:
            earliest: identity losses are drawn at times t / T of this part and beyond: before, all has been decided.

        Raises:
            HeadlabError: a loss is on whose network or pictures are missing.
        """
        super().__init__(replace(config, identity=IdentityWeights()), diffusion, data, *args, **options)
        if config.identity.triplet and self.prior is None:
            raise HeadlabError("L_TID compares with pictures that the base model made; give prior pictures")
        self.earliest = earliest
        reader, embedder = options.get("reader"), options.get("embedder")
        self.identity = IdentityLosses(config.identity, diffusion.colour, reader, embedder)

    def losses(
        self,
        player: str,
        networks: dict[str, nn.Module],
        batch: DenoiserBatch,
        step: int,
        generator: torch.Generator,
    ) -> dict[str, Tensor]:
        terms = super().losses(player, networks, batch, step, generator)
        weights, schedule = self.identity.weights, self.diffusion.schedule
        if not weights.any:
            return terms
        assert isinstance(batch, DrivenBatch)
        given, edits = batch.driven, batch.edits
        assert given is not None and given.capture is not None and edits is not None
        device, count = edits.device, len(edits)
        first = round(self.earliest * schedule.steps)
        t = torch.randint(first, schedule.steps, (count,), generator=generator, device=device)
        noise = torch.randn(edits.shape, generator=generator, device=device)
        noisy = schedule.add_noise(edits, noise, t)
        with torch.no_grad():  # decoded like x̂0, so that what the autoencoder loses is lost in all
            photo = self.diffusion.colour(given.capture)
            wanted = self.diffusion.colour(edits) if weights.expression else None
        other = None
        if self.prior is not None and weights.triplet:
            pick = torch.randint(self.prior.count, (count,), generator=generator, device=device).cpu()
            other = self.prior.load(pick, device).colour
        said = networks["denoiser"](noisy, t, given)
        return terms | self.identity(said, noisy, t, schedule, photo, other, wanted=wanted)
