"""FastNetwork: a single folded network on the CPU for many points: NPM's sdf, and every deformation.

tinycudann was considered for the same on GPUs and cannot compute these networks. Biases and the skip could be carried
by a few more units (softplus(x) - softplus(-x) = x) and the sharpness by scaling, but its softplus is
log(exp(10 x) + 1) / 10 as it stands, which overflows where one of ours exceeds 0.887: in trained deformations at most
points. Its half precision alone costs 4.6e-4 of a trained NPM's distances, 0.1 mm; fields here are held to 2e-6.
"""

from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor

from .fast_mlp import FastMlp
from .mlp import FoldedMlp


@dataclass(frozen=True)
class FastNetwork:
    """One network for one head."""

    mlp: FastMlp

    @classmethod
    def of(cls, mlp: FoldedMlp) -> "FastNetwork":
        """Prepare a folded network of one member and one head.

        Raises:
            ValueError: the latents have a batch axis.
            HeadlabError: the native module is missing.
        """
        return cls(FastMlp.of(mlp))

    def run(self, inputs: Float[Tensor, "n free"]) -> Float[Tensor, "n out"]:
        """What the network gives at its free inputs."""
        return self.mlp.run(inputs)[0]

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
        value, gradient = self.mlp.run(points, with_gradient=True)
        assert gradient is not None
        return value.squeeze(-1), gradient
