"""Regularisers on displacement maps."""

import torch
from jaxtyping import Float
from torch import Tensor


def displacement_prior(displacement: Float[Tensor, "batch 1 height width"]) -> Float[Tensor, ""]:
    """Mean absolute displacement (DECA's z_reg)."""
    return displacement.abs().mean()


def symmetry_loss(
    displacement: Float[Tensor, "batch 1 height width"], hidden: Float[Tensor, "batch 1 height width"]
) -> Float[Tensor, ""]:
    """Sum of | D - flip(D) | where the photo shows nothing: the unseen side copies the seen (DECA's z_sym).

    The flipped map gets no gradient. A sum, not a mean: DECA's weight of it goes with its batch and map size.

    Args:
        displacement: texture space is symmetric about its middle column.
        hidden: 1 where nothing is seen, `hidden_texels`.
    """
    return (hidden * (displacement - displacement.flip(-1).detach()).abs()).sum()


def hidden_texels(
    visible: Float[Tensor, "batch 1 height width"], size: int = 5
) -> Float[Tensor, "batch 1 height width"]:
    """1 minus the eroded mask: what is not seen, and what is next to it.

    Args:
        visible: anything but 0 counts as seen; beyond the border nothing is.
        size: side of the square that must be seen as a whole, odd.
    """
    unseen = (visible == 0).to(visible.dtype)
    around = size // 2
    padded = torch.nn.functional.pad(unseen, (around,) * 4, value=1.0)
    return torch.nn.functional.max_pool2d(padded, size, stride=1)
