"""ExpressionField: NPHM's forward deformation, from a canonical head to a posed one, aware of who it is.

    x_posed = x + MLP(x; condition(identity), z_ex)

The canonical head is neutral with the mouth open. What the network is told of the identity is the mode:

    compress      one linear layer of [latent, anchors] (the released model)
    glob_only     z_glob
    expr_only     nothing
    interpolate   z_glob and the local latents, blended at the point like the members of the identity field
    GNN           an MLP of z_glob and of every z_k with its anchor's encoded position
"""

from dataclasses import dataclass, field
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn

from .blend import anchor_weights, normalised
from .layout import EnsembleLayout
from .mlp import DeepSDF, FoldedMlp, run_single

Mode = Literal["compress", "glob_only", "expr_only", "interpolate", "GNN"]

#: Standard deviation of the noise on the compressed code in training.
CODE_NOISE = 1 / 200


@dataclass(frozen=True)
class ExpressionConfig:
    """Sizes; the defaults are the released model's."""

    mode: Mode = "compress"
    layout: EnsembleLayout = field(default_factory=EnsembleLayout)
    latent: int = 200
    code: int = 32  #: of "compress"
    hidden: int = 512
    layers: int = 6
    combiner: int = 32  #: units per anchor of "GNN"
    combined: int = 200  #: code of "GNN"
    combiner_hidden: int = 512

    @property
    def identity_size(self) -> int:
        """Numbers about the identity that the MLP sees."""
        layout = self.layout
        return {
            "compress": self.code,
            "glob_only": layout.latent_global,
            "expr_only": 0,
            "interpolate": layout.latent_global + layout.latent_local,
            "GNN": self.combined,
        }[self.mode]


@dataclass(frozen=True)
class FoldedExpression:
    """The deformation of one expression of one head (or a batch)."""

    mlp: FoldedMlp
    local: Float[Tensor, "*batch anchors loc"] | None = None  #: of "interpolate"
    anchors: Float[Tensor, "*batch anchors 3"] | None = None
    code: Float[Tensor, "*batch code"] | None = None  #: kept apart where noise goes onto it

    def inputs(
        self,
        points: Float[Tensor, "*batch points 3"],
        code_noise: Float[Tensor, "*batch points code"] | None = None,
    ) -> Float[Tensor, "*batch points free"]:
        """What differs from point to point: the point, and in some modes a code."""
        if self.local is not None and self.anchors is not None:
            return torch.cat([points, normalised(anchor_weights(points, self.anchors)) @ self.local], -1)
        if self.code is not None:
            code = self.code.unsqueeze(-2).expand(*points.shape[:-1], -1)
            return torch.cat([points, code if code_noise is None else code + code_noise], -1)
        return points


class ExpressionField(nn.Module):
    """NPHM's expression network, with the authors' parameter names."""

    def __init__(self, config: ExpressionConfig) -> None:
        super().__init__()
        self.config = config
        layout = config.layout
        self.defDeepSDF = DeepSDF(config.identity_size + config.latent, config.hidden, config.layers, out=3)
        if config.mode == "compress":
            self.compressor = nn.Sequential(nn.Linear(layout.latent + 3 * layout.anchors, config.code))
        if config.mode == "GNN":
            width, local = config.combiner, layout.latent_local
            self.pos_enc = _two_layers(3, width, width)
            self.local_combiner = _two_layers(local, width, width)
            wide = layout.latent_global + layout.anchors * width
            self.global_combiner = _two_layers(wide, config.combiner_hidden, config.combined)

    def code(
        self, identity: Float[Tensor, "*batch latent"], anchors: Float[Tensor, "*batch anchors 3"]
    ) -> Float[Tensor, "*batch code"]:
        """What the network is told of an identity, all but the blended local latents."""
        shared, own = self.config.layout.split(identity)
        match self.config.mode:
            case "compress":
                return self.compressor(torch.cat([identity, anchors.flatten(-2)], -1))
            case "GNN":
                each = self.local_combiner(self.pos_enc(anchors) + own[..., :-1, :])
                return self.global_combiner(torch.cat([shared, each.flatten(-2)], -1))
            case "expr_only":
                return shared[..., :0]
            case _:
                return shared

    def folded(
        self,
        identity: Float[Tensor, "*#batch latent"],
        expression: Float[Tensor, "*#batch ex"],
        anchors: Float[Tensor, "*#batch anchors 3"],
        *,
        code_per_point: bool = False,
    ) -> FoldedExpression:
        """The deformation for given latents. Leading axes broadcast. Differentiable.

        Args:
            identity: latents of the identity field.
            expression: expression latents.
            anchors: the identity's anchors (`IdentityField.anchors`).
            code_per_point: leave the code among the inputs, so that noise can be put on it ("compress" only).

        Raises:
            ValueError: the expression latent has another length, or the mode has no such code.
        """
        config = self.config
        if expression.shape[-1] != config.latent:
            raise ValueError(f"an expression latent has {config.latent} numbers here, not {expression.shape[-1]}")
        if code_per_point and config.mode != "compress":
            raise ValueError(f'noise goes onto the code of the mode "compress", not of "{config.mode}"')
        code = self.code(identity, anchors)
        first = 3 + code.shape[-1]
        wide = 3 + config.identity_size
        behind = slice(wide, wide + config.latent), expression
        if code_per_point:
            mlp = self.defDeepSDF.folded([behind], [slice(0, 3), slice(3, first)])
            return FoldedExpression(mlp, code=code)
        if config.mode == "interpolate":
            _, own = config.layout.split(identity)
            mlp = self.defDeepSDF.folded([(slice(3, first), code), behind], [slice(0, 3), slice(first, wide)])
            return FoldedExpression(mlp, local=own[..., :-1, :], anchors=anchors)
        return FoldedExpression(self.defDeepSDF.folded([(slice(3, first), code), behind]))

    def forward(
        self,
        points: Float[Tensor, "*#batch points 3"],
        identity: Float[Tensor, "*#batch latent"],
        expression: Float[Tensor, "*#batch ex"],
        anchors: Float[Tensor, "*#batch anchors 3"],
        code_noise: Float[Tensor, "*batch points code"] | None = None,
    ) -> Float[Tensor, "*batch points 3"]:
        """Offsets of canonical points.

        Args:
            code_noise: for training: added to the compressed code at every point; standard normal times `CODE_NOISE`.
        """
        head = self.folded(identity, expression, anchors, code_per_point=code_noise is not None)
        return run_single(head.mlp, head.inputs(points, code_noise))


def _two_layers(inputs: int, hidden: int, outputs: int) -> nn.Sequential:
    return nn.Sequential(nn.Linear(inputs, hidden), nn.ReLU(), nn.Linear(hidden, outputs))
