"""The linear baselines of NPHM's table: principal components of registered heads, whole and in overlapping parts.

    global   v = mean + B β                                    expressions: v + E ψ
    local    v = mean + Σ_k w_k(v) B_k(v) β_k                  one set of components for the part about each anchor

The weights w_k fall with the distance from the anchors, as the blend of the local fields does, and add up to 1.
Coefficients have unit variance over the training heads, so |β|² is the prior of both.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from ..errors import HeadlabError
from .registered import RegisteredHeads

#: Variance of the parts' weights, in the fields' unit squared: wider than the fields' blend, since a mesh has vertices
#: far from every anchor.
_VARIANCE = 0.02

#: Shares below this are cut off: every part is a part.
_SMALLEST = 0.02


@dataclass(frozen=True)
class LinearHeads:
    """A linear model of heads in the fields' frame."""

    mean: Float[Tensor, "verts 3"]
    identity: Float[Tensor, "verts 3 shape"]  #: per standard deviation
    expression: Float[Tensor, "verts 3 expr"]  #: likewise; the mean expression is its first column's business
    expression_mean: Float[Tensor, "verts 3"]  #: added with any expression
    faces: Int[Tensor, "faces 3"]

    def vertices(
        self, identity: Float[Tensor, "*batch shape"], expression: Float[Tensor, "*batch expr"] | None = None
    ) -> Float[Tensor, "*batch verts 3"]:
        """A canonical head, or a posed one."""
        out = self.mean + (identity @ self.identity.flatten(0, 1).mT).unflatten(-1, self.mean.shape)
        if expression is None:
            return out
        moved = (expression @ self.expression.flatten(0, 1).mT).unflatten(-1, self.mean.shape)
        return out + self.expression_mean + moved


def global_pca(heads: RegisteredHeads, components: int, expressions: int) -> LinearHeads:
    """Components of whole heads, and of their deformations.

    Args:
        heads: training heads.
        components: of identity; as many as there are heads, less one, at most.
        expressions: components of all heads' displacements from canonical to posed.

    Raises:
        HeadlabError: fewer than two heads.
    """
    mean, basis = _components(heads.canonical, components, None)
    move, expression = _expression_components(heads, expressions)
    return LinearHeads(mean, basis, expression, move, heads.faces)


def local_pca(heads: RegisteredHeads, components: int, expressions: int) -> LinearHeads:
    """Components of the part about each anchor, blended.

    Args:
        heads: training heads.
        components: of each part.
        expressions: of the whole, as in `global_pca`: NPHM's deformation is global, too.

    Raises:
        HeadlabError: fewer than two heads.
    """
    weights = part_weights(heads.canonical.mean(0), heads.anchors.mean(0))
    mean = heads.canonical.mean(0)
    parts = []
    for weight in weights.unbind(-1):
        inside = weight > 0
        part = torch.zeros(*mean.shape, min(components, len(heads.canonical) - 1))
        if bool(inside.any()):
            _, own = _components(heads.canonical[:, inside], components, weight[inside])
            part[inside] = own * weight[inside, None, None]
        parts.append(part)
    move, expression = _expression_components(heads, expressions)
    return LinearHeads(mean, torch.cat(parts, -1), expression, move, heads.faces)


def part_weights(
    vertices: Float[Tensor, "verts 3"], anchors: Float[Tensor, "anchors 3"]
) -> Float[Tensor, "verts anchors"]:
    """How much every vertex belongs to the part of each anchor; rows add up to 1."""
    share = torch.softmax(-torch.cdist(vertices, anchors).square() / _VARIANCE, -1)
    share = torch.where(share < _SMALLEST, 0.0, share)
    return share / share.sum(-1, keepdim=True)


def _expression_components(heads: RegisteredHeads, count: int) -> tuple[Tensor, Tensor]:
    if heads.posed.shape[1] == 0 or count == 0:
        return torch.zeros_like(heads.canonical[0]), heads.canonical.new_zeros(*heads.canonical.shape[1:], 0)
    moves = (heads.posed - heads.canonical.unsqueeze(1)).flatten(0, 1)
    return _components(moves, count, None)


def _components(
    samples: Float[Tensor, "samples verts 3"], count: int, weights: Float[Tensor, "verts"] | None
) -> tuple[Float[Tensor, "verts 3"], Float[Tensor, "verts 3 count"]]:
    """Mean and components by the Gram matrix of the samples."""
    if len(samples) < 2:
        raise HeadlabError(f"principal components need at least two heads, not {len(samples)}; train on more")
    mean = samples.mean(0)
    centred = (samples - mean).flatten(1)
    scaled = centred if weights is None else centred * weights.sqrt().repeat_interleave(3)
    count = min(count, len(samples) - 1)
    gram = (scaled @ scaled.mT).double() / (len(samples) - 1)
    vectors = torch.linalg.eigh(gram).eigenvectors.flip(-1)[:, :count].to(samples)
    # Coefficients of the samples have unit variance; the basis is their regression onto the samples.
    basis = centred.mT @ vectors / (len(samples) - 1) ** 0.5
    return mean, basis.unflatten(0, mean.shape)
