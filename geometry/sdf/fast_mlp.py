"""A folded network on the CPU without autograd: values, and gradients to the point, in cache-sized pieces.

The softplus of sharpness 100 costs more than the matrix products if it is computed as it stands. Here every hidden
unit carries K = 100 log2(e) times its value, so that

    softplus(z) K = log2(1 + 2^(K z)),    and its derivative is 1 - 2^(-K softplus(z)),

which needs no scaling in between: only the biases, the inputs' rows (times K) and the last layer (over K) change.
"""

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from .mlp import BETA, FoldedMlp

_K = BETA / math.log(2)

#: Rows computed at a time: two or three layers of 200 units stay in a core's own cache.
_ROWS = 512

#: Exponents from here on are their own softplus in float32, and 2^126 is still a number.
_LARGE = 64.0


@dataclass(frozen=True)
class FastLayer:
    """A layer in K units; its outputs are followed by room for the inputs where the skip comes next."""

    weight: Float[Tensor, "sets fan_in out"]
    weight_t: Float[Tensor, "sets out fan_in"]
    bias: Float[Tensor, "members out"]


@dataclass(frozen=True)
class FastMlp:
    """One head's networks. `value` and `value_and_gradient` take one member's points."""

    layers: tuple[FastLayer, ...]
    skip: int
    free: int

    @classmethod
    def of(cls, mlp: FoldedMlp) -> "FastMlp":
        """Prepare a folded network of one head (no batch axes). Float32, detached, on the CPU."""
        free = mlp.layers[0].weight.shape[-2]
        last = len(mlp.layers) - 1
        layers = []
        for number, layer in enumerate(mlp.layers):
            if layer.bias.ndim != 2:
                raise ValueError("fast evaluation takes one head at a time; the latents have a batch axis")
            weight, bias = layer.weight.detach().cpu().float().clone(), layer.bias.detach().cpu().float().clone()
            if number in (0, mlp.skip):
                weight[:, -free:] *= _K
            if number == last:
                weight /= _K
            else:
                bias *= _K
            if number + 1 == mlp.skip:
                weight = torch.cat([weight, weight.new_zeros(*weight.shape[:-1], free)], -1)
                bias = torch.cat([bias, bias.new_zeros(bias.shape[0], free)], -1)
            layers.append(FastLayer(weight.contiguous(), weight.mT.contiguous(), bias.contiguous()))
        return cls(tuple(layers), mlp.skip, free)

    @property
    def outputs(self) -> int:
        return self.layers[-1].bias.shape[-1]

    def buffers(self) -> "Buffers":
        """Room for one thread's work."""
        widths = [layer.bias.shape[-1] for layer in self.layers[:-1]]
        return Buffers([torch.empty(_ROWS, width) for width in widths], torch.empty(_ROWS * max(widths)))

    def value(
        self,
        inputs: Float[Tensor, "n free"],
        weights: int,
        member: int,
        room: "Buffers",
        out: Float[Tensor, "n out"],
    ) -> None:
        """Outputs for one member's points.

        Args:
            inputs: contiguous.
            weights: the member's set.
            member: whose biases.
            room: of this thread.
            out: where they go.
        """
        last = self.layers[-1]
        for start in range(0, inputs.shape[0], _ROWS):
            part = inputs[start : start + _ROWS]
            hidden = self._hidden(part, weights, member, room)[-1]
            torch.addmm(last.bias[member], hidden, last.weight[weights], out=out[start : start + _ROWS])

    def value_and_gradient(
        self,
        inputs: Float[Tensor, "n free"],
        weights: int,
        member: int,
        room: "Buffers",
        out: Float[Tensor, "n out"],
        gradient: Float[Tensor, "n free"],
    ) -> None:
        """Outputs of a network with one output, and their gradients to the inputs."""
        last = self.layers[-1]
        for start in range(0, inputs.shape[0], _ROWS):
            part = inputs[start : start + _ROWS]
            hidden = self._hidden(part, weights, member, room)
            torch.addmm(last.bias[member], hidden[-1], last.weight[weights], out=out[start : start + _ROWS])
            gradient[start : start + _ROWS] = self._backward(hidden, weights, room)

    def _hidden(
        self, part: Float[Tensor, "rows free"], weights: int, member: int, room: "Buffers"
    ) -> list[Float[Tensor, "rows _"]]:
        rows = part.shape[0]
        below, found = part, []
        for number, layer in enumerate(self.layers[:-1]):
            units = room.layers[number][:rows]
            torch.addmm(layer.bias[member], below, layer.weight[weights], out=units)
            _softplus(units, room.spare[: units.numel()].view_as(units))
            if number + 1 == self.skip:
                units[:, -self.free :] = part
            found.append(units)
            below = units
        return found

    def _backward(
        self, hidden: list[Float[Tensor, "rows _"]], weights: int, room: "Buffers"
    ) -> Float[Tensor, "rows free"]:
        """From the last layer down; the hidden units are used up.

        The columns kept for the inputs meet rows of zeros in the layer below.
        """
        rows = hidden[-1].shape[0]
        flow = self.layers[-1].weight_t[weights].expand(rows, -1)
        direct = flow.new_zeros(())
        for number in range(len(hidden) - 1, -1, -1):
            if number + 1 == self.skip:
                direct = flow[:, -self.free :].clone()
            # times 1 - 2^-units
            steep = hidden[number].neg_().exp2_()
            flow = torch.addcmul(flow, flow, steep, value=-1, out=steep)
            below = self.layers[number].weight_t[weights]
            into = room.spare[: rows * below.shape[1]].view(rows, below.shape[1])
            flow = torch.mm(flow, below, out=into)
        return flow + direct


@dataclass(frozen=True)
class Buffers:
    """Room for one thread's work."""

    layers: list[Float[Tensor, "rows _"]]
    spare: Float[Tensor, "numbers"]


def _softplus(units: Float[Tensor, "rows width"], spare: Float[Tensor, "rows width"]) -> None:
    """units ← log2(1 + 2^units), in place."""
    power = torch.clamp(units, max=_LARGE, out=spare).exp2_().add_(1).log2_()
    torch.maximum(units, power, out=units)
