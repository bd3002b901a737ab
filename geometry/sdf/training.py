"""Training identity fields: NPHM's ensemble and NPM's single network, one latent per head (training_loop.py).

Heads come as pools of samples (sampling.py), of which every step draws some; values and gradients of the field come
from one pass (value_gradient.py).
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from ..errors import HeadlabError
from .blended_gradient import ensemble_value_and_gradient, network_value_and_gradient
from .culled import SHARE
from .identity import IdentityField
from .losses import IdentityWeights, SurfaceBatch, ensemble_terms, surface_terms, total
from .mlp import DeepSDF
from .sampling import SurfaceSamples, far_points, near_points
from .training_config import LoopConfig
from .training_loop import Terms, Trained, random_start, train_auto_decoder

#: Mean length of that part of a fresh latent that comes from the anchors.
_ANCHOR_START = 0.3


@dataclass(frozen=True)
class TrainConfig:
    """The released recipe."""

    face_points: int = 750
    rest_points: int = 250
    share: float = SHARE
    """Members below this share of the blend are left out."""
    weights: IdentityWeights = field(default_factory=IdentityWeights)
    start: Literal["random", "anchors"] = "random"
    """Latents at the start: short random ones, as released, or with the principal components of the heads' anchors in
    front: heads that are alike then start alike, which a short training does not find by itself."""
    loop: LoopConfig = field(default_factory=LoopConfig)


@dataclass(frozen=True)
class _Batch:
    """Points of some heads, flat so that they can be sent to a device."""

    face: Float[Tensor, "batch face 3"]
    face_normals: Float[Tensor, "batch face 3"]
    rest: Float[Tensor, "batch rest 3"]
    rest_normals: Float[Tensor, "batch rest 3"]
    near: Float[Tensor, "batch near 3"]
    far: Float[Tensor, "batch far 3"]
    anchors: Float[Tensor, "batch anchors 3"]

    def surface(self) -> SurfaceBatch:
        return SurfaceBatch(self.face, self.face_normals, self.rest, self.rest_normals, self.near, self.far)


class IdentityTask:
    """L_id of an identity field on pools of samples."""

    def __init__(
        self,
        network: IdentityField | DeepSDF,
        heads: Sequence[SurfaceSamples],
        config: TrainConfig,
        latents: Float[Tensor, "heads latent"] | None = None,
    ) -> None:
        """Args:
        network: what is trained.
        heads: samples of each.
        config: the recipe.
        latents: to start from, of a network that is trained already; as the recipe says where absent.

        Raises:
            HeadlabError: no heads, heads whose anchors are not the network's, or latents that are not.
        """
        if not heads:
            raise HeadlabError("there are no heads to train on; give the samples of at least one")
        self.network: nn.Module = network
        self.heads, self.config, self.latents = list(heads), config, latents
        self.count = len(self.heads)
        ensemble = isinstance(network, IdentityField)
        self.latent = network.layout.latent if ensemble else network.latent
        for number, head in enumerate(self.heads):
            wanted = (network.layout.anchors, 3) if ensemble else tuple(head.anchors.shape)
            if tuple(head.anchors.shape) != wanted or min(len(head.face), len(head.rest)) == 0:
                raise HeadlabError(
                    f"head {number} has anchors {tuple(head.anchors.shape)}, {len(head.face)} points of the face and "
                    f"{len(head.rest)} others; the network needs {wanted} and some of both"
                )
        if latents is not None and tuple(latents.shape) != (self.count, self.latent):
            raise HeadlabError(
                f"there are latents {tuple(latents.shape)} to start from; {self.count} heads need {self.latent} each"
            )

    def start(self, generator: torch.Generator) -> Float[Tensor, "count latent"]:
        if self.latents is not None:
            return self.latents
        codes = random_start(self.count, self.latent, generator)
        if self.config.start == "anchors" and self.count > 1:
            room = self.network.layout.latent_global if isinstance(self.network, IdentityField) else self.latent
            anchors = torch.stack([head.anchors for head in self.heads]).flatten(1)
            left, size, _ = torch.linalg.svd(anchors - anchors.mean(0), full_matrices=False)
            room = min(room, self.count - 1, size.shape[0])
            part = left[:, :room] * size[:room]
            codes[:, :room] += _ANCHOR_START * part / part.norm(dim=-1).mean()
        return codes

    def draw(self, rows: Int[Tensor, "batch"], generator: torch.Generator) -> _Batch:
        batch, anchors = draw_batch([self.heads[i] for i in rows.tolist()], self.config, generator)
        return _Batch(**vars(batch), anchors=anchors)

    def loss(
        self, network: nn.Module, latent: Float[Tensor, "batch latent"], batch: Any, generator: torch.Generator
    ) -> tuple[Float[Tensor, ""], Terms]:
        surface = batch.surface()
        if isinstance(network, IdentityField):
            folded = network.folded(latent)
            value, gradient = ensemble_value_and_gradient(folded, surface.points(), self.config.share)
            extra = ensemble_terms(network.layout, latent, folded.anchors, batch.anchors)
        else:
            assert isinstance(network, DeepSDF)
            folded = network.folded([(slice(3, 3 + network.latent), latent)])
            value, gradient = network_value_and_gradient(folded, surface.points())
            extra = {}
        terms = surface_terms(value, gradient, surface, latent) | extra
        return total(terms, self.config.weights), terms


def train_identity(
    network: IdentityField | DeepSDF,
    heads: Sequence[SurfaceSamples],
    config: TrainConfig,
    folder: Path | None = None,
    callback: Callable[[int, dict[str, float]], None] | None = None,
    latents: Float[Tensor, "heads latent"] | None = None,
) -> Trained:
    """Train a network and one latent per head, or go on with what the folder holds.

    Args:
        network: changed in place; left in evaluation mode.
        heads: samples of each, in the network's frame, with as many anchors as it has.
        config: the recipe.
        folder: of the run; nothing is written where absent.
        callback: told the step and its terms.
        latents: to start from, of a network that is trained already.

    Raises:
        HeadlabError: no heads, heads or latents that are not the network's, or as `train_auto_decoder`.
    """
    return train_auto_decoder(IdentityTask(network, heads, config, latents), config.loop, folder, config, callback)


def draw_batch(
    heads: Sequence[SurfaceSamples], config: TrainConfig, generator: torch.Generator
) -> tuple[SurfaceBatch, Float[Tensor, "batch anchors 3"]]:
    """Points of some heads' pools, with replacement; points about all of them, and far ones, an eighth of the face's.

    Args:
        heads: one entry per row of the batch.
        config: how many points.
        generator: for the draws.
    """
    parts: list[list[Tensor]] = [[], [], [], []]
    for head in heads:
        for start, points, normals, count in (
            (0, head.face, head.face_normals, config.face_points),
            (2, head.rest, head.rest_normals, config.rest_points),
        ):
            which = torch.randint(len(points), (count,), generator=generator)
            parts[start].append(points[which])
            parts[start + 1].append(normals[which])
    face, face_normals, rest, rest_normals = (torch.stack(part) for part in parts)
    near = near_points(torch.cat([face, rest], 1), generator)
    far = torch.stack([far_points(max(1, config.face_points // 8), generator) for _ in heads])
    batch = SurfaceBatch(face, face_normals, rest, rest_normals, near, far)
    return batch, torch.stack([head.anchors for head in heads])
