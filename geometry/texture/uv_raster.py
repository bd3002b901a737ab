"""Rasterise a model's texture layout: which surface point each texel shows."""

import torch
from jaxtyping import Float
from torch import Tensor

from ..models.head_model import HeadModel
from ..raster import Raster, interpolate, rasterize


def rasterize_uv(model: HeadModel, size: int) -> Raster:
    """Face and barycentric weights under every texel of a (size, size) texture; row 0 at v = 1.

    Raises:
        ValueError: the model has no UVs.
    """
    if model.uvs is None or model.uv_faces is None:
        raise ValueError(f"{model.name} has no texture coordinates")
    u, v = model.uvs.unbind(-1)
    one = torch.ones_like(u)
    points = torch.stack([u * size, (1 - v) * size, one, one], -1)
    return rasterize(points[None], model.uv_faces, (size, size))


def to_uv(raster: Raster, model: HeadModel, values: Float[Tensor, "verts chan"]) -> Float[Tensor, "height width chan"]:
    """Vertex attributes per texel, 0 outside the layout."""
    return interpolate(raster, values[None], model.faces)[0]
