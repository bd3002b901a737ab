"""Depth without its noise: bilateral filter within a frame, robust averages over frames, and no flying pixels."""

import math
from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import pad

from ..errors import HeadlabError


def bilateral_filter(
    depth: Float[Tensor, "height width"], *, radius: int = 3, spread_pixels: float = 1.5, spread_depth: float = 0.006
) -> Float[Tensor, "height width"]:
    """Smooth within surfaces, keep edges and holes (Tomasi and Manduchi 1998).

    Args:
        depth: metres, 0 = none.
        radius: of the window, pixels.
        spread_pixels: standard deviation of the weight over the picture.
        spread_depth: and over depth, metres: a few times the noise.
    """
    if radius < 1:
        return depth
    height, width = depth.shape
    padded = pad(depth[None, None], (radius,) * 4)[0, 0]
    total, sums = torch.zeros_like(depth), torch.zeros_like(depth)
    for dy in range(-radius, radius + 1):
        for dx in range(-radius, radius + 1):
            other = padded[radius + dy : radius + dy + height, radius + dx : radius + dx + width]
            near = math.exp(-(dy * dy + dx * dx) / (2 * spread_pixels**2))
            difference = other - depth
            weight = near * torch.exp(-(difference / spread_depth).square() / 2) * (other > 0)
            total += weight
            sums += weight * difference
    return torch.where(depth > 0, depth + sums / total.clamp(min=1e-9), 0.0)


def temporal_filter(
    depths: Sequence[Float[Tensor, "height width"]], *, reach: int = 2, spread: float = 0.008, fill: bool = True
) -> list[Float[Tensor, "height width"]]:
    """Average every frame with its neighbours in time, pixel by pixel, where they show the same surface.

    Args:
        depths: frames of one still camera, metres, 0 = none.
        reach: frames on either side.
        spread: depths that differ by more from the frame's own, or from the neighbours' median where it has none, are
            of another surface, metres.
        fill: pixels without depth take the neighbours' where two of them agree.

    Raises:
        HeadlabError: the frames differ in size.
    """
    if len({tuple(depth.shape) for depth in depths}) > 1:
        raise HeadlabError("frames of different sizes cannot be averaged over time; give frames of one camera")
    out = []
    for i, own in enumerate(depths):
        near = torch.stack([depths[j] for j in range(max(0, i - reach), min(len(depths), i + reach + 1))])
        known = near > 0
        middle = torch.where(known, near, torch.nan).nanmedian(0).values.nan_to_num(0)
        centre = torch.where(own > 0, own, middle if fill else torch.zeros_like(own))
        agrees = known & ((near - centre).abs() < spread)
        count = agrees.sum(0)
        mean = (near * agrees).sum(0) / count.clamp(min=1)
        enough = torch.where(own > 0, count >= 1, count >= 2) & (centre > 0)
        out.append(torch.where(enough, mean, 0.0))
    return out


def without_flying_pixels(
    depth: Float[Tensor, "height width"], *, jump: float = 0.015, fewest: int = 3
) -> Float[Tensor, "height width"]:
    """Drop pixels that hang in the air between two surfaces: fewer than `fewest` of 8 neighbours within `jump`."""
    height, width = depth.shape
    padded = pad(depth[None, None], (1,) * 4)[0, 0]
    count = torch.zeros_like(depth)
    for dy in range(3):
        for dx in range(3):
            if (dy, dx) != (1, 1):
                other = padded[dy : dy + height, dx : dx + width]
                count += (other > 0) & ((other - depth).abs() < jump)
    return torch.where(count >= fewest, depth, 0.0)
