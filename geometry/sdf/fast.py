"""FastIdentity: one head's identity field on the CPU, for millions of points.

Of 40 members, those whose share of the blend is too small to matter are left out at each point: they are so many that
their shares add up to less than tolerance / R, where R bounds what a member says (its largest value over samples of
the box, and a quarter more). What is left, 4 to 10 members near a head, is grouped by member into matrix products.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from .blend import BACKGROUND, EPSILON, OFFSET, VARIANCE
from .fast_mlp import Buffers, FastMlp
from .frame import BOX
from .identity import FoldedIdentity
from .threads import parallel

#: Largest error of the sdf by leaving members out, in the field's unit.
TOLERANCE = 1.5e-6

#: Points a thread works on at a time.
_CHUNK = 1 << 14

_SAMPLES = 400


@dataclass(frozen=True)
class FastIdentity:
    """A head's field: `value`, `value_and_gradient`, `steady_value`."""

    mlp: FastMlp
    anchors: Float[Tensor, "anchors 3"]
    sets: tuple[int, ...]  #: of each member
    flips: Float[Tensor, "members 3"]  #: 1 or -1 per axis
    background_outside: bool
    largest: float  #: bounds |member|

    @classmethod
    def of(cls, head: FoldedIdentity) -> "FastIdentity":
        """Prepare a folded field of one head.

        Raises:
            ValueError: the latents have a batch axis.
        """
        layout = head.layout
        flips = torch.ones(layout.members, 3)
        flips[layout.mirrored(), 0] = -1
        mlp = FastMlp.of(head.mlp)
        sets = tuple(layout.set_of_member().tolist())
        field = cls(mlp, head.anchors.detach().cpu().float(), sets, flips, head.background_outside, 1.0)
        generator = torch.Generator().manual_seed(0)
        low, high = torch.tensor(BOX)
        points = low + (high - low) * torch.rand(_SAMPLES, 3, generator=generator)
        everyone = torch.ones(layout.members, _SAMPLES, dtype=torch.bool)
        said = field._members(points, everyone, mlp.buffers())[0]
        return cls(mlp, field.anchors, sets, flips, head.background_outside, 1.25 * float(said.abs().max()))

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

    @torch.no_grad()
    def _run(
        self, points: Tensor, tolerance: float, epsilon: float, with_gradient: bool
    ) -> tuple[Tensor, Tensor | None]:
        points = points.float().contiguous()
        count = points.shape[0]
        pieces = max(1, -(-count // _CHUNK))
        if 1 < torch.get_num_threads() and count > 4096:
            pieces = -(-pieces // torch.get_num_threads()) * torch.get_num_threads()
        bounds = [(count * i // pieces, count * (i + 1) // pieces) for i in range(pieces)]
        out = points.new_empty(count)
        gradient = points.new_empty(count, 3) if with_gradient else None

        def work(bound: tuple[int, int]) -> None:
            part = slice(*bound)
            into = None if gradient is None else gradient[part]
            self._chunk(points[part], tolerance, epsilon, out[part], into)

        parallel(work, bounds)
        return out, gradient

    def _chunk(self, points: Tensor, tolerance: float, epsilon: float, out: Tensor, gradient: Tensor | None) -> None:
        weights = self._weights(points)
        whole = weights.sum(0)
        # By true shares, also where the field fades: its sign shall be right there, too.
        kept = self._kept(weights / whole, tolerance / self.largest)
        share = weights.div_(whole + epsilon)
        said, slopes, where = self._members(points, kept, self.mlp.buffers(), gradient is not None)
        own = share[kept]
        out.zero_().index_add_(0, where, own * said)
        if gradient is None or slopes is None:
            return
        # d share_k = share_k (d log w_k - Σ_j share_j d log w_j)
        member = kept.nonzero()[:, 0]
        anchored = member < self.anchors.shape[0]
        offset = points[where] - self.anchors[member.clamp(max=self.anchors.shape[0] - 1)]
        distance = offset.norm(dim=-1, keepdim=True)
        pull = offset * (-2 / VARIANCE * (1 + OFFSET / distance.clamp(min=1e-12)))
        pull = torch.where(anchored.unsqueeze(-1) & (distance > 0), pull, 0.0) * own.unsqueeze(-1)
        gradient.zero_().index_add_(0, where, slopes * own.unsqueeze(-1) + pull * said.unsqueeze(-1))
        mean_pull = torch.zeros_like(gradient).index_add_(0, where, pull)
        gradient.addcmul_(mean_pull, out.unsqueeze(-1), value=-1)

    def _weights(self, points: Float[Tensor, "n 3"]) -> Float[Tensor, "members n"]:
        x, y, z = points.unbind(-1)
        a = self.anchors
        squared = (x - a[:, :1]).square_()
        squared += (y - a[:, 1:2]).square_()
        squared += (z - a[:, 2:]).square_()
        weights = squared.sqrt_().add_(OFFSET).square_().mul_(-1 / VARIANCE).exp_()
        return torch.cat([weights, weights.new_full((1, points.shape[0]), BACKGROUND)])

    def _kept(self, share: Float[Tensor, "members n"], allowed: float) -> Bool[Tensor, "members n"]:
        """All but the smallest shares, which add up to no more than `allowed` at each point."""
        limit = share.new_full((share.shape[1],), allowed)
        for last in (False, False, False, True):
            left_out = torch.where(share < limit, share, 0.0).sum(0)
            too_many = left_out > allowed
            if not bool(too_many.any()):
                break
            limit = torch.where(too_many, allowed / share.shape[0] if last else limit / 2, limit)
        return share >= limit

    def _members(
        self,
        points: Float[Tensor, "n 3"],
        kept: Bool[Tensor, "members n"],
        room: Buffers,
        with_gradient: bool = False,
    ) -> tuple[Float[Tensor, "pairs"], Float[Tensor, "pairs 3"] | None, Int[Tensor, "pairs"]]:
        """What the kept members say, in the order of `kept`'s true entries; gradients; and at which points."""
        counts = kept.sum(1).tolist()
        where = kept.nonzero()[:, 1]
        said = points.new_empty(where.shape[0], 1)
        slopes = points.new_empty(where.shape[0], 3) if with_gradient else None
        start = 0
        for member, count in enumerate(counts):
            if count == 0:
                continue
            part = slice(start, start + count)
            start += count
            if member == len(counts) - 1 and self.background_outside:
                said[part] = 1.0
                if slopes is not None:
                    slopes[part] = 0.0
                continue
            local = points[where[part]]
            if member < self.anchors.shape[0]:
                local -= self.anchors[member]
            local *= self.flips[member]
            if slopes is None:
                self.mlp.value(local, self.sets[member], member, room, said[part])
            else:
                self.mlp.value_and_gradient(local, self.sets[member], member, room, said[part], slopes[part])
                slopes[part] *= self.flips[member]
        return said.squeeze(-1), slopes, where
