"""Gaussian blending of a local ensemble's members.

    w_k = exp(-(|x - a_k| + 1e-5)² / 0.01),  w_background = exp(-20),  share_k = w_k / (Σ w + 1e-6)

exp(-20) = 2e-9 lies far below the 1e-6, so that the background never has more than 0.002 of the weight; beyond about
0.37 from every anchor all shares, and with them the blended value, fade to 0.
"""

import math

import torch
from jaxtyping import Float
from torch import Tensor

VARIANCE = 0.01
#: Added to each distance, as the authors do.
OFFSET = 1e-5
BACKGROUND = math.exp(-20.0)
#: Added to the sum of the weights.
EPSILON = 1e-6


def anchor_weights(
    points: Float[Tensor, "*batch points 3"], anchors: Float[Tensor, "*batch anchors 3"]
) -> Float[Tensor, "*batch points anchors"]:
    """Weights of the anchored members before normalisation; a point on an anchor has gradient 0 from it."""
    squared = (points.unsqueeze(-2) - anchors.unsqueeze(-3)).square().sum(-1)
    # The root's gradient at 0 is infinite: torch's norm has 0 there, and so has this.
    apart = squared > 0
    distance = torch.where(apart, squared, 1.0).sqrt() * apart
    return torch.exp(-((distance + OFFSET).square()) / VARIANCE)


def member_weights(
    points: Float[Tensor, "*batch points 3"], anchors: Float[Tensor, "*batch anchors 3"]
) -> Float[Tensor, "*batch points members"]:
    """Weights of all members before normalisation, the background last."""
    near = anchor_weights(points, anchors)
    return torch.cat([near, torch.full_like(near[..., :1], BACKGROUND)], -1)


def normalised(weights: Float[Tensor, "*batch points members"]) -> Float[Tensor, "*batch points members"]:
    """Shares: weights over (their sum + 1e-6), less than 1 together."""
    return weights / (weights.sum(-1, keepdim=True) + EPSILON)
