"""Training a denoiser: L_simple, and where their weights are not 0, L_PR and the identity terms on the decoded x̂0."""

import math
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from ..geometry.errors import HeadlabError
from .bundle import DiffusionConfig, LatentDiffusion
from .denoiser import Denoiser, Given
from .identity_losses import IdentityLosses, IdentityWeights
from .lora import has_lora
from .losses import Weighting, l_pr, l_simple, snr_weight
from .training_latents import DenoiserBatch, DenoiserData


@dataclass(frozen=True)
class DropoutConfig:
    """How often a sample is not told something: for classifier-free guidance and for models that know less."""

    capture: float = 0.25
    person: float = 0.1
    maps: float = 0.1
    expression: float = 0.3
    emotion: float = 0.5
    valence_arousal: float = 0.5
    everything: float = 0.05


@dataclass(frozen=True)
class DenoiserTaskConfig:
    """What is trained, for what."""

    diffusion: DiffusionConfig = field(default_factory=DiffusionConfig)
    dropout: DropoutConfig = field(default_factory=DropoutConfig)
    weighting: Weighting = "min_snr"  #: of L_simple over times
    gamma: float | None = None  #: of the weighting; None: its authors'
    prior: float = 0.0  #: factor of L_PR; needs prior data
    identity: IdentityWeights = field(default_factory=IdentityWeights)
    frozen_encoder: bool = False  #: DiffusionRig's stage 2: the person's encoder keeps its parameters
    latest_time: float = 1.0  #: times beyond this part of the schedule are not drawn


class Denoising(nn.Module):
    """Context and prediction in one forward pass, as data-parallel wrappers want it."""

    def __init__(self, denoiser: Denoiser):
        super().__init__()
        self.denoiser = denoiser

    def forward(
        self, noisy: Float[Tensor, "batch latent rows columns"], t: Int[Tensor, "batch"], given: Given
    ) -> Float[Tensor, "batch latent rows columns"]:
        return self.denoiser(noisy, t, self.denoiser.context(given))


class DenoiserTask:
    """See `training.Task`. The autoencoder is frozen."""

    def __init__(
        self,
        config: DenoiserTaskConfig,
        diffusion: LatentDiffusion,
        data: DenoiserData,
        held_out: DenoiserData | None = None,
        *,
        prior: DenoiserData | None = None,
        reader: Any = None,
        embedder: Any = None,
        save: Callable[[LatentDiffusion, Path], None] | None = None,
    ):
        """Args:
            config: what is trained, for what.
            diffusion: whose denoiser is trained, in place.
            data: to learn from.
            held_out: for the validation pictures.
            prior: pictures that the frozen base model made, with what it was given: for L_PR and L_TID.
            reader: `identity.ShapeReader` for L_id_DECA.
            embedder: `identity.Embedder` for L_ID and L_TID.
            save: writes the trained system; `LatentDiffusion.save` where None.

        Raises:
            HeadlabError: a loss is on whose network is missing; a weight is below 0 or no number.
        """
        if not 0 <= config.prior < math.inf:
            raise HeadlabError(f"the weight of L_PR is 0 or more, not {config.prior}")
        self.config, self.diffusion, self.data, self.held_out = config, diffusion, data, held_out
        self.count, self.prior, self._save = data.count, prior, save
        self.order = getattr(data, "order", None)
        diffusion.vae.requires_grad_(False).eval()
        if not has_lora(diffusion.denoiser):
            diffusion.denoiser.requires_grad_(True)
        if config.frozen_encoder:
            diffusion.denoiser.semantic.requires_grad_(False)
        # Training mode also where parameters are frozen: running statistics of BatchNorm move, as DiffusionRig's do.
        self.networks: dict[str, nn.Module] = {"denoiser": Denoising(diffusion.denoiser.train())}
        self.players: dict[str, tuple[str, ...]] = {"denoiser": ("denoiser",)}
        self.identity = IdentityLosses(config.identity, diffusion.colour, reader, embedder)

    def load(self, indices: Int[Tensor, "batch"], device: torch.device) -> DenoiserBatch:
        return self.data.load(indices, device)

    def losses(
        self,
        player: str,
        networks: dict[str, nn.Module],
        batch: DenoiserBatch,
        step: int,
        generator: torch.Generator,
    ) -> dict[str, Tensor]:
        config, schedule, denoiser = self.config, self.diffusion.schedule, networks["denoiser"]
        noisy, t, noise = self._noisy(batch.latents, generator)
        given = dropped(batch.given, config.dropout, generator)
        said = denoiser(noisy, t, given)
        weight = snr_weight(schedule, t, config.weighting, gamma=config.gamma)
        if batch.weight is not None:
            weight = weight * batch.weight
        terms = {"simple": l_simple(said, schedule.target(batch.latents, noise, t), weight).mean()}
        other = None
        if self.prior is not None and (config.prior or config.identity.triplet):
            pick = torch.randint(self.prior.count, (len(t),), generator=generator, device=t.device).cpu()
            prior = self.prior.load(pick, t.device)
            other = prior.colour
            if config.prior:
                x, s, e = self._noisy(prior.latents, generator)
                again = denoiser(x, s, dropped(prior.given, config.dropout, generator))
                weight = snr_weight(schedule, s, config.weighting, gamma=config.gamma)
                terms["prior"] = config.prior * l_pr(again, schedule.target(prior.latents, e, s), weight).mean()
        if config.identity.any:
            terms |= self.identity(said, noisy, t, schedule, batch.colour, other)
        return terms

    def _noisy(self, latents: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
        """Noisy latents, times and the noise."""
        schedule, device = self.diffusion.schedule, latents.device
        last = max(1, round(self.config.latest_time * schedule.steps))
        t = torch.randint(last, (len(latents),), generator=generator, device=device)
        noise = torch.randn(latents.shape, generator=generator, device=device)
        return schedule.add_noise(latents, noise, t), t, noise

    def pictures(self, networks: dict[str, nn.Module]) -> Float[Tensor, "3 height width"] | None:
        """Held-out people: the photo, the true edit, the edit (with and without the photo's latent), and its depth."""
        if self.held_out is None:
            return None
        from .autoencoder import decode
        from .sampling import sample

        system = replace(self.diffusion, denoiser=_denoiser(networks))
        device = next(system.denoiser.parameters()).device
        batch = self.held_out.load(torch.arange(0, self.held_out.count, max(1, self.held_out.count // 12))[:12], device)
        noise = torch.randn(batch.latents.shape, generator=torch.Generator().manual_seed(0)).to(device)
        rows = [batch.given.person / 2 + 0.5] if batch.given.person is not None else []
        rows += [batch.colour]
        for given in (batch.given, batch.given.without("capture")):
            context = system.denoiser.context(given)
            made = sample(lambda x, t, c=context: system.denoiser(x, t, c), noise, system.schedule, 12, "dpm++")
            picture = decode(system.vae, made) / 2 + 0.5
            rows.append(picture[:, :3])
            if picture.shape[1] == 4:
                rows.append(picture[:, 3:].expand(-1, 3, -1, -1))
        return torch.cat([torch.cat(list(row), -1) for row in rows], -2).clamp(0, 1)

    def export(self, networks: dict[str, nn.Module], folder: Path) -> None:
        """The system with the averaged denoiser."""
        system = replace(self.diffusion, denoiser=_denoiser(networks))
        if self._save is not None:
            self._save(system, folder)
        else:
            system.save(folder, half=False)


def dropped(given: Given, config: DropoutConfig, generator: torch.Generator) -> Given:
    """The same with parts left out at random, row by row."""
    count, device = len(given), given.maps.device
    told = torch.rand(count, generator=generator, device=device) >= config.everything
    for name in ("capture", "person", "maps", "expression", "emotion", "valence_arousal"):
        keep = torch.rand(count, generator=generator, device=device) >= getattr(config, name)
        given = given.masked(name, keep & told)
    return given


def _denoiser(networks: dict[str, nn.Module]) -> Any:
    return networks["denoiser"].denoiser
