"""An ensemble's signed distance and its gradient to the point, for training: culled, and differentiable once more.

    f = Σ w_k f_k / S,  S = Σ w_k + 1e-6,    ∇f = Σ w_k (∇f_k + f_k p_k) / S - f Σ w_k p_k / S,    p_k = ∇ log w_k

over the members whose share of the blend is not too small. The members' own values and gradients come from
value_gradient.py in one pass, so that the eikonal and the normal loss cost no second differentiation of a graph.
"""

import torch
from jaxtyping import Float, Int
from torch import Tensor

from .blend import BACKGROUND, EPSILON, OFFSET, VARIANCE, member_weights, normalised
from .culled import SHARE
from .identity import FoldedIdentity
from .layout import EnsembleLayout
from .mlp import FoldedMlp
from .value_gradient import value_and_gradient


def ensemble_value_and_gradient(
    head: FoldedIdentity, points: Float[Tensor, "heads n 3"], share: float = SHARE
) -> tuple[Float[Tensor, "heads n"], Float[Tensor, "heads n 3"]]:
    """Signed distances of a batch of heads and their gradients; derivatives go to latents, weights and anchors.

    Args:
        head: folded from latents with one leading axis; the background's value is its network's.
        points: for each head; no derivative goes to them.
        share: members below are left out.
    """
    layout, (heads, count, _) = head.layout, points.shape
    points = points.detach()
    with torch.no_grad():
        shares = normalised(member_weights(points, head.anchors))
        order = torch.argsort(layout.set_of_member(), stable=True).to(points.device)
        place, which, where = (shares >= share).permute(2, 0, 1)[order].nonzero(as_tuple=True)
        member = order[place]
        sizes = torch.bincount(layout.set_of_member().to(points.device)[member], minlength=layout.sets).tolist()
    row, at = which * layout.members + member, which * count + where
    centre = torch.cat([head.anchors, torch.zeros_like(head.anchors[:, :1])], 1).flatten(0, 1)
    offset = points.flatten(0, 1)[at] - centre.index_select(0, row)
    flip = torch.ones(layout.members, 3, dtype=points.dtype, device=points.device)
    flip[layout.mirrored().to(points.device), 0] = -1
    flip = flip[member]
    said, slope = value_and_gradient(head.mlp, offset * flip, sizes, _one_of_each_set(layout), row)

    anchored = (member < layout.anchors).unsqueeze(-1)
    squared = offset.square().sum(-1, keepdim=True)
    apart = squared > 0
    distance = torch.where(apart, squared, 1.0).sqrt()
    reach = distance * apart + OFFSET
    weight = torch.where(anchored, torch.exp(-reach.square() / VARIANCE), BACKGROUND)
    pull = torch.where(anchored & apart, offset * (-2 / VARIANCE * reach / distance), 0.0)
    said = said.unsqueeze(-1)
    parts = torch.cat([weight, weight * said, weight * pull, weight * (slope * flip + said * pull)], -1)
    sums = torch.zeros(heads * count, 8, dtype=points.dtype, device=points.device).index_add(0, at, parts)
    value, mean_pull, gradient = (sums[:, 1:] / (sums[:, :1] + EPSILON)).split([1, 3, 3], -1)
    gradient = gradient - value * mean_pull
    return value.view(heads, count), gradient.view(heads, count, 3)


def network_value_and_gradient(
    mlp: FoldedMlp, points: Float[Tensor, "heads n 3"]
) -> tuple[Float[Tensor, "heads n"], Float[Tensor, "heads n 3"]]:
    """The same of a single network (NPM's), folded from latents with one leading axis."""
    heads, count, _ = points.shape
    row = torch.arange(heads, device=points.device).repeat_interleave(count)
    value, gradient = value_and_gradient(mlp, points.detach().flatten(0, 1), [heads * count], [0], row)
    return value.view(heads, count), gradient.view(heads, count, 3)


def _one_of_each_set(layout: EnsembleLayout) -> list[int]:
    numbers: Int[Tensor, "sets"] = torch.arange(layout.sets)
    return torch.where(numbers < layout.pairs, 2 * numbers, numbers + layout.pairs).tolist()
