"""Smooth random deformations of a head: a Gaussian process over its surface, in low rank.

Lüthi et al., "Gaussian Process Morphable Models" (TPAMI 2018): a kernel says how far apart two points may move
differently; its leading eigenfunctions (Nyström's method) are deformation modes. Where a model built from few
sculpted controls is too stiff for real people, adding such modes to its samples widens its span.

The kernel is symmetric about the plane x = 0: a point and its mirror image move as mirror images, except for a
small free share. Displacement along x is odd under mirroring, along y and z even, so each axis is a scalar process.
"""

import numpy as np
from jaxtyping import Float
from numpy import ndarray
from scipy.linalg import eigh

#: (length scale, standard deviation) in metres of the sum of Gaussian kernels.
SCALES = ((0.080, 0.0016), (0.035, 0.0010), (0.015, 0.0005))
SYMMETRIC_SHARE = 0.9  # of the variance


def deformation_modes(
    points: Float[ndarray, "verts 3"],
    amplitude: Float[ndarray, "verts"],
    count: int,
    *,
    scales: tuple[tuple[float, float], ...] = SCALES,
    samples: int = 700,
    seed: int = 0,
) -> Float[ndarray, "modes verts 3"]:
    """Leading modes, each scaled so that a unit normal coefficient per mode draws from the process.

    Args:
        points: where the process is evaluated, metres; points given the same position move as one.
        amplitude: factor 0..1 on the standard deviation at each point (1 on the face, 0 where nothing may move).
        count: modes over all three axes together, largest variance first.
        scales: length scale and standard deviation of each kernel, metres.
        samples: points of the Nyström approximation.
        seed: picks those points.
    """
    rng = np.random.default_rng(seed)
    live = np.flatnonzero(amplitude > 0.05)
    chosen = rng.choice(live, min(samples, len(live)), replace=False)
    modes, variances = [], []
    for axis in range(3):
        sign = -1.0 if axis == 0 else 1.0
        small = _kernel(points[chosen], points[chosen], sign, scales)
        small *= amplitude[chosen, None] * amplitude[None, chosen]
        size = len(chosen)
        keep = min(count, size)
        values, vectors = eigh(small / size, subset_by_index=(size - keep, size - 1))
        good = values > 1e-12 * values[-1]
        values, vectors = values[good][::-1], vectors[:, good][:, ::-1]
        cross = _kernel(points, points[chosen], sign, scales) * amplitude[:, None] * amplitude[None, chosen]
        functions = cross @ (vectors / (np.sqrt(size) * values))  # unit mean square over the chosen points
        for value, function in zip(values, functions.T, strict=True):
            mode = np.zeros((len(points), 3))
            mode[:, axis] = function * np.sqrt(value)
            modes.append(mode)
            variances.append(value)
    order = np.argsort(variances)[::-1][:count]
    return np.stack([modes[i] for i in order])


def _kernel(
    a: Float[ndarray, "n 3"], b: Float[ndarray, "m 3"], sign: float, scales: tuple[tuple[float, float], ...]
) -> Float[ndarray, "n m"]:
    """Scalar kernel of one axis: even (sign 1) or odd (sign -1) under mirroring, plus the free share."""
    mirrored = b * np.array([-1.0, 1.0, 1.0])
    near, across = _squared(a, b), _squared(a, mirrored)
    out = np.zeros_like(near)
    for length, deviation in scales:
        same, other = np.exp(-near / (2 * length**2)), np.exp(-across / (2 * length**2))
        out += deviation**2 * (same + SYMMETRIC_SHARE * sign * other)
    return out


def _squared(a: Float[ndarray, "n 3"], b: Float[ndarray, "m 3"]) -> Float[ndarray, "n m"]:
    return np.maximum((a**2).sum(1)[:, None] + (b**2).sum(1)[None] - 2 * a @ b.T, 0)
