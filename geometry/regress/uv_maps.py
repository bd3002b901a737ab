"""Vertex attributes as maps in texture space, the way DECA makes them."""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from ..models.head_model import HeadModel
from ..raster import Raster, interpolate
from ..texture.uv_raster import rasterize_uv
from .assets import UV_SIZE


@dataclass(frozen=True)
class UvSpace:
    """A model's texture layout, rasterised once. Row 0 at v = 1."""

    model: HeadModel
    raster: Raster

    @classmethod
    def of(cls, model: HeadModel, size: int = UV_SIZE) -> "UvSpace":
        """Raises:
        ValueError: the model has no texture coordinates.
        """
        return cls(model, rasterize_uv(model, size))

    def image(self, values: Float[Tensor, "batch verts chan"]) -> Float[Tensor, "batch chan size size"]:
        """Vertex attributes per texel, 0 outside of the layout (upstream's world2uv)."""
        count = values.shape[0]
        raster = Raster(
            *(x.expand(count, *x.shape[1:]) for x in (self.raster.face, self.raster.bary, self.raster.depth))
        )
        return interpolate(raster, values, self.model.faces).movedim(-1, 1)


def sample(
    maps: Float[Tensor, "#batch chan rows columns"], grid: Float[Tensor, "batch height width 2"]
) -> Float[Tensor, "batch chan height width"]:
    """Bilinear lookup at x, y in -1..1 (edge to edge, y down); 0 outside."""
    maps = maps.expand(grid.shape[0], -1, -1, -1)
    return torch.nn.functional.grid_sample(maps, grid, mode="bilinear", padding_mode="zeros", align_corners=False)
