"""FusedIdentity: one head's identity field on CUDA, by the fused kernels; the counterpart of FastIdentity.

Points come and go on the CPU, where the narrow band is kept: a few megabytes each way.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from .blend import EPSILON, member_weights
from .culled import culled_sdf
from .fast import TOLERANCE, FastIdentity, largest_member
from .fused import available
from .identity import FoldedIdentity

_CHUNK = 1 << 15

#: How much smaller shares are where the field fades than what they would be without the 1e-6 in the denominator.
_FADED = 500.0


@dataclass(frozen=True)
class FusedIdentity:
    """A head's field: `value`, `value_and_gradient`, `steady_value`, as FastIdentity's."""

    head: FoldedIdentity
    largest: float  #: bounds |member|

    @classmethod
    def of(cls, head: FoldedIdentity) -> "FusedIdentity":
        """Prepare a folded field of one head, on its device."""
        return cls(head, largest_member(head))

    def value(self, points: Float[Tensor, "n 3"], tolerance: float = TOLERANCE) -> Float[Tensor, "n"]:
        """Signed distances, within `tolerance` of the dense evaluation up to rounding."""
        return self._in_chunks(points, lambda part: self._sdf(part, tolerance))

    def steady_value(self, points: Float[Tensor, "n 3"], tolerance: float = TOLERANCE) -> Float[Tensor, "n"]:
        """A true average of what the members say: it does not fade far from the anchors."""

        def steady(part: Tensor) -> Tensor:
            whole = member_weights(part, self.head.anchors).sum(-1)
            return self._sdf(part, tolerance / _FADED) * (1 + EPSILON / whole)

        return self._in_chunks(points, steady)

    def value_and_gradient(
        self, points: Float[Tensor, "n 3"], tolerance: float = TOLERANCE
    ) -> tuple[Float[Tensor, "n"], Float[Tensor, "n 3"]]:
        """Signed distances and their exact gradients (of what is left after leaving members out)."""

        def both(part: Tensor) -> Tensor:
            with torch.enable_grad():
                at = part.detach().requires_grad_()
                value = self._sdf(at, tolerance)
                (gradient,) = torch.autograd.grad(value.sum(), at)
            return torch.cat([value.detach().unsqueeze(-1), gradient], -1)

        value, gradient = self._in_chunks(points, both).split([1, 3], -1)
        return value.squeeze(-1), gradient

    def _sdf(self, points: Tensor, tolerance: float) -> Tensor:
        # Every member left out may have this much: together no more than tolerance / largest.
        share = tolerance / (self.largest * self.head.layout.members)
        return culled_sdf(self.head, points, share, once=True, fused=True)

    @torch.no_grad()
    def _in_chunks(self, points: Float[Tensor, "n 3"], work: Callable[[Tensor], Tensor]) -> Tensor:
        device = self.head.anchors.device
        parts = [work(part.to(device)).cpu() for part in points.detach().float().split(_CHUNK)]
        return torch.cat(parts)


def fast_surface(head: FoldedIdentity) -> FastIdentity | FusedIdentity:
    """One head's field made ready for millions of points: fused kernels on CUDA, else the native module."""
    return FusedIdentity.of(head) if available(head.anchors) else FastIdentity.of(head)
