"""Light and skin colour of a fixed head, by alternating robust least squares.

A pixel is albedo(code) x shading(light): linear in either one. Outliers (hair, glasses, highlights) are weighed down
by the Geman-McClure function.
"""

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from ..raster import sh_basis

#: The constant harmonic.
_AMBIENT = 1 / math.sqrt(4 * math.pi)


@dataclass(frozen=True)
class Samples:
    """Pixels of one photo that see the face."""

    colour: Float[Tensor, "pixels 3"]
    normal: Float[Tensor, "pixels 3"]
    mean: Float[Tensor, "pixels 3"]  #: mean albedo under each pixel
    basis: Float[Tensor, "pixels 3 comps"]  #: albedo basis under each pixel
    weight: Float[Tensor, "pixels"]


def geman_mcclure_weight(residual: Float[Tensor, "*pixels 3"], scale: float) -> Float[Tensor, "*pixels"]:
    """Weights of iteratively reweighted least squares for rho = s^2 r^2 / (s^2 + r^2)."""
    square = residual.square().sum(-1) / scale**2
    return 1 / (1 + square) ** 2


def geman_mcclure(residual: Float[Tensor, "*pixels 3"], scale: float) -> Float[Tensor, "*pixels"]:
    """rho = s^2 r^2 / (s^2 + r^2): r^2 for small residuals, never more than s^2."""
    square = residual.square().sum(-1)
    return square / (1 + square / scale**2)


def solve_light_albedo(
    photos: list[Samples],
    code: Float[Tensor, "comps"],
    lights: Float[Tensor, "photos 9 3"] | None = None,
    *,
    rounds: int = 4,
    scale: float = 0.12,
    widening: float | int = 1.0,
    light_prior: float = 2e-3,
    albedo_prior: float = 1e-4,
) -> tuple[Float[Tensor, "comps"], Float[Tensor, "photos 9 3"]]:
    """Albedo code shared by all photos and a light for each.

    Args:
        photos: pixels of each photo.
        code: starting albedo code (zeros: the mean).
        lights: starting lights; white ambient light where absent.
        rounds: alternations.
        scale: residual (colour, 0..1) from which a pixel counts as an outlier.
        widening: factor on it in the first round, halved in each until it is 1. From a start far off (a dark or
            coloured photo) everything looks like an outlier otherwise (Blake and Zisserman, "Visual
            Reconstruction", 1987: graduated non-convexity).
        light_prior: weight per pixel of bands 1 and 2 against ambient light, and of coloured against white light.
        albedo_prior: weight per pixel of |code|^2.
    """
    if lights is None:
        lights = code.new_zeros(len(photos), 9, 3)
        lights[:, 0] = 1 / _AMBIENT
    lights = lights.clone()
    size = len(code)
    final = scale
    for done in range(rounds):
        scale = final * max(1.0, widening * 0.5**done)
        normal_matrix = code.new_zeros(size, size)
        right = code.new_zeros(size)
        total = 0.0
        for i, photo in enumerate(photos):
            albedo = photo.mean + photo.basis @ code
            harmonics = sh_basis(photo.normal)
            weight = photo.weight * geman_mcclure_weight(photo.colour - albedo * (harmonics @ lights[i]), scale)
            lights[i] = _solve_light(photo.colour, albedo, harmonics, weight, light_prior)
            shading = harmonics @ lights[i]
            weight = photo.weight * geman_mcclure_weight(photo.colour - albedo * shading, scale)
            rows = (photo.basis * shading[..., None]).flatten(0, 1)
            target = (photo.colour - photo.mean * shading).flatten()
            weighted = rows * weight.repeat_interleave(3)[:, None]
            normal_matrix += rows.mT @ weighted
            right += weighted.mT @ target
            total += float(weight.sum())
        ridge = albedo_prior * max(total, 1.0) * torch.eye(size, dtype=code.dtype)
        code = torch.linalg.solve(normal_matrix + ridge, right)
    return code, lights


def _solve_light(
    colour: Float[Tensor, "pixels 3"],
    albedo: Float[Tensor, "pixels 3"],
    harmonics: Float[Tensor, "pixels 9"],
    weight: Float[Tensor, "pixels"],
    prior: float,
) -> Float[Tensor, "9 3"]:
    """Ridge regression towards light without direction, of the colour of the average light."""
    total = weight.sum().clamp(min=1.0)
    grey = (colour * weight[:, None]).sum(0) / (albedo * weight[:, None]).sum(0).clamp(min=1e-6)
    ambient = torch.lerp(grey, grey.mean().expand(3), 0.5) / _AMBIENT
    out = []
    for channel in range(3):
        rows = harmonics * albedo[:, channel : channel + 1]
        weighted = rows * weight[:, None]
        pull = harmonics.new_full((9,), prior) * total
        pull[0] = 0.2 * prior * total
        expected = torch.zeros_like(pull)
        expected[0] = ambient[channel]
        matrix = rows.mT @ weighted + torch.diag(pull)
        out.append(torch.linalg.solve(matrix, weighted.mT @ colour[:, channel] + pull * expected))
    return torch.stack(out, -1)
