"""A folded network on the CPU without autograd: values, and gradients to the point, by the native module.

The softplus of sharpness 100 costs more than the matrix products if it is computed as it stands. Here every hidden
unit carries K = 100 log2(e) times its value, so that

    softplus(z) K = log2(1 + 2^(K z)),    and its derivative is 1 - 2^(-K softplus(z)),

which needs no scaling in between: only the biases, the inputs' rows (times K) and the last layer (over K) change.
csrc/field.h has the rest.
"""

import math
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from ..errors import HeadlabError
from ..raster.native import BUILD
from .mlp import BETA, FoldedMlp

_K = BETA / math.log(2)

#: Status of a native call that ran out of memory.
_NO_MEMORY = 4


@dataclass(frozen=True)
class FastMlp:
    """One head's networks, packed."""

    packed: Any  #: the native module's FieldMlp
    free: int  #: inputs that differ from point to point
    outputs: int

    @classmethod
    def of(cls, mlp: FoldedMlp) -> "FastMlp":
        """Prepare a folded network of one head (no batch axes): float32, detached, on the CPU.

        Raises:
            ValueError: the latents have a batch axis.
            HeadlabError: the native module is missing.
        """
        weights, biases = [], []
        last = len(mlp.layers) - 1
        free = mlp.layers[0].weight.shape[-2]
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
            weights.append(weight.contiguous())
            biases.append(bias.contiguous())
        return cls(_native().FieldMlp(weights, biases, mlp.skip), free, biases[-1].shape[-1])

    def run(
        self, inputs: Float[Tensor, "n free"], with_gradient: bool = False
    ) -> tuple[Float[Tensor, "n out"], Float[Tensor, "n free"] | None]:
        """Outputs of the first network and, where it has one output, its gradients to the inputs."""
        inputs = inputs.detach().cpu().float().contiguous()
        out = inputs.new_empty(inputs.shape[0], self.outputs)
        gradient = torch.empty_like(inputs) if with_gradient else None
        check(self.packed.run(inputs, torch.get_num_threads(), out, gradient))
        return out, gradient


def check(status: int) -> None:
    """Raise what a native call reports."""
    if status == _NO_MEMORY:
        raise HeadlabError("not enough memory for so many points; ask for fewer at a time")


def _native() -> Any:
    try:
        from .. import _native as module  # pyright: ignore[reportAttributeAccessIssue]

        if hasattr(module, "FieldMlp"):
            return module
        reason = "it is older than this version"
    except ImportError as error:
        reason = str(error)
    raise HeadlabError(f"headlab's compiled module cannot be used ({reason}); build it with: {BUILD}")
