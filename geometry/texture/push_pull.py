"""Push-pull filling of holes in pictures."""

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn.functional import avg_pool2d, interpolate


def push_pull(
    values: Float[Tensor, "chan height width"], weight: Float[Tensor, "height width"]
) -> Float[Tensor, "chan height width"]:
    """Fill where the weight is 0 by averages over ever larger squares (Gortler et al., "The Lumigraph", 1996)."""
    height, width = weight.shape
    weight = weight.clamp(max=1)
    if height <= 1 or width <= 1 or bool((weight >= 1).all()):
        return values
    even = (height % 2, width % 2)
    padded = torch.nn.functional.pad(torch.cat([values * weight, weight[None]])[None], (0, even[1], 0, even[0]))
    coarse = avg_pool2d(padded, 2)[0] * 4
    mean = coarse[:-1] / coarse[-1:].clamp(min=1e-9)
    filled = push_pull(torch.where(coarse[-1:] > 0, mean, torch.zeros(())), coarse[-1])
    up = interpolate(filled[None], scale_factor=2, mode="bilinear", align_corners=False)[0, :, :height, :width]
    return values * weight + up * (1 - weight)


def bleed(
    texture: Float[Tensor, "chan height width"], covered: Bool[Tensor, "height width"]
) -> Float[Tensor, "chan height width"]:
    """Carry colours past the borders of a texture's islands, so that filtering does not bring in the background."""
    return torch.where(covered, texture, push_pull(texture, covered.float()))
