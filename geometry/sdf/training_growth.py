"""A trained identity field made larger without changing what it says, so that a longer training need not begin anew.

As in Chen et al., "Net2Net: Accelerating Learning via Knowledge Transfer" (2016): old units keep their weights and see
nothing of new ones, new units see everything, and nobody listens to them yet. Latents get numbers that only new units
see.
"""

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from ..errors import HeadlabError
from .identity import IdentityField
from .layout import EnsembleLayout
from .training_loop import random_start


@torch.no_grad()
def widened(
    field: IdentityField,
    latents: Float[Tensor, "heads latent"],
    fresh: IdentityField,
    generator: torch.Generator,
) -> Float[Tensor, "heads wide"]:
    """Put a trained field into a larger one: the same surfaces, more to train.

    Args:
        field: trained.
        latents: of its heads.
        fresh: at least as large in every number, of as many layers and members; changed in place.
        generator: for the latents' new numbers.

    Returns:
        Latents of the same heads for `fresh`.

    Raises:
        HeadlabError: `fresh` is smaller somewhere, or has other layers or anchors.
    """
    old, new = field.layout, fresh.layout
    sizes = [
        (fresh.config.hidden, field.config.hidden),
        (fresh.config.anchor_hidden, field.config.anchor_hidden),
        (new.latent_global, old.latent_global),
        (new.latent_local, old.latent_local),
    ]
    same = (new.anchors, new.pairs, fresh.config.layers) == (old.anchors, old.pairs, field.config.layers)
    if not same or any(wide < narrow for wide, narrow in sizes):
        raise HeadlabError("a field only grows: give as many layers and anchors, and no fewer units and latents")
    fresh.mean_anchors.copy_(field.mean_anchors)
    inputs = torch.cat([torch.arange(3), 3 + _kept(old, new, members=1)])
    deep, small = fresh.ensembled_deep_sdf, field.ensembled_deep_sdf
    wide_inputs, skip = 3 + new.latent_global + new.latent_local, (small.depth - 1) // 2
    for number in range(small.depth):
        ours, theirs = deep.linear(number), small.linear(number)
        columns = inputs if number == 0 else torch.arange(theirs.weight.shape[-1])
        if number == skip:
            hidden = theirs.weight.shape[-1] - len(inputs)
            columns = torch.cat([torch.arange(hidden), ours.weight.shape[-1] - wide_inputs + inputs])
        _copied(ours.weight, ours.bias, theirs.weight, theirs.bias, columns)
    for ours, theirs in zip(fresh.mlp_pos, field.mlp_pos, strict=True):
        if isinstance(ours, nn.Linear) and isinstance(theirs, nn.Linear):
            # The last layer's outputs are all old; the first one's old inputs come first.
            columns = torch.arange(theirs.in_features)
            _copied(ours.weight, ours.bias, theirs.weight, theirs.bias, columns)
    codes = random_start(len(latents), new.latent, generator).to(latents)
    codes[:, _kept(old, new, members=new.members)] = latents
    return codes


def _kept(old: EnsembleLayout, new: EnsembleLayout, members: int) -> Int[Tensor, "_"]:
    """Where the old numbers of a latent (of so many members) stand in the new one."""
    own = new.latent_local * torch.arange(members)[:, None] + torch.arange(old.latent_local)
    return torch.cat([torch.arange(old.latent_global), new.latent_global + own.flatten()])


def _copied(weight: Tensor, bias: Tensor, old: Tensor, old_bias: Tensor, columns: Tensor) -> None:
    rows = old.shape[-2]
    weight[..., :rows, :] = 0.0
    weight[..., :rows, columns] = old
    bias[..., :rows] = old_bias
