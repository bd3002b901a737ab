"""Fit a texture pyramid to what a photo shows of a head: a small texture in, numbers per part of the face out.

    E = Σ w |T(c) - seen|² / σ²  +  λ_tv Σ |∇T(c)|  +  λ_c |c|²       (over the covered texels of the lowest level)

L2, total variation and the coefficients' prior are the energy of "High-Fidelity 3D Digital Human Head Creation from
RGB-D Selfies" (Bao et al. 2021). The total variation is smoothed (Charbonnier), and E minimised by L-BFGS.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from ..errors import HeadlabError
from .pyramid import PartBasis, TexturePyramid
from .unwrap import Unwrapped

_SMOOTH = 0.01  # of the total variation: differences of colour below this count squared


@dataclass(frozen=True)
class PyramidFitConfig:
    """Weights of the energy."""

    noise: float = 0.05  #: standard deviation of seen colours, sRGB: shadows and shine that the light did not explain
    evidence: float = 0.02  #: neighbouring texels tell nearly the same: each counts as so many
    variation: float = 0.02  #: λ_tv, per texel
    prior: float = 1.0  #: λ_c: 1 for coefficients of unit variance
    iterations: int = 60


@dataclass(frozen=True)
class PyramidFit:
    """Numbers for every part, and what they leave."""

    codes: Float[Tensor, "parts comps"]
    error: float  #: root mean squared difference of seen colours at the lowest level
    error_of_mean: float  #: the same of the mean texture
    energy: tuple[float, ...]  #: per evaluation

    def texture(self, pyramid: TexturePyramid, size: int) -> Float[Tensor, "chan size size"]:
        """Maps at a level."""
        return pyramid.texture(self.codes, size)


def fit_pyramid(pyramid: TexturePyramid, seen: Unwrapped, config: PyramidFitConfig | None = None) -> PyramidFit:
    """Fit codes to a texture of the lowest level.

    Args:
        pyramid: whose codes are wanted.
        seen: albedo and trust per texel, of the pyramid's lowest size (`unwrap`).
        config: see `PyramidFitConfig`.

    Raises:
        HeadlabError: another size, or nothing is seen.
    """
    config = config or PyramidFitConfig()
    size = pyramid.sizes[0]
    if seen.weight.shape != (size, size):
        raise HeadlabError(
            f"the pyramid is fitted at {size} pixels, the texture has {seen.weight.shape[-1]}; unwrap at {size}"
        )
    weight = seen.weight.clamp(0, 1).flatten()
    if not bool((weight > 0).any()) or not bool(seen.colour.isfinite().all()):
        raise HeadlabError("the texture shows nothing of the head, or holds numbers that are not finite")
    parts = [_colours(part) for part in pyramid.parts(size)]
    covered = torch.zeros(size * size)
    for part in parts:
        covered[part.texels] = 1
    square = covered.unflatten(0, (size, size))
    across, down = square[:, 1:] * square[:, :-1], square[1:] * square[:-1]
    goal, codes = seen.colour.flatten(1), torch.zeros(len(parts), pyramid.largest, requires_grad=True)
    free = torch.tensor([[k < count for k in range(pyramid.largest)] for count in pyramid.components])

    def drawn() -> Float[Tensor, "3 texels"]:
        out = torch.zeros(3, size * size)
        for code, part in zip(codes, parts, strict=True):
            out = out.index_add(1, part.texels, part.values(code))
        return out

    def energy() -> Tensor:
        texture = drawn()
        data = (weight * (texture - goal).square().sum(0)).sum() * config.evidence / (2 * config.noise**2)
        square = texture.unflatten(1, (size, size))
        variation = (_charbonnier(square.diff(dim=2)) * across).sum() + (_charbonnier(square.diff(dim=1)) * down).sum()
        return data + config.variation * variation + config.prior * codes.square().sum() / 2

    history: list[float] = []
    solver = torch.optim.LBFGS(
        [codes], max_iter=config.iterations, history_size=20, line_search_fn="strong_wolfe", tolerance_change=1e-6
    )

    def closure() -> Tensor:
        solver.zero_grad()
        value = energy()
        value.backward()
        history.append(float(value.detach()))
        return value

    with torch.no_grad():
        start = _error(drawn(), goal, weight)
    with torch.enable_grad():
        solver.step(closure)  # type: ignore[arg-type]
    with torch.no_grad():
        found = torch.where(free, codes.detach(), 0.0)
        return PyramidFit(found, _error(drawn(), goal, weight), start, tuple(history))


def _colours(part: PartBasis) -> PartBasis:
    """The first three channels alone."""
    return PartBasis(part.texels, part.share, part.mean[:3], part.basis[:, :3].contiguous())


def _charbonnier(x: Float[Tensor, "chan height width"]) -> Float[Tensor, "height width"]:
    """|x| over the channels, smoothed near 0."""
    return (x.square().sum(0) + _SMOOTH**2).sqrt() - _SMOOTH


def _error(texture: Tensor, goal: Tensor, weight: Tensor) -> float:
    return float(((weight * (texture - goal).square().mean(0)).sum() / weight.sum()).sqrt())
