"""Regulariser on albedo: it changes where its colour does (Tewari et al. 2018, "Self-supervised multi-level...")."""

from jaxtyping import Float
from torch import Tensor


def albedo_constancy_loss(albedo: Float[Tensor, "batch 3 height width"], sharpness: float = 15.0) -> Float[Tensor, ""]:
    """Σ over both directions of mean( exp(-α Δc²) Δa² ), c = a / Σ a the chromaticity.

    The weights get no gradient.

    Args:
        albedo: RGB, 0..1.
        sharpness: α.
    """
    colour = (albedo / (albedo.sum(1, keepdim=True) + 1e-6)).detach()
    loss = albedo.new_zeros(())
    for axis in (-2, -1):
        weight = (-sharpness * colour.diff(dim=axis) ** 2).exp()
        loss = loss + (albedo.diff(dim=axis) ** 2 * weight).mean()
    return loss
