"""What the small recipes share: how the learning rate falls, and the average of the weights that is kept."""

import math

import torch
from torch import Tensor, nn


def cosine_rate(rate: float, step: int, done: float, warmup: int) -> float:
    """The learning rate: rises over the first steps, then falls to a hundredth along a cosine.

    Args:
        rate: the highest.
        step: steps taken.
        done: share of the training that is over, 0..1.
        warmup: steps of the rise.
    """
    return rate * min(1, (step + 1) / warmup) * (0.505 + 0.495 * math.cos(math.pi * min(done, 1)))


@torch.no_grad()
def follow(average: dict[str, Tensor], net: nn.Module, step: int) -> None:
    """Let a copy of a network's state follow it, in place: quickly at first, over 500 steps in the end."""
    keep = min(0.998, step / (step + 20))
    for name, value in net.state_dict().items():
        if value.is_floating_point():
            average[name].lerp_(value, 1 - keep)
        else:
            average[name].copy_(value)
