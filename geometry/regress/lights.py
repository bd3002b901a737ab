"""Point and directional lights, as DECA's renderer has them (its spherical harmonics are `raster.shade_sh`)."""

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import normalize

#: Five white lights that DECA shows shapes under: directions towards them.
SHOW_DIRECTIONS = ((-1.0, 1.0, 1.0), (1.0, 1.0, 1.0), (-1.0, -1.0, 1.0), (1.0, -1.0, 1.0), (0.0, 0.0, 1.0))
SHOW_INTENSITY = 1.7


def point_lights(
    points: Float[Tensor, "*batch n 3"], normals: Float[Tensor, "*batch n 3"], lights: Float[Tensor, "*batch lights 6"]
) -> Float[Tensor, "*batch n 3"]:
    """Mean light from some places, without fall-off.

    A light behind the surface counts negative: upstream does not clamp here.

    Args:
        points: lit places.
        normals: unit normals there.
        lights: position, then RGB intensity.
    """
    towards = normalize(lights[..., :, None, :3] - points[..., None, :, :], dim=-1)
    return _mean_light((normals.unsqueeze(-3) * towards).sum(-1), lights)


def directional_lights(
    normals: Float[Tensor, "*batch n 3"], lights: Float[Tensor, "*#batch lights 6"]
) -> Float[Tensor, "*batch n 3"]:
    """Mean light from some directions; what comes from behind is dark.

    Args:
        normals: unit normals.
        lights: direction towards the light, any length, then RGB intensity.
    """
    towards = normalize(lights[..., :3], dim=-1)
    return _mean_light((towards @ normals.mT).clamp(0, 1), lights)


def show_lights(like: Tensor) -> Float[Tensor, "5 6"]:
    """The lights DECA shows shapes under."""
    directions = like.new_tensor(SHOW_DIRECTIONS)
    return torch.cat([directions, torch.full_like(directions, SHOW_INTENSITY)], -1)


def _mean_light(cosine: Float[Tensor, "*batch lights n"], lights: Float[Tensor, "*#batch lights 6"]):
    return (cosine.unsqueeze(-1) * lights[..., :, None, 3:]).mean(-3)
