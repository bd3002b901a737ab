"""Between the NPHM fields' frame and metres, and the region that is compared.

One NPHM unit is 250 mm of FLAME; the axes are FLAME's. A scan of their dataset has its own similarity,
nphm = s R raw + t, with raw in millimetres.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor

#: NPHM units per metre of FLAME's frame.
UNITS_PER_METRE = 4.0

#: Corners of the box in which the authors extract surfaces, NPHM units.
BOX = ((-0.55, -0.5, -0.95), (0.55, 0.75, 0.4))


@dataclass(frozen=True)
class ScanFrame:
    """The similarity of one scan of the NPHM dataset: nphm = scale · rotation · raw + offset."""

    scale: float
    rotation: Float[Tensor, "3 3"]
    offset: Float[Tensor, "3"]

    def to_nphm(self, raw: Float[Tensor, "*batch 3"]) -> Float[Tensor, "*batch 3"]:
        """Raw millimetres to NPHM units."""
        return self.scale * raw @ self.rotation.mT + self.offset

    def to_raw(self, points: Float[Tensor, "*batch 3"]) -> Float[Tensor, "*batch 3"]:
        """NPHM units to raw millimetres."""
        return (points - self.offset) @ self.rotation / self.scale


def to_metres(points: Float[Tensor, "*batch 3"]) -> Float[Tensor, "*batch 3"]:
    """NPHM units to FLAME's metres."""
    return points / UNITS_PER_METRE


def from_metres(points: Float[Tensor, "*batch 3"]) -> Float[Tensor, "*batch 3"]:
    """FLAME's metres to NPHM units."""
    return points * UNITS_PER_METRE


def above_plane(points: Float[Tensor, "n 3"], plane: Float[Tensor, "3 3"], margin: float = 0.0) -> Bool[Tensor, "n"]:
    """Points above the plane through three others: how scans are cut at the throat.

    Args:
        points: any.
        plane: three points; those count as above to which (second - first) x (third - first) points.
        margin: how far above, times the length of that product (the authors do not normalise it).
    """
    first, second, third = plane.unbind(-2)
    return (points - first) @ torch.linalg.cross(second - first, third - first) > margin
