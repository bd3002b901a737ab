"""Landmark reprojection loss."""

import torch
from jaxtyping import Float
from torch import Tensor

#: Positions of the 68 that count more, and by how much (first match counts).
_WEIGHTS = (
    ((30, 31, 35), 3.0),  # tip and sides of the nose
    ((48, 54), 3.0),  # corners of the mouth
    (range(27, 36), 1.5),  # nose
    (range(48, 68), 1.5),  # mouth
    ((5, 6, 10, 11), 2.0),  # jaw beside the chin
)


def landmark_weights() -> Float[Tensor, "68"]:
    """DECA's weight of each of the 68 points."""
    weights = torch.ones(68)
    for points, weight in reversed(_WEIGHTS):
        weights[list(points)] = weight
    return weights


def landmark_loss(
    predicted: Float[Tensor, "batch n 2"],
    target: Float[Tensor, "batch n 2"],
    visible: Float[Tensor, "batch n"] | None = None,
    weights: Float[Tensor, "n"] | None = None,
) -> Float[Tensor, ""]:
    """Mean absolute difference of coordinates:  Σ v w |p - q|₁ / (2 Σ v w).

    Upstream's weighted loss multiplies the weights into the caller's visibilities, so that a second call with the same
    tensor weights twice; nothing is changed here (to get that number, hand in the squared weights).

    Args:
        predicted: projected model landmarks.
        target: detected landmarks.
        visible: 0..1 per point; all 1 where absent.
        weights: per point, `landmark_weights` in DECA; all 1 where absent.
    """
    distance = (predicted - target).abs().sum(-1)
    factor = torch.ones_like(distance) if visible is None else visible
    if weights is not None:
        factor = factor * weights.to(factor)
    return (distance * factor).sum() / (2 * factor.sum() + 1e-8)
