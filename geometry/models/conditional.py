"""The rest of a head given a part of it: a linear model with unit Gaussian coefficients, conditioned on vertices.

β | observed is Gaussian with precision 1 + Bᵀ B / σ² (Albrecht et al., "Posterior shape models", 2013); unseen parts
are its mean, and their spread says how much the seen part tells about them.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from ..errors import HeadlabError
from .head_model import HeadModel


@dataclass(frozen=True)
class Completion:
    """A whole head."""

    shape: Float[Tensor, "shape"]  #: conditional mean of β
    vertices: Float[Tensor, "verts 3"]  #: expressionless, unposed; the model's everywhere, metres
    spread: Float[Tensor, "verts"]  #: standard deviation of each vertex' place given what was seen, metres
    prior_spread: Float[Tensor, "verts"]  #: the same before anything was seen


def complete_head(
    model: HeadModel,
    vertices: Float[Tensor, "verts 3"],
    known: Bool[Tensor, "verts"],
    noise: float = 0.001,
) -> Completion:
    """Extend a known region (say, a reconstructed face) to the whole head.

    Args:
        model: its first-order statistics are used: β ~ N(0, 1).
        vertices: places of the known vertices in the model's frame, expressionless; others are not looked at.
        known: which these are.
        noise: standard deviation of the known places, metres; what the model cannot express counts as noise, too.

    Raises:
        HeadlabError: nothing is known.
    """
    if int(known.sum()) < 3:
        raise HeadlabError(f"only {int(known.sum())} vertices are known; a head needs a face to be completed from")
    template, basis = model.template.double(), model.shape_basis.double()
    seen = basis[known].flatten(0, 1)
    right = (vertices.double() - template)[known].flatten()
    precision = seen.mT @ seen / noise**2 + torch.eye(model.shapes, dtype=torch.float64)
    factor = torch.linalg.cholesky(precision)
    shape = torch.cholesky_solve((seen.mT @ right / noise**2)[:, None], factor)[:, 0]
    whole = template + basis @ shape
    root = torch.linalg.solve_triangular(factor, basis.flatten(0, 1).mT, upper=False)  # shape, verts * 3
    spread = root.square().sum(0).unflatten(0, (-1, 3)).sum(-1).sqrt()
    prior = basis.square().sum((1, 2)).sqrt()
    like = model.template
    return Completion(shape.to(like), whole.to(like), spread.to(like), prior.to(like))
