"""FastNetwork: a single folded network on the CPU for many points: NPM's sdf, and every deformation."""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from .fast_mlp import FastMlp
from .mlp import FoldedMlp
from .threads import parallel

_CHUNK = 1 << 14


@dataclass(frozen=True)
class FastNetwork:
    """One network for one head."""

    mlp: FastMlp

    @classmethod
    def of(cls, mlp: FoldedMlp) -> "FastNetwork":
        """Prepare a folded network of one member and one head.

        Raises:
            ValueError: the latents have a batch axis.
        """
        return cls(FastMlp.of(mlp))

    def run(self, inputs: Float[Tensor, "n free"]) -> Float[Tensor, "n out"]:
        """What the network gives at its free inputs."""
        return self._run(inputs, False)[0]

    def value(self, points: Float[Tensor, "n 3"], tolerance: float = 0.0) -> Float[Tensor, "n"]:
        """A network with one output, as a field. There is nothing to leave out: `tolerance` is not needed."""
        return self.run(points).squeeze(-1)

    def steady_value(self, points: Float[Tensor, "n 3"], tolerance: float = 0.0) -> Float[Tensor, "n"]:
        """The same: one network has no anchors from which it could fade."""
        return self.value(points)

    def value_and_gradient(
        self, points: Float[Tensor, "n 3"], tolerance: float = 0.0
    ) -> tuple[Float[Tensor, "n"], Float[Tensor, "n 3"]]:
        """Values and exact gradients of a network with one output."""
        value, gradient = self._run(points, True)
        assert gradient is not None
        return value.squeeze(-1), gradient

    @torch.no_grad()
    def _run(self, inputs: Tensor, with_gradient: bool) -> tuple[Tensor, Tensor | None]:
        inputs = inputs.float().contiguous()
        out = inputs.new_empty(inputs.shape[0], self.mlp.outputs)
        gradient = torch.empty_like(inputs) if with_gradient else None

        def work(start: int) -> None:
            part = slice(start, start + _CHUNK)
            room = self.mlp.buffers()
            if gradient is None:
                self.mlp.value(inputs[part], 0, 0, room, out[part])
            else:
                self.mlp.value_and_gradient(inputs[part], 0, 0, room, out[part], gradient[part])

        parallel(work, range(0, inputs.shape[0], _CHUNK))
        return out, gradient
