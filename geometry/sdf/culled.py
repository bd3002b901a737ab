"""The identity field for training and fitting: only the members that matter at each point, with every gradient.

The same sum as IdentityField.forward's without the terms whose shares are below `share`; a batch of heads at once,
grouped by sets of weights. Differentiable any number of times in points, latents and weights; where first derivatives
are enough, CUDA tensors go through the fused kernels (fused.py).
"""

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from .blend import member_weights, normalised
from .fused import available, fused_members
from .identity import FoldedIdentity
from .mlp import BETA

#: Members below this share are left out in training; the error is about as large times what they say.
SHARE = 1e-5


def culled_sdf(
    head: FoldedIdentity,
    points: Float[Tensor, "*batch points 3"],
    share: float = SHARE,
    *,
    once: bool = False,
    fused: bool | None = None,
) -> Float[Tensor, "*batch points"]:
    """Signed distances of a batch of heads.

    Args:
        head: with the same leading axes as the points.
        points: any.
        share: members below are left out.
        once: first derivatives are all that will be asked for.
        fused: take the fused kernels; None: where `once` allows them and they serve the device.

    Raises:
        RuntimeError: second derivatives were asked of the fused kernels.
    """
    fused = once and available(points) if fused is None else fused
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
    row = which * head.layout.members + member
    flat_place = which * flat.shape[1] + where
    if fused:
        values = fused_members(head, batch, local, row, sizes)
        if head.background_outside:
            values = torch.where(member == head.layout.members - 1, 1.0, values)
        return _blended(values * shares[which, where, member], flat_place, count * flat.shape[1]).view(*batch, -1)
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
        said.append(_members(head, number, local[part], biases, row[part]))
    values = torch.cat(said) if said else local[:, 0]
    return _blended(values * shares[which, where, member], flat_place, count * flat.shape[1]).view(*batch, -1)


def _blended(weighted: Float[Tensor, "pairs"], place: Int[Tensor, "pairs"], count: int) -> Float[Tensor, "points"]:
    return torch.zeros(count, dtype=weighted.dtype, device=weighted.device).index_add(0, place, weighted)


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
