"""Training losses of the authors: L_id of identity fields (NPHM and NPM) and L_ex of expression fields.

L_id is implicit geometric regularisation (Gropp et al., "Implicit Geometric Regularization for Learning Shapes",
2020) on an oriented surface whose face counts more than the rest, with the regularisers of NPHM's latents:

    surf_sdf     mean |f| on the surface
    normals      mean |∇f - n| on the face; off the face clamped at 0.75 and halved
    space_sdf    mean exp(-10 |f|) far from the surface: no second surface there
    grad         mean ||∇f| - 1| everywhere
    lat_reg      mean |z|²
    anchors      mean squared error of the predicted anchors
    symm_dist    mean distance between the local latents of mirrored pairs
    middle_dist  the same of neighbours on the mid plane (weight 0 in the released configuration)
"""

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from .layout import EnsembleLayout

#: Points of a batch of heads -> sdf, differentiable twice.
Sdf = Callable[[Float[Tensor, "batch points 3"]], Float[Tensor, "batch points"]]

Terms = dict[str, Float[Tensor, ""]]

_NORMAL_CLAMP = 0.75
_REPULSION = 10.0
#: Side of the cube in which the deformation shall be small.
_CUBE = 2.5


@dataclass(frozen=True)
class IdentityWeights:
    """Weights of L_id as released for NPHM."""

    surf_sdf: float = 2.0
    normals: float = 0.3
    space_sdf: float = 0.01
    grad: float = 0.1
    lat_reg: float = 0.01
    anchors: float = 7.5
    symm_dist: float = 0.01
    middle_dist: float = 0.0

    @classmethod
    def npm(cls) -> "IdentityWeights":
        """As released for NPM, which has no anchors and one latent."""
        return cls(lat_reg=0.002, anchors=0.0, symm_dist=0.0)


@dataclass(frozen=True)
class ExpressionWeights:
    """Weights of L_ex as released for NPHM."""

    corresp: float = 100.0
    lat_reg: float = 5e-5
    loss_reg_zero: float = 5e-5

    @classmethod
    def npm(cls) -> "ExpressionWeights":
        """As released for NPM."""
        return cls(loss_reg_zero=0.0)


@dataclass(frozen=True)
class SurfaceBatch:
    """Samples of a batch of heads, in the field's unit."""

    face: Float[Tensor, "batch face 3"]
    face_normals: Float[Tensor, "batch face 3"]
    rest: Float[Tensor, "batch rest 3"]  #: on the surface, off the face
    rest_normals: Float[Tensor, "batch rest 3"]
    near: Float[Tensor, "batch near 3"]  #: about the surface
    far: Float[Tensor, "batch far 3"]  #: in a ball about the head

    def points(self) -> Float[Tensor, "batch points 3"]:
        """All of them, in this order."""
        return torch.cat([self.face, self.rest, self.near, self.far], -2)


def identity_terms(sdf: Sdf, batch: SurfaceBatch, latent: Float[Tensor, "batch latent"]) -> Terms:
    """The terms of L_id that every field has, of a field that autograd can differentiate twice."""
    points = batch.points().detach().requires_grad_()
    value = sdf(points)
    # Each value depends on its own point alone, so the gradient of the sum holds every point's.
    (gradient,) = torch.autograd.grad(value.sum(), points, create_graph=True)
    return surface_terms(value, gradient, batch, latent)


def surface_terms(
    value: Float[Tensor, "batch points"],
    gradient: Float[Tensor, "batch points 3"],
    batch: SurfaceBatch,
    latent: Float[Tensor, "batch latent"],
) -> Terms:
    """The same from the field's values and gradients at `batch.points()`."""
    sizes = [points.shape[-2] for points in (batch.face, batch.rest, batch.near, batch.far)]
    face, rest, _, far = value.split(sizes, -1)
    face_gradient, rest_gradient, _, _ = gradient.split(sizes, -2)
    face_error = (face_gradient - batch.face_normals).norm(dim=-1)
    rest_error = (rest_gradient - batch.rest_normals).norm(dim=-1).clamp(max=_NORMAL_CLAMP) / 2
    return {
        "surf_sdf": torch.cat([face, rest], -1).abs().mean(),
        "normals": torch.cat([face_error, rest_error], -1).mean(),
        "space_sdf": torch.exp(-_REPULSION * far.abs()).mean(),
        "grad": (gradient.norm(dim=-1) - 1).abs().mean(),
        "lat_reg": latent.square().sum(-1).mean(),
    }


def ensemble_terms(
    layout: EnsembleLayout,
    latent: Float[Tensor, "batch latent"],
    anchors: Float[Tensor, "batch anchors 3"],
    true_anchors: Float[Tensor, "batch anchors 3"],
) -> Terms:
    """The terms of L_id that only a local ensemble has."""
    return {
        "anchors": (anchors - true_anchors).square().mean(),
        "symm_dist": pair_distance(layout, latent),
        "middle_dist": _middle_distance(layout, latent),
    }


def pair_distance(layout: EnsembleLayout, latent: Float[Tensor, "*batch latent"]) -> Float[Tensor, ""]:
    """Mean distance between the local latents of mirrored pairs."""
    _, own = layout.split(latent)
    pairs = own[..., : 2 * layout.pairs, :]
    return _lengths(pairs[..., ::2, :] - pairs[..., 1::2, :]).mean()


def _middle_distance(layout: EnsembleLayout, latent: Float[Tensor, "*batch latent"]) -> Float[Tensor, ""]:
    _, own = layout.split(latent)
    middle = own[..., 2 * layout.pairs : layout.anchors, :]
    count = middle.shape[-2] // 2
    return _lengths(middle[..., 0 : 2 * count : 2, :] - middle[..., 1 : 2 * count : 2, :]).mean()


def _lengths(vectors: Float[Tensor, "*batch size"]) -> Float[Tensor, "*batch"]:
    """Norms whose gradient at 0 is 0 (latents start equal in fitting)."""
    return torch.linalg.vector_norm(vectors, dim=-1)


def expression_terms(
    offsets: Float[Tensor, "batch points 3"],
    neutral: Float[Tensor, "batch points 3"],
    posed: Float[Tensor, "batch points 3"],
    elsewhere: Float[Tensor, "batch space 3"],
    latent: Float[Tensor, "batch ex"],
) -> Terms:
    """L_ex.

    Args:
        offsets: the field at `neutral`.
        neutral: canonical points.
        posed: where they are in the expression.
        elsewhere: the field at points anywhere (`anywhere`), where it shall be small.
        latent: expression latents.
    """
    return {
        "corresp": (neutral + offsets - posed).square().mean(),
        "lat_reg": latent.square().sum(-1).mean(),
        "loss_reg_zero": elsewhere.square().mean(),
    }


def anywhere(uniform: Float[Tensor, "*shape 3"]) -> Float[Tensor, "*shape 3"]:
    """Uniform draws from 0..1 as points of the cube of side 2.5 about the origin."""
    return (uniform - 0.5) * _CUBE


def total(terms: Mapping[str, Tensor], weights: IdentityWeights | ExpressionWeights) -> Float[Tensor, ""]:
    """The weighted sum."""
    factors = asdict(weights)
    parts = [factors[name] * value for name, value in terms.items()]
    return torch.stack(parts).sum()
