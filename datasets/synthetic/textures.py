"""Synthetic textures of people: colours of the default albedo model, and pores with their normals.

Pores are drawn at the size that is asked for; how deep they are goes with the skin's tone, so that a model of the
colours can tell them.
"""

from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import avg_pool2d, interpolate

from ...geometry.models.head_model import HeadModel
from ...geometry.texture.default_albedo import default_albedo

_PORES = 0.02  #: of the colours 0..1
_SLOPE = 4.0  #: of the normals, per colour


def synthetic_textures(
    model: HeadModel, size: int, count: int, seed: int = 0
) -> Callable[[int], Float[Tensor, "6 size size"]]:
    """Sample number -> albedo (sRGB 0..1) and normals (tangent space, z about 1), as `build_pyramid` takes them.

    Args:
        model: head model with texture coordinates and regions.
        size: side of the textures, pixels.
        count: how many numbers there are.
        seed: of the people and the pores.
    """
    albedo = default_albedo(model)
    generator = torch.Generator().manual_seed(seed)
    codes = torch.randn(count, albedo.components, generator=generator)
    noise = torch.randn(1, 1, size, size, generator=generator)
    pores = _PORES * (noise - avg_pool2d(noise, 5, 1, 2))[0, 0]

    def sample(i: int) -> Float[Tensor, "6 size size"]:
        colour = interpolate(albedo.texture(codes[i])[None], (size, size), mode="bicubic", align_corners=False)[0]
        depth = pores * (1 + codes[i, 0].clamp(-0.9, 3))
        slope = torch.stack([_SLOPE * depth, _SLOPE * depth.roll(1, 0), torch.ones_like(depth)])
        return torch.cat([(colour.clamp(0, 1) + depth).clamp(0, 1), slope])

    return sample
