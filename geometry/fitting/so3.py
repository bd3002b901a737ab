"""Rotations of single vectors in float64 numpy, for the inner loops of the solvers (a roma call costs ten of these)."""

import numpy as np


def rotation_matrix(vector: np.ndarray) -> np.ndarray:
    """Axis-angle (3,), radians -> matrix (3, 3)."""
    return _series(vector, 1.0, 0.5, 1 / 6, 1 / 24, _sine, _versine)


def left_jacobian(vector: np.ndarray) -> np.ndarray:
    """J (3, 3) with R(v + dv) = exp(J dv) R(v) to first order."""
    return _series(vector, 0.5, 1 / 6, 1 / 24, 1 / 120, _versine, _cubic)


def rotation_vector(matrix: np.ndarray) -> np.ndarray:
    """Matrix (3, 3) -> axis-angle (3,), angle in 0..π (through the quaternion of largest component)."""
    m = matrix
    gram = np.array(
        [
            [m[0, 0] - m[1, 1] - m[2, 2], m[1, 0] + m[0, 1], m[2, 0] + m[0, 2], m[2, 1] - m[1, 2]],
            [m[1, 0] + m[0, 1], m[1, 1] - m[0, 0] - m[2, 2], m[2, 1] + m[1, 2], m[0, 2] - m[2, 0]],
            [m[2, 0] + m[0, 2], m[2, 1] + m[1, 2], m[2, 2] - m[0, 0] - m[1, 1], m[1, 0] - m[0, 1]],
            [m[2, 1] - m[1, 2], m[0, 2] - m[2, 0], m[1, 0] - m[0, 1], m[0, 0] + m[1, 1] + m[2, 2]],
        ]
    )
    quaternion = np.linalg.eigh(gram)[1][:, -1]  # Bar-Itzhack 2000: also the nearest rotation's
    if quaternion[3] < 0:
        quaternion = -quaternion
    sine = float(np.linalg.norm(quaternion[:3]))
    if sine < 1e-9:
        return 2 * quaternion[:3]
    return quaternion[:3] * (2 * np.arctan2(sine, quaternion[3]) / sine)


def _series(vector, first, second, third, fourth, linear, square) -> np.ndarray:
    """I + a [v] + b [v]², with a, b from functions of the angle, or from their Taylor series near 0."""
    angle = float(np.linalg.norm(vector))
    x, y, z = (float(c) for c in vector)
    skew = np.array([[0.0, -z, y], [z, 0.0, -x], [-y, x, 0.0]])
    if angle < 1e-3:
        a, b = first - third * angle**2, second - fourth * angle**2
    else:
        a, b = linear(angle), square(angle)
    return np.eye(3) + a * skew + b * (skew @ skew)


def _sine(angle: float) -> float:
    return np.sin(angle) / angle


def _versine(angle: float) -> float:
    return (1 - np.cos(angle)) / angle**2


def _cubic(angle: float) -> float:
    return (angle - np.sin(angle)) / angle**3
