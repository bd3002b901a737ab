"""Measured depth of a face, made whole by the fitted head: holes take its shape, moved by what is measured around."""

import torch
from jaxtyping import Float
from torch import Tensor

from ..datasets.synthetic.pairs import FARTHER, NEARER
from ..geometry.texture.push_pull import push_pull

#: Nearness below which a pixel has no depth.
NOTHING = 0.02
#: Distance from the fitted head, metres, beyond which a measurement does not tell about the holes beside it.
_OUTLIER = 0.06
#: Changes of the drawn depth beyond this are no motion of one surface, metres.
_JUMP = 0.012


def filled_depth(
    measured: Float[Tensor, "height width"], drawn: Float[Tensor, "height width"], outlier: float = _OUTLIER
) -> Float[Tensor, "height width"]:
    """A depth map without holes on the head.

    A hole takes the fitted head's depth, moved by the difference to it that was measured around (push-pull). The
    head's distance need not be right: the median difference is taken off first.

    Args:
        measured: metres, 0 = none.
        drawn: of the fitted head, metres, 0 beside it.
        outlier: metres.

    Returns:
        Metres; as measured where something was, 0 where neither map has a depth. The drawn depth where nothing was
        measured on the head at all.
    """
    spread = _difference(measured, drawn, outlier)
    return torch.where((measured == 0) & (drawn > 0), drawn + spread, measured)


def _difference(
    measured: Float[Tensor, "height width"], drawn: Float[Tensor, "height width"], outlier: float
) -> Float[Tensor, "height width"]:
    """Measured less drawn depth: as it is where both agree but for a shift, continued smoothly everywhere else."""
    both = (measured > 0) & (drawn > 0)
    if not bool(both.any()):
        return torch.zeros_like(drawn)
    off = torch.where(both, measured - drawn, 0.0)
    middle = off[both].median()
    trusted = both & ((off - middle).abs() < outlier)
    return push_pull(torch.where(trusted, off - middle, 0.0)[None], trusted.to(measured))[0] + middle


def filled_nearness(
    measured: Float[Tensor, "size size"], drawn: Float[Tensor, "size size"]
) -> Float[Tensor, "size size"]:
    """`filled_depth` for nearness (`datasets/synthetic/pairs.nearness`), 0 = none."""
    known = torch.where(measured > NOTHING, measured, 0.0)
    head = torch.where(drawn > NOTHING, drawn, 0.0)
    filled = filled_depth(known, head, _OUTLIER / (FARTHER + NEARER))
    return torch.where((known == 0) & (head > 0), filled.clamp(1e-3, 1), measured)


def moved_depth(
    seen: Float[Tensor, "height width"],
    old: Float[Tensor, "height width"],
    new: Float[Tensor, "height width"],
) -> Float[Tensor, "height width"]:
    """A measured depth map after the fitted head has changed: every pixel of the head moves as the head's surface does.

    Args:
        seen: metres, 0 = none.
        old: of the fitted head as it was, metres, 0 beside it.
        new: of the changed head.

    Returns:
        Metres. Holes on the head are filled; where the new head comes before the background it gets the head's depth at
        the measured distance; what it uncovers was never seen and has none.
    """
    both = (old > 0) & (new > 0)
    # Where the change is a jump, another surface has come into view (lips, chin); the measurement may show either.
    jump = both & ((new - old).abs() > _JUMP)
    spread = _difference(torch.where(jump, 0.0, seen), old, _OUTLIER)
    whole = torch.where((seen == 0) & (old > 0), old + spread, seen)
    out = torch.where(both, whole + new - old, whole)
    out = torch.where((new > 0) & (jump | (old == 0)), new + spread, out)
    return torch.where((old > 0) & (new == 0), 0.0, out)
