"""FastIdentity: one head's identity field on the CPU, for millions of points.

Of 40 members, those whose share of the blend is too small to matter are left out at each point: they are so many that
their shares add up to less than tolerance / R, where R bounds what a member says (its largest value over samples of
the box, and a quarter more). What is left, 4 to 11 members near a head, is grouped by member; the native module does
all of it (csrc/field.h), on as many threads as torch may use.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int32
from torch import Tensor

from .blend import BACKGROUND, EPSILON, OFFSET, VARIANCE
from .fast_mlp import FastMlp, check
from .frame import BOX
from .identity import FoldedIdentity, member_values

#: Largest error of the sdf by leaving members out, in the field's unit.
TOLERANCE = 1.5e-6

_SAMPLES = 400


@dataclass(frozen=True)
class FastIdentity:
    """A head's field: `value`, `value_and_gradient`, `steady_value`."""

    mlp: FastMlp
    anchors: Float[Tensor, "anchors 3"]
    sets: Int32[Tensor, "members"]  #: whose weights each member uses
    flips: Float[Tensor, "members 3"]  #: 1 or -1 per axis
    background_outside: bool
    largest: float  #: bounds |member|

    @classmethod
    def of(cls, head: FoldedIdentity) -> "FastIdentity":
        """Prepare a folded field of one head.

        Raises:
            ValueError: the latents have a batch axis.
            HeadlabError: the native module is missing.
        """
        layout = head.layout
        flips = torch.ones(layout.members, 3)
        flips[layout.mirrored(), 0] = -1
        mlp = FastMlp.of(head.mlp)
        anchors = head.anchors.detach().cpu().float().contiguous()
        sets = layout.set_of_member().int()
        return cls(mlp, anchors, sets, flips, head.background_outside, largest_member(head))

    def value(self, points: Float[Tensor, "n 3"], tolerance: float = TOLERANCE) -> Float[Tensor, "n"]:
        """Signed distances, within `tolerance` of the dense evaluation up to rounding (about 3e-7)."""
        return self._run(points, tolerance, EPSILON, False)[0]

    def steady_value(self, points: Float[Tensor, "n 3"], tolerance: float = TOLERANCE) -> Float[Tensor, "n"]:
        """Of the same sign everywhere, but a true average of what the members say: it does not fade far from the
        anchors, where the field's own value is no distance."""
        return self._run(points, tolerance, 0.0, False)[0]

    def value_and_gradient(
        self, points: Float[Tensor, "n 3"], tolerance: float = TOLERANCE
    ) -> tuple[Float[Tensor, "n"], Float[Tensor, "n 3"]]:
        """Signed distances and their exact gradients (of what is left after leaving members out)."""
        value, gradient = self._run(points, tolerance, EPSILON, True)
        assert gradient is not None
        return value, gradient

    def _run(
        self, points: Tensor, tolerance: float, epsilon: float, with_gradient: bool
    ) -> tuple[Tensor, Tensor | None]:
        points = points.detach().cpu().float().contiguous()
        out = points.new_empty(points.shape[0])
        gradient = torch.empty_like(points) if with_gradient else None
        status, _ = self.mlp.packed.blend(
            points,
            self.anchors,
            self.sets,
            self.flips,
            self.background_outside,
            VARIANCE,
            OFFSET,
            BACKGROUND,
            epsilon,
            tolerance / self.largest,
            torch.get_num_threads(),
            out,
            gradient,
        )
        check(status)
        return out, gradient


@torch.no_grad()
def largest_member(head: FoldedIdentity) -> float:
    """Bounds what a member says in the box: the largest of some samples, and a quarter more."""
    generator = torch.Generator().manual_seed(0)
    low, high = torch.tensor(BOX)
    points = low + (high - low) * torch.rand(_SAMPLES, 3, generator=generator)
    said = [member_values(head, part).abs().max() for part in points.to(head.anchors).split(_SAMPLES // 8)]
    return 1.25 * float(torch.stack(said).max())
