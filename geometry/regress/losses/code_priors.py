"""Regularisers on codes."""

from jaxtyping import Float
from torch import Tensor


def code_prior(code: Float[Tensor, "batch n"]) -> Float[Tensor, ""]:
    """Half the sum of squares, over the whole batch: identity, expression, albedo are normal a priori.

    A sum, not a mean: DECA's weights of it go with its batch size.
    """
    return (code**2).sum() / 2


def grey_light_prior(light: Float[Tensor, "batch 9 3"]) -> Float[Tensor, ""]:
    """Mean squared deviation of each band's colours from their mean: light is nearly white."""
    return ((light - light.mean(-1, keepdim=True)) ** 2).mean()
