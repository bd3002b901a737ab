"""Training expression fields: the forward deformation of NPHM and of NPM, one latent per posed head.

Identities are learned already: their latents (and anchors) are what the deformation is told, and stay as they are.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from ..errors import HeadlabError
from .expression import CODE_NOISE, ExpressionField
from .losses import ExpressionWeights, anywhere, expression_terms, total
from .mlp import DeepSDF
from .training_config import LoopConfig
from .training_loop import Terms, Trained, random_start, train_auto_decoder
from .training_set import PoseSamples


@dataclass(frozen=True)
class ExpressionTrainConfig:
    """The released recipe; its 2,500 epochs are here counted in steps."""

    points: int = 1000
    """Correspondences per posed head and step."""
    elsewhere: int = 100
    """Points anywhere, where the deformation shall be small."""
    code_noise: bool = True
    """Put noise on the code of the identity, as released ("compress" only)."""
    weights: ExpressionWeights = field(default_factory=ExpressionWeights)
    loop: LoopConfig = field(default_factory=lambda: LoopConfig(steps=2500, halve_every=600))


@dataclass(frozen=True)
class _Batch:
    neutral: Float[Tensor, "batch points 3"]
    posed: Float[Tensor, "batch points 3"]
    elsewhere: Float[Tensor, "batch space 3"]
    identity: Float[Tensor, "batch latent"]
    anchors: Float[Tensor, "batch anchors 3"]


class ExpressionTask:
    """L_ex of a deformation on correspondences."""

    def __init__(
        self,
        network: ExpressionField | DeepSDF,
        poses: Sequence[PoseSamples],
        identities: Float[Tensor, "heads latent"],
        anchors: Float[Tensor, "heads anchors 3"],
        config: ExpressionTrainConfig,
    ) -> None:
        """Raises:
        HeadlabError: no poses, or latents that are not the network's.
        """
        if not poses:
            raise HeadlabError("there are no expressions to train on; give correspondences of at least one")
        self.network: nn.Module = network
        self.poses, self.config = list(poses), config
        self.identities, self.anchors = identities, anchors
        self.count = len(self.poses)
        self.latent = (
            network.config.latent if isinstance(network, ExpressionField) else network.latent - identities.shape[-1]
        )
        known = network.config.layout.latent if isinstance(network, ExpressionField) else identities.shape[-1]
        if known != identities.shape[-1] or self.latent < 1:
            raise HeadlabError(f"the identities have latents of {identities.shape[-1]} numbers, the network of {known}")

    def start(self, generator: torch.Generator) -> Float[Tensor, "count latent"]:
        return random_start(self.count, self.latent, generator)

    def draw(self, rows: Int[Tensor, "batch"], generator: torch.Generator) -> _Batch:
        chosen = [self.poses[i] for i in rows.tolist()]
        neutral, posed = [], []
        for pose in chosen:
            which = torch.randint(len(pose.points.neutral), (self.config.points,), generator=generator)
            neutral.append(pose.points.neutral[which])
            posed.append(pose.points.posed[which])
        space = anywhere(torch.rand(len(chosen), self.config.elsewhere, 3, generator=generator))
        heads = torch.tensor([pose.head for pose in chosen])
        return _Batch(torch.stack(neutral), torch.stack(posed), space, self.identities[heads], self.anchors[heads])

    def loss(
        self, network: nn.Module, latent: Float[Tensor, "batch ex"], batch: Any, generator: torch.Generator
    ) -> tuple[Float[Tensor, ""], Terms]:
        points = torch.cat([batch.neutral, batch.elsewhere], 1)
        if isinstance(network, ExpressionField):
            noise = None
            if self.config.code_noise and network.config.mode == "compress":
                shape = (*points.shape[:-1], network.config.code)
                noise = (CODE_NOISE * torch.randn(shape, generator=generator)).to(points.device)
            offsets = network(points, batch.identity, latent, batch.anchors, noise)
        else:
            offsets = network(points, torch.cat([batch.identity, latent], -1))
        count = batch.neutral.shape[1]
        terms = expression_terms(offsets[:, :count], batch.neutral, batch.posed, offsets[:, count:], latent)
        return total(terms, self.config.weights), terms


def train_expression(
    network: ExpressionField | DeepSDF,
    poses: Sequence[PoseSamples],
    identities: Float[Tensor, "heads latent"],
    anchors: Float[Tensor, "heads anchors 3"],
    config: ExpressionTrainConfig,
    folder: Path | None = None,
    callback: Callable[[int, dict[str, float]], None] | None = None,
) -> Trained:
    """Train a deformation and one latent per posed head, or go on with what the folder holds.

    Args:
        network: changed in place; left in evaluation mode.
        poses: correspondences; `head` is the row of the identities.
        identities: trained latents.
        anchors: of these, as the identity field predicts them; no rows for NPM.
        config: the recipe.
        folder: of the run; nothing is written where absent.
        callback: told the step and its terms.

    Raises:
        HeadlabError: no poses, latents that are not the network's, or as `train_auto_decoder`.
    """
    task = ExpressionTask(network, poses, identities, anchors, config)
    return train_auto_decoder(task, config.loop, folder, config, callback)
