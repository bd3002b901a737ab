"""IdentityField: NPHM's identity network, an ensemble of local MLPs around anchors, blended into one sdf.

    latent ──> z_glob ──> anchors = mean + MLP(z_glob)
          └──> z_k    ──> member k:  f_k(F_k (x - a_k); z_glob, z_k),  F_k mirrors x for the odd member of a pair
                          sdf(x) = Σ_k share_k(x) f_k(x)

Units are the authors': one is 250 mm of FLAME (FLAME's metres times 4); x to the subject's left, y up, z out of the
face; inside negative. The sdf is a distance only near the anchors (blend.py).
"""

from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from .blend import member_weights, normalised
from .layout import EnsembleLayout
from .mlp import BETA, FoldedMlp, fold


@dataclass(frozen=True)
class IdentityConfig:
    """Sizes; the defaults are the released model's."""

    layout: EnsembleLayout = field(default_factory=EnsembleLayout)
    hidden: int = 200
    layers: int = 4
    anchor_hidden: int = 256


@dataclass(frozen=True)
class FoldedIdentity:
    """The field of one head (or a batch): latents folded into biases, anchors placed."""

    layout: EnsembleLayout
    mlp: FoldedMlp
    anchors: Float[Tensor, "*batch anchors 3"]
    background_outside: bool  #: the background's value is 1 instead of its network's


class EnsembleLinear(nn.Module):
    """One linear layer for every set of weights."""

    def __init__(self, sets: int, inputs: int, outputs: int) -> None:
        super().__init__()
        bound = inputs**-0.5
        self.weight = nn.Parameter(torch.empty(sets, outputs, inputs).uniform_(-bound, bound))
        self.bias = nn.Parameter(torch.empty(sets, outputs).uniform_(-bound, bound))


class EnsembleMlp(nn.Module):
    """The members' weights, with the authors' names."""

    def __init__(self, config: IdentityConfig) -> None:
        super().__init__()
        layout = config.layout
        inputs = 3 + layout.latent_global + layout.latent_local
        sizes = [inputs, *[config.hidden] * config.layers, 1]
        self.depth = config.layers + 1
        for number in range(self.depth):
            narrower = inputs if number + 1 == config.layers // 2 else 0
            layer = EnsembleLinear(layout.sets, sizes[number], sizes[number + 1] - narrower)
            setattr(self, f"lin{number}", layer)

    def linear(self, number: int) -> EnsembleLinear:
        return getattr(self, f"lin{number}")


class IdentityField(nn.Module):
    """NPHM's identity network. Parameter names are the authors'; the mean anchors are in no checkpoint of theirs."""

    mean_anchors: Float[Tensor, "anchors 3"]

    def __init__(self, config: IdentityConfig, mean_anchors: Float[Tensor, "anchors 3"]) -> None:
        """Args:
        config: sizes.
        mean_anchors: average positions, in the layout's order.

        Raises:
            ValueError: another number of anchors than the layout has.
        """
        super().__init__()
        layout = config.layout
        if tuple(mean_anchors.shape) != (layout.anchors, 3):
            raise ValueError(f"the layout has {layout.anchors} anchors of 3 numbers, not {tuple(mean_anchors.shape)}")
        self.config = config
        self.ensembled_deep_sdf = EnsembleMlp(config)
        width = config.anchor_hidden
        self.mlp_pos = nn.Sequential(
            nn.Linear(layout.latent_global, width),
            nn.ReLU(),
            nn.Linear(width, width),
            nn.ReLU(),
            nn.Linear(width, layout.anchors * 3),
        )
        self.register_buffer("mean_anchors", mean_anchors.clone(), persistent=False)

    @property
    def layout(self) -> EnsembleLayout:
        return self.config.layout

    def anchors(self, latent: Float[Tensor, "*batch latent"]) -> Float[Tensor, "*batch anchors 3"]:
        """Where this head's anchors lie."""
        shared, _ = self.layout.split(latent)
        return self.mean_anchors + self.mlp_pos(shared).unflatten(-1, (self.layout.anchors, 3))

    def folded(self, latent: Float[Tensor, "*batch latent"], background_outside: bool = False) -> FoldedIdentity:
        """The field of given heads, ready to be asked at points. Differentiable in latents and weights.

        Args:
            latent: identity latents.
            background_outside: the background's value is 1, "always outside", as the authors' code means to have it
                after training; their released numbers use the network (at most 0.0021 apart).
        """
        shared, own = self.layout.split(latent)
        glob, loc = self.layout.latent_global, self.layout.latent_local
        linears = [self.ensembled_deep_sdf.linear(i) for i in range(self.ensembled_deep_sdf.depth)]
        device = latent.device
        mlp = fold(
            [layer.weight for layer in linears],
            [layer.bias for layer in linears],
            self.layout.set_of_member().to(device),
            [slice(0, 3)],
            [
                (slice(3, 3 + glob), shared.unsqueeze(-2).expand(*own.shape[:-1], glob)),
                (slice(3 + glob, 3 + glob + loc), own),
            ],
        )
        return FoldedIdentity(self.layout, mlp, self.anchors(latent), background_outside)

    def forward(
        self,
        points: Float[Tensor, "*#batch points 3"],
        latent: Float[Tensor, "*#batch latent"],
        *,
        background_outside: bool = False,
        upstream_eval_slip: bool = False,
    ) -> Float[Tensor, "*batch points"]:
        """Signed distance by every member, dense: the reference for the faster ways (fast.py, culled.py).

        Args:
            points: any number of them; leading axes broadcast against the latents'.
            latent: identity latents.
            background_outside: see `folded`.
            upstream_eval_slip: reproduce the authors' evaluation mode, which means to set the background member to 1
                but sets all members of the last point instead.
        """
        head = self.folded(latent, background_outside)
        values = member_values(head, points)
        if upstream_eval_slip:
            last = torch.arange(values.shape[-2], device=values.device) == values.shape[-2] - 1
            values = torch.where(last[:, None], torch.ones_like(values), values)
        return (normalised(member_weights(points, head.anchors)) * values).sum(-1)


def local_coordinates(
    head: FoldedIdentity, points: Float[Tensor, "*batch points 3"]
) -> Float[Tensor, "*batch members points 3"]:
    """Points in each member's own frame: about its anchor, mirrored where it is the second of a pair."""
    anchors = torch.cat([head.anchors, torch.zeros_like(head.anchors[..., :1, :])], -2)
    local = points.unsqueeze(-3) - anchors.unsqueeze(-2)
    flip = torch.ones(head.layout.members, 1, 3, dtype=points.dtype, device=points.device)
    flip[head.layout.mirrored().to(points.device), 0, 0] = -1
    return local * flip


def member_values(
    head: FoldedIdentity, points: Float[Tensor, "*#batch points 3"]
) -> Float[Tensor, "*batch points members"]:
    """What every member says at every point, before blending. Differentiable, any number of times."""
    inputs = local_coordinates(head, points)
    sets = head.layout.set_of_member().to(points.device)
    hidden = inputs
    for number, layer in enumerate(head.mlp.layers):
        if number == head.mlp.skip:
            hidden = torch.cat([hidden, inputs.expand(*hidden.shape[:-1], 3)], -1)
        hidden = hidden @ layer.weight[sets] + layer.bias.unsqueeze(-2)
        if number < len(head.mlp.layers) - 1:
            hidden = F.softplus(hidden, BETA)
    values = hidden.squeeze(-1).mT
    if head.background_outside:
        values = torch.cat([values[..., :-1], torch.ones_like(values[..., -1:])], -1)
    return values
