"""The ablation's arms: one base denoiser, trained on with different losses by the ordinary training loop."""

from copy import deepcopy
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Literal

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from ...datasets.synthetic.pairs import EditPairBatch
from ...diffusion.bundle import LatentDiffusion
from ...diffusion.denoiser import Denoiser, Given
from ...diffusion.identity import Embedder, ShapeReader
from ...diffusion.identity_losses import IdentityWeights
from ...diffusion.sampling import guided, sample
from ...diffusion.training import TrainingConfig, train
from ...diffusion.training_denoiser import DenoiserTask, DenoiserTaskConfig, DropoutConfig
from ...diffusion.training_driven import DrivenTask
from ...diffusion.training_latents import DenoiserBatch, DenoiserData, PairLatents, encode_pairs
from ...geometry.models.head_model import HeadModel
from .ablation_drivers import driven, drivers

#: Edits are trained and measured with z, the maps and ψ told, and no emotion; the photo's latent is an option.
_DROPOUT = DropoutConfig(0.0, 0.0, 0.0, 0.0, 1.0, 1.0, 0.0)
ARMS = ("L_simple", "+ L_PR", "+ L_TID", "+ L_TID, ψ held", "+ L_id_DECA", "+ L_id_DECA, ψ held", "all")


@dataclass(frozen=True)
class Tuning:
    """How every arm is trained on."""

    steps: int = 80
    batch: int = 16
    rate: float = 2e-4
    average: float = 0.97  #: of the weights' moving average
    precision: Literal["no", "bf16"] = "bf16"
    drivers: bool = True  #: identity losses, and edits, under maps of somebody else's head (`training_driven`)
    pairs: int = 256  #: that are trained on, with drivers
    capture: bool = True  #: the denoiser sees the photo's latent; else z and the maps alone tell of the person
    prior_pictures: int = 48  #: made by the base model, for L_PR and L_TID
    prior: float = 1.0  #: factor of L_PR
    triplet: float = 0.5  #: factor of L_TID
    margin: float = 1.0  #: of L_TID: so wide that it is always on
    shape: float = 1.2  #: factor of L_id_DECA, per mm^2
    expression: float = 0.6  #: factor of the expression's own loss, per mm^2
    source: Literal["edit", "photo"] = "edit"  #: without drivers, what identity losses compare with; else the photo
    latest: float = 1.0  #: identity losses up to this part of T
    power: float = 0.0  #: identity losses count by (1 - t / T) to this power
    views: float = 1.0  #: spread of the views that the networks read

    def task(self, arm: str) -> DenoiserTaskConfig:
        """The losses of a row of the table."""
        triplet = self.triplet if "L_TID" in arm or arm == "all" else 0.0
        shape = self.shape if "L_id_DECA" in arm or arm == "all" else 0.0
        expression = self.expression if "ψ held" in arm or arm == "all" else 0.0
        prior = self.prior if arm in ("+ L_PR", "all") else 0.0
        identity = IdentityWeights(
            triplet=triplet,
            shape=shape,
            expression=expression,
            margin=self.margin,
            latest=self.latest,
            power=self.power,
            views=self.views,
        )
        return DenoiserTaskConfig(
            dropout=replace(_DROPOUT, capture=0.0 if self.capture else 1.0),
            weighting="min_snr",
            prior=prior,
            identity=identity,
        )

    def training(self, seed: int) -> TrainingConfig:
        """The loop; the same samples, noise and times for every arm."""
        return TrainingConfig(
            steps=self.steps,
            batch=self.batch,
            rate=self.rate,
            warmup=20,
            decay="cosine",
            weight_decay=0.0,
            average=self.average,
            precision=self.precision,
            seed=seed,
            save_every=self.steps,
            keep=1,
            picture_every=10**9,
            log_every=20,
            cpu=True,
        )


@dataclass(frozen=True)
class PriorPictures:
    """What the base model makes of other people; see `training_latents.DenoiserData`."""

    given: Given
    latents: Float[Tensor, "batch latent rows columns"]
    colour: Float[Tensor, "batch 3 height width"]  #: 0..1

    @property
    def count(self) -> int:
        return len(self.latents)

    def load(self, indices: Int[Tensor, "batch"], device: torch.device | str = "cpu") -> DenoiserBatch:
        return DenoiserBatch(self.latents[indices], self.given[indices], self.colour[indices])


@dataclass(frozen=True)
class DecodedSources:
    """The same samples, with decoded latents for the identity losses to compare with.

    What the autoencoder blurs then changes both readings alike, and the denoiser is not asked to make up for it.
    """

    data: DenoiserData
    base: LatentDiffusion
    source: Literal["edit", "photo"]

    @property
    def count(self) -> int:
        return self.data.count

    @torch.no_grad()
    def load(self, indices: Int[Tensor, "batch"], device: torch.device | str = "cpu") -> DenoiserBatch:
        batch = self.data.load(indices, device)
        latents = batch.latents if self.source == "edit" else batch.given.capture
        assert latents is not None
        return replace(batch, colour=self.base.colour(latents))


class EditTask(DenoiserTask):
    """The photo tells the identity losses the person, the true edit the expression."""

    def losses(self, player, networks, batch: DenoiserBatch, step, generator) -> dict[str, Tensor]:
        identity = self.identity
        if self.config.identity.expression:
            with torch.no_grad():
                self.identity = partial(identity, wanted=self.diffusion.colour(batch.latents))
        try:
            return super().losses(player, networks, batch, step, generator)
        finally:
            self.identity = identity


def driven_pairs(base: LatentDiffusion, model: HeadModel, pairs: EditPairBatch) -> tuple[PairLatents, PairLatents]:
    """Pairs, and the same with the maps of other people among them."""
    own = data_of(base, pairs)
    other = driven(model, pairs, pairs.codes.shape[drivers(pairs), 0])
    return own, PairLatents(other, own.latents)


def data_of(base: LatentDiffusion, pairs: EditPairBatch) -> PairLatents:
    """Edits with the depth of all surfaces."""
    bare: Bool[Tensor, "pairs"] = torch.zeros(len(pairs), dtype=torch.bool)
    return PairLatents(pairs, encode_pairs(base.vae, pairs, bare))


def told(data: DenoiserData, indices: Int[Tensor, "batch"], capture: bool) -> Given:
    """What an editor is given of these samples."""
    given = data.load(indices, "cpu").given.without("emotion", "valence_arousal")
    return given if capture else given.without("capture")


@torch.no_grad()
def latents_of(
    base: LatentDiffusion, denoiser: Denoiser, given: Given, steps: int, seed: int, chunk: int = 32
) -> Float[Tensor, "batch latent rows columns"]:
    """Sampled latents; sample i has the same noise whatever the denoiser."""
    config, parts = base.config.denoiser, []
    side = config.size // config.factor
    noise = torch.randn(len(given), config.latents, side, side, generator=torch.Generator().manual_seed(seed))
    for first in range(0, len(given), chunk):
        predict = guided(denoiser, denoiser.context(given[first : first + chunk]), None, 1.0)
        parts.append(sample(predict, noise[first : first + chunk], base.schedule, steps, "dpm++"))
    return torch.cat(parts)


@torch.no_grad()
def decoded(base: LatentDiffusion, latents: Float[Tensor, "batch latent rows columns"]) -> Float[Tensor, "batch 3 h w"]:
    """Pictures 0..1."""
    return torch.cat([base.colour(part) for part in latents.split(32)]).clamp(0, 1)


def prior_pictures(base: LatentDiffusion, data: DenoiserData, tuning: Tuning) -> PriorPictures:
    """Made by the base model, of the first samples' people and conditions."""
    given = told(data, torch.arange(min(tuning.prior_pictures, data.count)), tuning.capture)
    latents = latents_of(base, base.denoiser, given, 12, seed=4242)
    return PriorPictures(given, latents, decoded(base, latents))


def tune(
    base: LatentDiffusion,
    arm: str,
    data: DenoiserData,
    prior: PriorPictures,
    reader: ShapeReader,
    embedder: Embedder,
    tuning: Tuning,
    seed: int,
    folder: Path,
) -> Denoiser:
    """The base denoiser trained on with an arm's losses: the averaged network. A run that was killed goes on."""
    system = replace(base, denoiser=deepcopy(base.denoiser).requires_grad_(True))
    if tuning.task(arm).identity.any and not tuning.drivers:
        data = DecodedSources(data, base, tuning.source)
    kind = DrivenTask if tuning.drivers else EditTask
    task = kind(tuning.task(arm), system, data, prior=prior, reader=reader, embedder=embedder, save=lambda *_: None)
    network = train(task, tuning.training(seed), folder)["denoiser"]
    denoiser = network.denoiser
    assert isinstance(denoiser, Denoiser)
    return denoiser.eval().requires_grad_(False)
