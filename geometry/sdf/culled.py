"""The identity field for training and fitting: only the members that matter at each point, with every gradient.

The same sum as IdentityField.forward's without the terms whose shares are below `share`; a batch of heads at once,
grouped by sets of weights. Differentiable any number of times in points, latents and weights: the eikonal loss needs
second derivatives.
"""

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from .blend import member_weights, normalised
from .identity import FoldedIdentity
from .mlp import BETA

#: Members below this share are left out in training; the error is about as large times what they say.
SHARE = 1e-5


def culled_sdf(
    head: FoldedIdentity, points: Float[Tensor, "*batch points 3"], share: float = SHARE
) -> Float[Tensor, "*batch points"]:
    """Signed distances of a batch of heads.

    Args:
        head: with the same leading axes as the points.
        points: any.
        share: members below are left out.
    """
    batch = points.shape[:-2]
    count = batch.numel()
    flat = points.reshape(count, *points.shape[-2:])
    anchors = head.anchors.expand(*batch, *head.anchors.shape[-2:]).reshape(count, -1, 3)
    shares = normalised(member_weights(flat, anchors))
    # Sorted by member, then by head and point.
    kept = (shares.detach() >= share).permute(2, 0, 1)
    member, which, where = kept.nonzero(as_tuple=True)
    sets = head.layout.set_of_member().to(points.device)
    order = torch.argsort(sets[member], stable=True)
    member, which, where = member[order], which[order], where[order]
    sizes = torch.bincount(sets[member], minlength=head.layout.sets).tolist()

    centre = torch.cat([anchors, torch.zeros_like(anchors[:, :1])], 1)
    flip = torch.ones(head.layout.members, 3, dtype=points.dtype, device=points.device)
    flip[head.layout.mirrored().to(points.device), 0] = -1
    local = (flat[which, where] - centre[which, member]) * flip[member]
    biases = [_rows(layer.bias, batch) for layer in head.mlp.layers]
    said = []
    start = 0
    for number, size in enumerate(sizes):
        part = slice(start, start + size)
        start += size
        if size == 0:
            continue
        if head.background_outside and number == head.layout.sets - 1:
            said.append(torch.ones_like(local[part, 0]))
            continue
        row = which[part] * head.layout.members + member[part]
        said.append(_members(head, number, local[part], biases, row))
    values = torch.cat(said) if said else local[:, 0]
    weighted = values * shares[which, where, member]
    sums = torch.zeros(count * flat.shape[1], dtype=points.dtype, device=points.device)
    return sums.index_add(0, which * flat.shape[1] + where, weighted).view(*batch, flat.shape[1])


def _rows(bias: Float[Tensor, "*some members out"], batch: torch.Size) -> Float[Tensor, "rows out"]:
    """A layer's biases, one row for each head and member, or one for each member where heads share them."""
    if bias.ndim == 2:
        return bias
    return bias.expand(*batch, *bias.shape[-2:]).reshape(-1, bias.shape[-1])


def _members(
    head: FoldedIdentity,
    number: int,
    inputs: Float[Tensor, "pairs 3"],
    biases: list[Tensor],
    row: Int[Tensor, "pairs"],
) -> Float[Tensor, "pairs"]:
    """One set of weights at its points."""
    hidden = inputs
    last = len(head.mlp.layers) - 1
    for depth, layer in enumerate(head.mlp.layers):
        if depth == head.mlp.skip:
            hidden = torch.cat([hidden, inputs], -1)
        bias = biases[depth]
        per_head = bias.shape[0] != head.layout.members
        if per_head or depth in (0, head.mlp.skip):
            # Latents make these differ between members of one set.
            hidden = hidden @ layer.weight[number] + bias[row if per_head else row % head.layout.members]
        else:
            hidden = torch.addmm(bias[_a_member(head, number)], hidden, layer.weight[number])
        if depth < last:
            hidden = F.softplus(hidden, BETA)
    return hidden.squeeze(-1)


def _a_member(head: FoldedIdentity, number: int) -> int:
    """One of the members that use a set of weights: they share the biases that no latent enters."""
    return 2 * number if number < head.layout.pairs else number + head.layout.pairs
