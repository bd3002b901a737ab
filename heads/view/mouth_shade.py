"""The dark of an open mouth, for viewers: painted into the texture once, since their light knows no shadows."""

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import interpolate

from ...geometry.models.head_model import HeadModel
from ...geometry.texture.uv_raster import rasterize_uv, to_uv
from ..transfer_mouth import MouthConfig

_PARTS = ("mouth", "teeth", "tongue")
_LIGHT = MouthConfig()
#: Over the depth that light reaches in a photo's mouth: a viewer's light comes from everywhere but the walls.
_NEARER = 0.6
#: Of the light outside, what the lips let in.
_BETWEEN_LIPS = 0.6


def mouth_light(model: HeadModel) -> Float[Tensor, "verts 3"]:
    """How much of the light reaches each vertex, red, green, blue, 0..1: 1 outside the mouth.

    Inside it falls with the distance behind the lips at rest, as in `transfer_mouth.MouthConfig`.
    """
    light = torch.ones_like(model.template)
    regions = [model.regions[name] for name in _PARTS if name in model.regions]
    lips = model.regions.get("lips")
    if not regions or lips is None or not bool(lips.any()):
        return light
    inside = torch.stack(regions).any(0) & ~lips
    behind = (model.template[lips][:, 2].quantile(0.9) - model.template[:, 2] - _LIGHT.teeth).clamp(min=0)
    dim = torch.exp(-behind[:, None] / (_NEARER * light.new_tensor(_LIGHT.depth)))
    dark = _BETWEEN_LIPS * (_LIGHT.floor + (1 - _LIGHT.floor) * dim)
    return torch.where(inside[:, None], dark, light)


def shaded_mouth(model: HeadModel, texture: Float[Tensor, "3 rows columns"]) -> Float[Tensor, "3 rows columns"]:
    """A texture, sRGB 0..1, whose mouth is as dark as `mouth_light` says; the light there is linear.

    Raises:
        ValueError: the model has no texture coordinates.
    """
    size = (texture.shape[-2], texture.shape[-1])
    light = to_uv(rasterize_uv(model, max(size)), model, mouth_light(model)).permute(2, 0, 1)[None]
    light = interpolate(light, size, mode="nearest")[0].to(texture)
    # Nothing of the model lies where the map is 0.
    return texture * torch.where(light > 0, light, torch.ones_like(light)) ** (1 / 2.2)
