"""Relative landmark losses: openings of eyes and lips, width of the mouth.

They compare distances between two points each, so they are blind to where the face is.
"""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

Pairs = Sequence[tuple[int, int]]

#: Upper and lower lid among the 68 points (right eye, then left).
EYELIDS: Pairs = ((37, 41), (38, 40), (43, 47), (44, 46))

#: Upper and lower inner lip.
LIPS: Pairs = ((61, 67), (62, 66), (63, 65))

#: Right and left corner of the mouth, outer and inner (EMOCA).
MOUTH_CORNERS: Pairs = ((48, 54), (60, 64))


def pair_distances(points: Float[Tensor, "*batch n 2"], pairs: Pairs) -> Float[Tensor, "*batch pairs"]:
    """Euclidean distance of each pair; its gradient is 0 where the two points coincide."""
    first, second = ([pair[side] for pair in pairs] for side in (0, 1))
    return torch.linalg.vector_norm(points[..., first, :] - points[..., second, :], dim=-1)


def pair_distance_loss(
    predicted: Float[Tensor, "*batch n 2"], target: Float[Tensor, "*batch n 2"], pairs: Pairs
) -> Float[Tensor, ""]:
    """Mean of | d(predicted) - d(target) | over pairs (DECA's eye closure loss, EMOCA's relative losses)."""
    return (pair_distances(predicted, pairs) - pair_distances(target, pairs)).abs().mean()
