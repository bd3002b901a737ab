"""Rodrigues' formula, the one rotation every head needs.

`roma` has it too, and has all other conversions that this project uses; since 1.6.1 it loads torch's compiler when it
is imported, which takes as long as importing torch itself. What must open quickly takes this one.
"""

import torch
from jaxtyping import Float
from torch import Tensor

#: Squared angle below which the series are used: their first missing terms are under 1e-16 there.
_SMALL = 1e-4


def rotvec_to_rotmat(rotvec: Float[Tensor, "*batch 3"]) -> Float[Tensor, "*batch 3 3"]:
    """Rotation matrices of axis-angle vectors: R = 1 + sin θ/θ [v] + (1 - cos θ)/θ² [v]².

    Args:
        rotvec: axis times angle, radians; any length. Smooth at 0, with all derivatives.
    """
    x, y, z = rotvec.unbind(-1)
    square = x * x + y * y + z * z
    small = square < _SMALL
    safe = torch.where(small, torch.ones_like(square), square)
    angle = safe.sqrt()
    half = (angle / 2).sin()
    sine = torch.where(small, 1 - square / 6 * (1 - square / 20), angle.sin() / angle)
    versine = torch.where(small, 0.5 - square / 24 * (1 - square / 30), 2 * half * half / safe)
    xy, xz, yz = versine * x * y, versine * x * z, versine * y * z
    across = [versine * a for a in (square - x * x, square - y * y, square - z * z)]
    x, y, z = sine * x, sine * y, sine * z
    rows = (1 - across[0], xy - z, xz + y, xy + z, 1 - across[1], yz - x, xz - y, yz + x, 1 - across[2])
    return torch.stack(rows, -1).unflatten(-1, (3, 3))
