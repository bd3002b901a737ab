"""Turning and dimming the light of a fit. Spherical harmonics of degree 2 are closed under rotation."""

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import normalize

from ...diffusion.conditions import STUDIO_LIGHT
from ...geometry.raster import sh_basis
from ...geometry.rodrigues import rotvec_to_rotmat

#: For heads whose light was not fitted.
STUDIO = STUDIO_LIGHT


@dataclass(frozen=True)
class LightEdit:
    """What is done to a light."""

    turn: float = 0.0  #: radians about the world's up, towards +X: the subject's left
    rise: float = 0.0  #: radians about the world's left-right axis, upwards
    brightness: float = 1.0  #: factor
    warmth: float = 0.0  #: -1 bluish .. 1 reddish


def edited_light(light: Float[Tensor, "9 3"] | None, edit: LightEdit) -> Float[Tensor, "9 3"]:
    """The light turned, dimmed and tinted; a studio light where there is none."""
    out = torch.tensor(STUDIO).expand(9, 3) if light is None else light
    if edit.turn or edit.rise:
        turn = rotvec_to_rotmat(out.new_tensor([0.0, edit.turn, 0.0]))
        rise = rotvec_to_rotmat(out.new_tensor([-edit.rise, 0.0, 0.0]))
        out = rotated_light(out, turn @ rise)
    tint = out.new_tensor([1 + 0.35 * edit.warmth, 1.0, 1 - 0.35 * edit.warmth])
    return out * tint * edit.brightness


def rotated_light(light: Float[Tensor, "9 3"], rotation: Float[Tensor, "3 3"]) -> Float[Tensor, "9 3"]:
    """The light that comes along R n as the given one comes along n.

    Solved on many directions: exact, since rotating a polynomial of degree 2 on the sphere gives another.
    """
    directions = _directions().to(light)
    seen = sh_basis(directions @ rotation) @ light  # row n holds L(Rᵀ n)
    return torch.linalg.lstsq(sh_basis(directions).double(), seen.double()).solution.to(light)


def _directions(count: int = 64) -> Float[Tensor, "count 3"]:
    """Unit vectors spread over the sphere along a golden spiral."""
    k = torch.arange(count, dtype=torch.float64)
    z = 1 - (2 * k + 1) / count
    angle = k * math.pi * (3 - math.sqrt(5))
    ring = (1 - z * z).sqrt()
    return normalize(torch.stack([ring * angle.cos(), ring * angle.sin(), z], -1), dim=-1)
