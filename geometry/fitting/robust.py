"""Robust kernels: ρ(s) of a squared, noise-scaled residual s = ‖r‖²/σ², and the weight ρ'(s).

Both behave as s near 0, so inliers count as in least squares.
"""

import numpy as np


def charbonnier(s: np.ndarray, scale: float) -> tuple[np.ndarray, np.ndarray]:
    """Smooth Huber (Charbonnier et al. 1994): linear in ‖r‖ beyond `scale` standard deviations; convex."""
    root = np.sqrt(1 + s / scale**2)
    return 2 * scale**2 * (root - 1), 1 / root


def geman_mcclure(s: np.ndarray, scale: float) -> tuple[np.ndarray, np.ndarray]:
    """Geman & McClure 1987: levels off at scale²; gross outliers lose all influence. Not convex."""
    ratio = scale**2 / (scale**2 + s)
    return s * ratio, ratio**2


def least_squares(s: np.ndarray, scale: float) -> tuple[np.ndarray, np.ndarray]:
    """No robustness; `scale` is not used."""
    return s, np.ones_like(s)


KERNELS = {"charbonnier": charbonnier, "geman-mcclure": geman_mcclure, "none": least_squares}
