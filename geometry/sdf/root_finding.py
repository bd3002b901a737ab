"""The canonical point of an observed one: x + offset(x) = y by Broyden's method, and its gradient without unrolling.

The deformation runs forward only. Broyden's method starts at x = y with the exact inverse Jacobian there and updates
it by rank one (as in SNARF, Chen et al. 2021; the authors' numbers: at most 15 updates, converged below 1e-6, given
up above 0.2). Latents get their gradient by the implicit function theorem: dx = -J⁻¹ d(x + offset).
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor

#: Canonical points -> their offsets. Every point for itself.
Deformation = Callable[[Float[Tensor, "*batch points 3"]], Float[Tensor, "*batch points 3"]]

_STEPS = 15
_CONVERGED = 1e-6
_DIVERGED = 0.2
_GUARD = 1e-6


@dataclass(frozen=True)
class CanonicalPoints:
    """What root finding found."""

    points: Float[Tensor, "*batch points 3"]
    residual: Float[Tensor, "*batch points"]  #: distance between the deformed point and the observed one
    converged: Bool[Tensor, "*batch points"]


def deformation_jacobian(
    offset: Deformation, points: Float[Tensor, "*batch points 3"]
) -> Float[Tensor, "*batch points 3 3"]:
    """d(x + offset(x))/dx, row: output, column: input. By reverse differentiation, detached."""
    with torch.enable_grad():
        at = points.detach().requires_grad_()
        moved = at + offset(at)
        rows = [torch.autograd.grad(moved[..., i].sum(), at, retain_graph=i < 2)[0] for i in range(3)]
    return torch.stack(rows, -2)


@torch.no_grad()
def canonical_points(offset: Deformation, observed: Float[Tensor, "*batch points 3"]) -> CanonicalPoints:
    """Find where observed points come from. No gradient.

    Points that have converged, or strayed by more than 0.2, are not moved again; each keeps the best it has had.
    """
    x = observed.clone()
    inverse = torch.linalg.inv(deformation_jacobian(offset, x))
    error = x + offset(x) - observed
    best, best_error = x.clone(), error.norm(dim=-1)
    step = -_apply(inverse, error)
    active = torch.ones_like(best_error, dtype=torch.bool)
    for _ in range(_STEPS):
        step = step * active.unsqueeze(-1)
        x = x + step
        change = torch.where(active.unsqueeze(-1), x + offset(x) - observed - error, 0.0)
        error = error + change
        size = error.norm(dim=-1)
        better = size < best_error
        best = torch.where(better.unsqueeze(-1), x, best)
        best_error = torch.where(better, size, best_error)
        active = (best_error > _CONVERGED) & (size < _DIVERGED)
        if not bool(active.any()):
            break
        # Broyden's first method: J⁻¹ += (s - J⁻¹ y) (sᵀ J⁻¹) / (sᵀ J⁻¹ y)
        left = (step.unsqueeze(-1) * inverse).sum(-2)
        denominator = (left * change).sum(-1, keepdim=True)
        denominator = denominator + torch.where(denominator >= 0, _GUARD, -_GUARD)
        column = (step - _apply(inverse, change)) / denominator
        update = column.unsqueeze(-1) * left.unsqueeze(-2)
        inverse = inverse + update * active[..., None, None]
        step = -_apply(inverse, error)
    return CanonicalPoints(best, best_error, best_error < _CONVERGED)


def attach_gradient(
    offset: Deformation, canonical: Float[Tensor, "*batch points 3"]
) -> Float[Tensor, "*batch points 3"]:
    """The same points, with the gradient that root finding leaves out: to whatever `offset` depends on but x."""
    fixed = canonical.detach()
    inverse = torch.linalg.inv(deformation_jacobian(offset, fixed))
    moved = offset(fixed)
    return fixed - _apply(inverse, moved - moved.detach())


def _apply(matrix: Float[Tensor, "*batch 3 3"], vector: Float[Tensor, "*batch 3"]) -> Float[Tensor, "*batch 3"]:
    return (matrix @ vector.unsqueeze(-1)).squeeze(-1)
