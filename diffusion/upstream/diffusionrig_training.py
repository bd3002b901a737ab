"""Training DiffusionRig as published: stage 1 on many people, stage 2 on one person's album.

Both: Adam, mean squared error of the noise weighted by 1 / (1 + SNR) (the README's --p2_weight True), gradient norm
clipped to 1, no moving average. Stage 2 keeps the encoder's parameters; the encoder stays in training mode, so its
BatchNorm uses the batch's statistics and its running averages keep moving.

    train(DiffusionRigTask(network, data, stage=2), published_training(2), folder)
"""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from ...geometry.errors import HeadlabError
from ..schedule import NoiseSchedule
from ..training_config import TrainingConfig
from .diffusionrig import DiffusionRig, save_diffusionrig
from .process_terms import epsilon_loss


@dataclass(frozen=True)
class RigBatch:
    """Photos and their physical buffers."""

    photo: Float[Tensor, "batch 3 height width"]  #: -1..1
    buffers: Float[Tensor, "batch 9 height width"]  #: rendered, normal, albedo; not mapped


@runtime_checkable
class RigData(Protocol):
    """Photos with buffers, by number."""

    @property
    def count(self) -> int:
        """How many."""
        ...

    def load(self, indices: Int[Tensor, "batch"]) -> RigBatch:
        """These."""
        ...


def published_training(stage: int) -> TrainingConfig:
    """The settings of the authors' README: stage 1 for each of 8 devices, stage 2 for one.

    Raises:
        HeadlabError: another stage than 1 or 2.
    """
    if stage not in (1, 2):
        raise HeadlabError(f"DiffusionRig is trained in stages 1 and 2, not {stage}")
    common = TrainingConfig(
        warmup=0, decay="constant", weight_decay=0.0, betas=(0.9, 0.999), clip=1.0, average=0.0, save_every=5000
    )
    if stage == 1:
        return replace(common, steps=50_000, batch=32, rate=1e-4)
    return replace(common, steps=5_000, batch=4, rate=1e-5)


class DiffusionRigTask:
    """See `diffusion.training.Task`."""

    def __init__(self, network: DiffusionRig, data: RigData, stage: int = 1, *, p2: bool = True):
        """Args:
            network: trained in place.
            data: to learn from.
            stage: 2 keeps the encoder's parameters.
            p2: weigh the loss over times.

        Raises:
            HeadlabError: the network tells variances: its authors' code cannot train that either; or no such stage.
        """
        if network.config.learned_variance:
            raise HeadlabError(
                "a DiffusionRig that tells variances can sample but not be trained; train one that does not"
            )
        published_training(stage)
        self.data, self.p2, self.count = data, p2, data.count
        self.schedule = NoiseSchedule.linear()
        network.requires_grad_(True).train()
        if stage == 2:
            network.encoder.requires_grad_(False)
        self.networks: dict[str, nn.Module] = {"diffusionrig": network}
        self.players: dict[str, tuple[str, ...]] = {"diffusionrig": ("diffusionrig",)}

    def load(self, indices: Int[Tensor, "batch"], device: torch.device) -> RigBatch:
        batch = self.data.load(indices)
        return RigBatch(batch.photo.to(device), batch.buffers.to(device))

    def losses(
        self, player: str, networks: dict[str, nn.Module], batch: RigBatch, step: int, generator: torch.Generator
    ) -> dict[str, Tensor]:
        t, noise = self.draw(batch.photo, generator)

        def predict(x: Tensor, times: Tensor) -> Tensor:
            return networks["diffusionrig"](x, times, batch.buffers, batch.photo)

        return {"mse": epsilon_loss(predict, self.schedule, batch.photo, noise, t, p2=self.p2).mean()}

    def draw(self, photo: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Times and noise."""
        t = torch.randint(self.schedule.steps, (len(photo),), generator=generator, device=photo.device)
        return t, torch.randn(photo.shape, generator=generator, device=photo.device)

    def pictures(self, networks: dict[str, nn.Module]) -> None:
        """None are made: a run of the full network takes minutes on a CPU."""

    def export(self, networks: dict[str, Any], folder: Path) -> None:
        """Write model.pt, which the authors' code reads, too."""
        folder.mkdir(parents=True, exist_ok=True)
        save_diffusionrig(networks["diffusionrig"], folder / "model.pt")
