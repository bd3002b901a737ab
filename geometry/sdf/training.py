"""Training an identity field: an auto-decoder, one latent per head learned along with the network.

As the authors train (Giebenhain et al. 2023, section 4 and their configuration): AdamW for the network, Adam for the
rows of the codebook that a batch touches, gradients clipped, both rates halved at intervals; a latent longer than 1 is
shortened when it is looked up. Heads come as pools of samples (sampling.py), of which every step draws some.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from ..errors import HeadlabError
from .checkpoints import shortened
from .culled import SHARE, culled_sdf
from .identity import IdentityField
from .losses import IdentityWeights, SurfaceBatch, ensemble_terms, identity_terms, total
from .sampling import SurfaceSamples, far_points, near_points


@dataclass(frozen=True)
class TrainConfig:
    """The released recipe; its 15,000 epochs are here counted in steps."""

    steps: int = 15000
    batch: int = 32  #: heads per step
    face_points: int = 750
    rest_points: int = 250
    rate: float = 5e-4
    latent_rate: float = 1e-3
    halve_every: int = 5000  #: steps
    weight_decay: float = 0.01
    clip: float = 0.1
    latent_clip: float = 0.1
    share: float = SHARE  #: members below this share are left out
    weights: IdentityWeights = field(default_factory=IdentityWeights)


class AutoDecoder(nn.Module):
    """The network and the codebook; `forward` is the loss, so that it can be spread over devices as one module."""

    def __init__(self, network: IdentityField, heads: int, share: float, generator: torch.Generator) -> None:
        super().__init__()
        self.network = network
        self.share = share
        size = network.layout.latent
        self.codes = nn.Embedding(heads, size, max_norm=1.0, sparse=True)
        with torch.no_grad():
            self.codes.weight.normal_(0, 0.1 / math.sqrt(size), generator=generator)

    def forward(
        self, heads: Int[Tensor, "batch"], batch: SurfaceBatch, anchors: Float[Tensor, "batch anchors 3"]
    ) -> dict[str, Float[Tensor, ""]]:
        """The terms of L_id for some heads."""
        latent = self.codes(heads)
        folded = self.network.folded(latent)
        terms = identity_terms(lambda points: culled_sdf(folded, points, self.share), batch, latent)
        return terms | ensemble_terms(self.network.layout, latent, folded.anchors, anchors)


@dataclass(frozen=True)
class TrainedIdentities:
    """What training gives, the network itself aside (it is trained in place)."""

    latents: Float[Tensor, "heads latent"]
    history: list[dict[str, float]]


def train_identity(
    network: IdentityField,
    heads: Sequence[SurfaceSamples],
    config: TrainConfig,
    generator: torch.Generator,
    callback: Callable[[int, dict[str, float]], None] | None = None,
) -> TrainedIdentities:
    """Train a network and one latent per head, on whatever devices accelerate finds.

    Args:
        network: changed in place; left in evaluation mode.
        heads: samples of each, in the network's frame, with as many anchors as it has.
        config: the recipe.
        generator: for the codes' start and the draws, on the CPU.
        callback: told the step and its terms.

    Raises:
        HeadlabError: no heads, or heads whose anchors are not the network's.
    """
    from accelerate import Accelerator

    if not heads:
        raise HeadlabError("there are no heads to train on; give the samples of at least one")
    wanted = (network.layout.anchors, 3)
    for number, head in enumerate(heads):
        if tuple(head.anchors.shape) != wanted or min(len(head.face), len(head.rest)) == 0:
            raise HeadlabError(
                f"head {number} has anchors {tuple(head.anchors.shape)}, {len(head.face)} points of the face and "
                f"{len(head.rest)} others; the network needs {wanted} and some of both"
            )
    accelerator = Accelerator()
    model = AutoDecoder(network.train().requires_grad_(True), len(heads), config.share, generator)
    parameters = list(network.parameters())
    optimizer = torch.optim.AdamW(parameters, config.rate, weight_decay=config.weight_decay)
    of_codes = torch.optim.SparseAdam(list(model.codes.parameters()), config.latent_rate)
    prepared, optimizer, of_codes = accelerator.prepare(model, optimizer, of_codes)
    history = []
    for step in range(config.steps):
        halved = 0.5 ** (step // config.halve_every)
        for group in optimizer.param_groups:
            group["lr"] = config.rate * halved
        for group in of_codes.param_groups:
            group["lr"] = config.latent_rate * halved
        which = torch.randint(len(heads), (min(config.batch, len(heads)),), generator=generator)
        batch, anchors = draw_batch([heads[i] for i in which.tolist()], config, generator)
        on_device = SurfaceBatch(**{name: value.to(accelerator.device) for name, value in vars(batch).items()})
        terms = prepared(which.to(accelerator.device), on_device, anchors.to(accelerator.device))
        loss = total(terms, config.weights)
        optimizer.zero_grad()
        of_codes.zero_grad()
        accelerator.backward(loss)
        accelerator.clip_grad_norm_(parameters, config.clip)
        _clip_rows(model.codes.weight, config.latent_clip)
        optimizer.step()
        of_codes.step()
        report = {name: float(value.detach()) for name, value in terms.items()} | {"loss": float(loss.detach())}
        history.append(report)
        if callback is not None:
            callback(step, report)
    network.eval().requires_grad_(False)
    return TrainedIdentities(shortened(model.codes.weight.detach().cpu()), history)


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


def _clip_rows(weight: Tensor, limit: float) -> None:
    """Shorten a sparse gradient as a whole, as clip_grad_norm_ does with dense ones."""
    gradient = weight.grad
    assert gradient is not None and gradient.is_sparse
    coalesced = gradient.coalesce()
    length = float(coalesced.values().norm())
    if length > limit:
        weight.grad = coalesced * (limit / (length + 1e-6))
