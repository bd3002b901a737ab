"""The multi-layer perceptron of every field here, DeepSDF's with one skip, and its folded form.

A DeepSDF network sees [point, latent] at its first layer and once more in the middle, where

    h ← [h, point, latent] / √2.

A latent is the same for all points of a head, so its share of those two layers is one vector per head: a bias.
`FoldedMlp` is the network after that step: exact up to rounding, and 99 inputs become 3 in the case of NPHM's local
members. Several networks of one shape lie side by side in it (`sets`); members of an ensemble choose theirs.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

#: Sharpness of the softplus in every field of the authors.
BETA = 100.0


@dataclass(frozen=True)
class FoldedLayer:
    """One linear layer. Rows of `weight` are its inputs: free ones, hidden units, or hidden units then free inputs."""

    weight: Float[Tensor, "sets fan_in out"]
    bias: Float[Tensor, "*_ members out"]


@dataclass(frozen=True)
class FoldedMlp:
    """Networks whose latents have become biases."""

    layers: tuple[FoldedLayer, ...]
    skip: int  #: the layer that sees the free inputs again


def fold(
    weights: Sequence[Float[Tensor, "sets _ _"]],
    biases: Sequence[Float[Tensor, "sets _"]],
    set_of_member: Int[Tensor, "members"],
    free: Sequence[slice],
    fixed: Sequence[tuple[slice, Float[Tensor, "*_ members _"]]],
) -> FoldedMlp:
    """Turn latents into biases. Differentiable in all tensors.

    Args:
        weights: (out, in) per set, of the linear layers from first to last; the skip is before layer (layers - 1) // 2.
        biases: likewise.
        set_of_member: index into the sets for each member.
        free: columns of the network's input that differ from point to point.
        fixed: the other columns, and what stands there for each member.
    """
    skip = (len(weights) - 1) // 2
    layers = []
    for number, (weight, bias) in enumerate(zip(weights, biases, strict=True)):
        total = bias[set_of_member]
        if number not in (0, skip):
            layers.append(FoldedLayer(weight.mT, total))
            continue
        scale = 1.0 if number == 0 else math.sqrt(0.5)
        inputs = sum(_width(part) for part in free) + sum(_width(part) for part, _ in fixed)
        hidden = weight.shape[-1] - inputs
        own = weight[..., hidden:]
        for part, value in fixed:
            # [*batch, members, size] with the weights of each member's set
            total = total + scale * torch.einsum("mos,...ms->...mo", own[set_of_member][..., part], value)
        rows = torch.cat([weight[..., :hidden], *(own[..., part] for part in free)], -1)
        layers.append(FoldedLayer(scale * rows.mT, total))
    return FoldedMlp(tuple(layers), skip)


def _width(part: slice) -> int:
    return part.stop - part.start


class DeepSDF(nn.Module):
    """One network for the whole head, with the authors' parameter names (`lin0` ...).

    NPM's identity (out 1) and deformation (out 3) are of this kind, and so is the network inside NPHM's expression
    field.
    """

    def __init__(self, latent: int, hidden: int, layers: int, out: int = 1, free: int = 3) -> None:
        """Args:
        latent: length of all that is given beside the point.
        hidden: units of a hidden layer.
        layers: hidden layers.
        out: numbers per point.
        free: coordinates per point.
        """
        super().__init__()
        self.latent = latent
        self.free = free
        self.depth = layers + 1
        inputs = free + latent
        sizes = [inputs, *[hidden] * layers, out]
        for number in range(self.depth):
            narrower = inputs if number + 1 == layers // 2 else 0
            setattr(self, f"lin{number}", nn.Linear(sizes[number], sizes[number + 1] - narrower))

    def linear(self, number: int) -> nn.Linear:
        return getattr(self, f"lin{number}")

    def initialise_as_sphere(self, radius: float, generator: torch.Generator) -> None:
        """Start as about the distance to a sphere (Atzmon and Lipman, "SAL", 2020), as the authors' NPM does.

        Args:
            radius: of the sphere, in the field's unit.
        """
        with torch.no_grad():
            for number in range(self.depth):
                layer = self.linear(number)
                if number == self.depth - 1:
                    mean = math.sqrt(math.pi / layer.in_features)
                    layer.weight.normal_(mean, 1e-5, generator=generator)
                    layer.bias.fill_(-radius)
                else:
                    layer.weight.normal_(0, math.sqrt(2 / layer.out_features), generator=generator)
                    layer.bias.zero_()

    def folded(
        self, fixed: Sequence[tuple[slice, Float[Tensor, "*_ _"]]], free: Sequence[slice] | None = None
    ) -> FoldedMlp:
        """The network for given latents.

        Args:
            fixed: input columns (3 and up) and their values.
            free: the others; the point alone where absent.
        """
        linears = [self.linear(i) for i in range(self.depth)]
        return fold(
            [layer.weight[None] for layer in linears],
            [layer.bias[None] for layer in linears],
            torch.zeros(1, dtype=torch.long, device=linears[0].weight.device),
            free or [slice(0, self.free)],
            [(part, value.unsqueeze(-2)) for part, value in fixed],
        )

    def forward(
        self, points: Float[Tensor, "*batch points free"], latent: Float[Tensor, "*batch latent"]
    ) -> Float[Tensor, "*batch points out"]:
        """The field at points. Leading axes broadcast.

        Raises:
            ValueError: the latent has another length.
        """
        if latent.shape[-1] != self.latent:
            raise ValueError(f"this network's latent has {self.latent} numbers, not {latent.shape[-1]}")
        return run_single(self.folded([(slice(self.free, self.free + self.latent), latent)]), points)


def run_single(mlp: FoldedMlp, inputs: Float[Tensor, "*batch points free"]) -> Float[Tensor, "*batch points out"]:
    """A folded network of one member at points. Differentiable, any number of times."""
    hidden = inputs
    for number, layer in enumerate(mlp.layers):
        if number == mlp.skip:
            hidden = torch.cat([hidden, inputs.expand(*hidden.shape[:-1], -1)], -1)
        hidden = hidden @ layer.weight[0] + layer.bias  # bias [*batch, 1, out]
        if number < len(mlp.layers) - 1:
            hidden = F.softplus(hidden, BETA)
    return hidden
