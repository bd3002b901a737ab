"""Closed-form head pose from landmarks: a robust affine camera, then its nearest scaled rotation.

Works at any yaw and roll because the model's points are not coplanar (Tomasi & Kanade 1992; the nearest orthonormal
rows as in Procrustes' problem).
"""

import numpy as np

from .robust import charbonnier


def weak_perspective_pose(
    points: np.ndarray, pixels: np.ndarray, weights: np.ndarray, rounds: int = 6
) -> tuple[np.ndarray, float, np.ndarray]:
    """Pose of a rigid head under scaled orthographic projection.

    Args:
        points: (n, 3) model frame, metres, centred where the offset is wanted.
        pixels: (n, 2) x right, y down.
        weights: (n,) confidence.
        rounds: reweighted least-squares solves against outliers.

    Returns:
        rotation (3, 3) model -> world (y up, z to the camera), scale in pixels per metre, and the pixel (2,) of the
        model's origin.
    """
    design = np.concatenate([points, np.ones((len(points), 1))], 1)
    current, affine = weights, np.zeros((4, 2))
    for _ in range(rounds):
        affine = np.linalg.lstsq(design * current[:, None] ** 0.5, pixels * current[:, None] ** 0.5, rcond=None)[0]
        squared = ((design @ affine - pixels) ** 2).sum(-1)
        current = weights * charbonnier(squared / max(float(np.median(squared)), 1e-12), 1.5)[1]
    rows = affine[:3].T * np.array([[1.0], [-1.0]])  # image y runs down
    u, scales, vt = np.linalg.svd(rows, full_matrices=False)
    right, up = u @ vt
    return np.stack([right, up, np.cross(right, up)]), float(scales.mean()), affine[3]
