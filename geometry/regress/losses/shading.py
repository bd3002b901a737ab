"""Regularisers on a picture of light."""

from jaxtyping import Float
from torch import Tensor

#: Mean brightness that light is drawn to.
_WHITE = 0.99


def smooth_loss(shading: Float[Tensor, "batch chan height width"]) -> Float[Tensor, ""]:
    """Mean squared difference of neighbours, across plus down; neighbours on the border are left out.

    DECA's z_diff is this for the light on detail normals.
    """
    across = shading[..., 1:-1, 1:] - shading[..., 1:-1, :-1]
    down = shading[..., 1:, 1:-1] - shading[..., :-1, 1:-1]
    return (across**2).mean() + (down**2).mean()


def white_loss(shading: Float[Tensor, "batch chan height width"]) -> Float[Tensor, ""]:
    """Squared difference of each colour's mean, over batch and pixels, from 0.99."""
    return ((shading.mean((0, 2, 3)) - _WHITE) ** 2).mean()
