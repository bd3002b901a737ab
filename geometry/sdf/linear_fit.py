"""Fit a linear model of heads to points: iterated closest points, Gauss-Newton on point to plane, Gaussian prior.

    Σ (n · (S(β, ψ) - y) / σ)² + (share of the tangential part) + |β|² + |ψ|²

Points keep their place: clouds are in the model's frame already, as for the fields.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from ..errors import HeadlabError
from ..raster import closest_point
from .extract import mesh_normals
from .linear_heads import LinearHeads


@dataclass(frozen=True)
class LinearFitConfig:
    """σ shrinks from round to round, so that the prior lets go as the pairs become right."""

    noise: tuple[float, ...] = (0.02, 0.012, 0.008, 0.005, 0.003, 0.002, 0.002, 0.002)  #: σ per round, field units
    tangential: float = 0.1  #: weight of the distance along the surface against that across it
    sliding: float = 0.004  #: while σ is above this; then pairs may slide freely
    prior: float = 1.0  #: weight of the prior
    reach: float = 6.0  #: pairs farther apart than so many σ are left out


@dataclass(frozen=True)
class LinearFit:
    """Coefficients."""

    identity: Float[Tensor, "shape"]
    expressions: Float[Tensor, "clouds expr"] | None


@torch.no_grad()
def fit_linear(
    model: LinearHeads,
    clouds: list[Float[Tensor, "_ 3"]],
    config: LinearFitConfig,
    *,
    posed: bool = False,
) -> LinearFit:
    """One person's coefficients from clouds of one or some expressions.

    Args:
        model: global or local.
        clouds: points in the fields' frame.
        config: settings.
        posed: fit an expression for every cloud; otherwise all are canonical.

    Raises:
        HeadlabError: no clouds or empty ones.
    """
    if not clouds or any(len(cloud) == 0 for cloud in clouds):
        raise HeadlabError("there are no points to fit to; give at least one cloud of them")
    shapes, poses = model.identity.shape[-1], model.expression.shape[-1] if posed else 0
    size = shapes + len(clouds) * poses
    values = torch.zeros(size, dtype=torch.float64)
    for noise in config.noise:
        normal = torch.eye(size, dtype=torch.float64) * config.prior
        right = -config.prior * values
        for number, cloud in enumerate(clouds):
            own = slice(shapes + number * poses, shapes + (number + 1) * poses)
            expression = values[own].float() if posed else None
            vertices = model.vertices(values[:shapes].float(), expression)
            distance, face, bary = closest_point(vertices, model.faces, cloud)
            corners = model.faces[face.long()]
            kept = distance < config.reach * noise
            corners, bary, goal = corners[kept], bary[kept], cloud[kept]
            normals = mesh_normals(vertices, model.faces)
            across = torch.nn.functional.normalize((normals[corners] * bary[..., None]).sum(1), dim=-1)
            missing = goal - (vertices[corners] * bary[..., None]).sum(1)
            basis = (model.identity[corners] * bary[..., None, None]).sum(1)
            if posed:
                basis = torch.cat([basis, (model.expression[corners] * bary[..., None, None]).sum(1)], -1)
            rows = torch.einsum("nck,nc->nk", basis, across) / noise
            goals = (missing * across).sum(-1) / noise
            matrix, vector = rows.mT @ rows, rows.mT @ goals
            if noise > config.sliding:
                along = config.tangential / noise
                side = missing - across * (missing * across).sum(-1, keepdim=True)
                turned = (basis - across[..., None] * (rows * noise)[:, None]).flatten(0, 1)
                matrix = matrix + along**2 * turned.mT @ turned
                vector = vector + along**2 * turned.mT @ side.flatten()
            where = (
                torch.cat([torch.arange(shapes), torch.arange(own.start, own.stop)]) if posed else torch.arange(size)
            )
            normal[where[:, None], where] += matrix.double()
            right[where] += vector.double()
        values = values + torch.linalg.solve(normal, right)
    found = values.float()
    return LinearFit(found[:shapes], found[shapes:].view(len(clouds), poses) if posed else None)
