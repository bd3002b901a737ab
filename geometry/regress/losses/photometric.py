"""Photometric loss: rendered against real pixels."""

from typing import Literal

from jaxtyping import Float
from torch import Tensor

#: EMOCA's names for how an image's share depends on how much of it the mask covers.
Normalization = Literal["mean", "rel_mask_value", "neg_rel_mask_value", "inv_rel_mask_value", "abs_mask_value"]


def photometric_loss(
    rendered: Float[Tensor, "batch chan height width"],
    image: Float[Tensor, "batch chan height width"],
    mask: Float[Tensor, "batch 1 height width"],
    normalization: Normalization = "mean",
) -> Float[Tensor, ""]:
    """Mean over all pixels, masked ones counted as zeros, of  f(mask) · mask · | rendered - image |.

    Args:
        rendered: the head's picture.
        image: the photo.
        mask: 0..1.
        normalization: f, per image: 1 ("mean", DECA), the mask's mean m, 1 - m, 1 / m, or its sum.

    Raises:
        ValueError: unknown normalization.
    """
    mean = mask.mean((1, 2, 3), keepdim=True)
    factors = {
        "mean": 1.0,
        "rel_mask_value": mean,
        "neg_rel_mask_value": 1 - mean,
        "inv_rel_mask_value": 1 / mean,
        "abs_mask_value": mask.sum((1, 2, 3), keepdim=True),
    }
    if normalization not in factors:
        raise ValueError(f"unknown normalization {normalization!r}; choose one of {', '.join(factors)}")
    return (mask * (rendered - image).abs() * factors[normalization]).mean()
