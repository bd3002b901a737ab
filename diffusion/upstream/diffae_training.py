"""Training Diffusion Autoencoders as published: the autoencoder (or the unconditional DDPM), then the latent DPM.

Both: Adam, 1e-4, gradient norm clipped to 1, moving averages with d = 0.9999. The autoencoder learns the squared error
of the noise in pictures, the latent DPM the absolute error of the noise in normalised codes (AdamW, decay 0.01).
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from ...datasets.loader import unit_range
from ..schedule import NoiseSchedule
from ..training_config import TrainingConfig
from .diffae import DiffAE
from .diffae_edit import LATENT_SCHEDULE
from .diffae_files import LatentStatistics, save_diffae
from .process_terms import epsilon_loss

#: The settings of ffhq128_autoenc_130M (batch over all devices); ffhq256_autoenc takes batches of 64.
PUBLISHED = TrainingConfig(
    steps=1_000_000,
    batch=128,
    rate=1e-4,
    warmup=0,
    decay="constant",
    weight_decay=0.0,
    betas=(0.9, 0.999),
    average=0.9999,
)
PUBLISHED_LATENT = replace(PUBLISHED, batch=256, weight_decay=0.01)


@runtime_checkable
class Photos(Protocol):
    """Pictures by number."""

    @property
    def count(self) -> int:
        """How many."""
        ...

    def load(self, indices: Int[Tensor, "batch"]) -> Float[Tensor, "batch 3 height width"]:
        """These, -1..1."""
        ...


class LoadedPhotos:
    """Pictures of `datasets.loader.SquareLoader` as `Photos`; mirrored or not by the batch they come in."""

    def __init__(self, loader: Any, mirror: bool = True):
        self.loader, self.mirror, self.count = loader, mirror, loader.count

    def load(self, indices: Int[Tensor, "batch"]) -> Float[Tensor, "batch 3 height width"]:
        rows = indices.cpu().numpy()
        flips = None
        if self.mirror:
            flips = np.random.default_rng(rows.astype(np.uint64)).random(len(rows)) < 0.5
        return unit_range(self.loader.load(rows, flips))


class _Drawing:
    """What both tasks share: fresh times and noise."""

    schedule: NoiseSchedule

    def draw(self, clean: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Times and noise."""
        t = torch.randint(self.schedule.steps, (len(clean),), generator=generator, device=clean.device)
        return t, torch.randn(clean.shape, generator=generator, device=clean.device)

    def pictures(self, networks: dict[str, nn.Module]) -> None:
        """None are made: a run of the full network takes minutes on a CPU."""


class DiffAETask(_Drawing):
    """The autoencoder or the DDPM; see `diffusion.training.Task`."""

    schedule = NoiseSchedule.linear()

    def __init__(self, network: DiffAE, photos: Photos):
        self.photos, self.count = photos, photos.count
        self.networks: dict[str, nn.Module] = {"diffae": network.requires_grad_(True).train()}
        self.players: dict[str, tuple[str, ...]] = {"diffae": ("diffae",)}
        self.conditional = network.sizes.stages is not None

    def load(self, indices: Int[Tensor, "batch"], device: torch.device) -> Tensor:
        return self.photos.load(indices).to(device)

    def losses(
        self, player: str, networks: dict[str, nn.Module], batch: Tensor, step: int, generator: torch.Generator
    ) -> dict[str, Tensor]:
        t, noise = self.draw(batch, generator)

        def predict(x: Tensor, times: Tensor) -> Tensor:
            return networks["diffae"](x, times, None, batch if self.conditional else None)

        return {"mse": epsilon_loss(predict, self.schedule, batch, noise, t).mean()}

    def export(self, networks: dict[str, Any], folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        save_diffae(networks["diffae"], folder / "last.ckpt")


@dataclass(frozen=True)
class CodeSet:
    """Codes of a data set and their statistics."""

    codes: Float[Tensor, "count size"]
    statistics: LatentStatistics


class LatentTask(_Drawing):
    """The latent DPM of a finished autoencoder, on the codes of a data set; see `diffusion.training.Task`."""

    schedule = LATENT_SCHEDULE

    def __init__(self, network: DiffAE, codes: CodeSet):
        """Args:
        network: an autoencoder with a latent net; only that is trained, in place.
        codes: to learn from.
        """
        self.network, self.codes, self.count = network.requires_grad_(False), codes, len(codes.codes)
        self.networks: dict[str, nn.Module] = {"latent": network.latent_net.requires_grad_(True).train()}
        self.players: dict[str, tuple[str, ...]] = {"latent": ("latent",)}

    def load(self, indices: Int[Tensor, "batch"], device: torch.device) -> Tensor:
        return self.codes.statistics.normalized(self.codes.codes[indices]).to(device)

    def losses(
        self, player: str, networks: dict[str, nn.Module], batch: Tensor, step: int, generator: torch.Generator
    ) -> dict[str, Tensor]:
        t, noise = self.draw(batch, generator)
        return {"l1": latent_loss(networks["latent"], batch, noise, t).mean()}

    def export(self, networks: dict[str, Any], folder: Path) -> None:
        import copy

        whole = copy.copy(self.network)
        whole._modules = dict(self.network._modules) | {"latent_net": networks["latent"]}
        folder.mkdir(parents=True, exist_ok=True)
        save_diffae(whole, folder / "last.ckpt", self.codes.statistics)


def latent_loss(
    network: nn.Module, codes: Float[Tensor, "batch size"], noise: Float[Tensor, "batch size"], t: Int[Tensor, "batch"]
) -> Float[Tensor, "batch"]:
    """Mean absolute error of the noise in normalised codes."""
    return (network(LATENT_SCHEDULE.add_noise(codes, noise, t), t) - noise).abs().mean(1)


@torch.no_grad()
def codes_of(
    network: DiffAE,
    photos: Photos,
    batch: int = 16,
    mirrored: bool = False,
    progress: Callable[[int], None] = lambda done: None,
) -> Float[Tensor, "count views size"]:
    """Semantic codes of a data set: of the pictures, and where asked for of their mirror images.

    Args:
        network: in evaluation mode.
        photos: the data set.
        batch: pictures at once.
        mirrored: give a second view.
        progress: called with how many are done.
    """
    device = next(network.parameters()).device
    parts = []
    for rows in torch.arange(photos.count).split(batch):
        shown = photos.load(rows).to(device)
        views = [network.encode(shown)] + ([network.encode(shown.flip(-1))] if mirrored else [])
        parts.append(torch.stack(views, 1).cpu())
        progress(int(rows[-1]) + 1)
    return torch.cat(parts)
