"""AlbedoModel: a linear model of skin colour in UV space."""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor


@dataclass(frozen=True)
class AlbedoModel:
    """texture = mean + basis · code; sRGB 0..1, row 0 at v = 1. Codes are in standard deviations."""

    mean: Float[Tensor, "3 height width"]
    basis: Float[Tensor, "3 height width comps"]

    @property
    def components(self) -> int:
        return self.basis.shape[-1]

    def texture(self, code: Float[Tensor, "*batch comps"]) -> Float[Tensor, "*batch 3 height width"]:
        """Textures of codes, not clamped. A short code stands for the leading components."""
        size = code.shape[-1]
        flat = self.basis[..., :size].flatten(0, 2)  # not reshape(-1, size): the code may be empty
        return self.mean + torch.unflatten(code @ flat.mT, -1, self.mean.shape)
