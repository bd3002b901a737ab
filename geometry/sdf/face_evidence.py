"""Is there a face in what was fitted? Eyes and nose against a smooth lump.

A flexible head laid on an egg lies close to it, so that no residual alone can tell. What can: whether the head
explains the scan about eyes and nose better than the best surface without any of them,

    r(d) = Σ a_k Y_k(d),    distances from a point behind the face, spherical harmonics up to the third degree.

Noise adds to both residuals, and mouths, hair, shoulders and the back of the head have no part in it.
"""

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float
from numpy import ndarray
from scipy.spatial import KDTree
from torch import Tensor

from .align import Target
from .head_fields import HeadFields
from .scan_points import SurfacePoints

#: Anchors at the eyes' corners, the tip and the bridge of the nose.
_FEATURES = (10, 11, 12, 13, 33, 36)

#: How far features reach from their anchors, and how near to the head the scan's points count; field units.
_REACH, _NEAR = 0.13, 0.06

#: The lump's centre lies this far behind the features' middle, field units.
_DEPTH = 0.35

#: Points needed for a lump of a degree.
_DEGREES = ((60, 3), (30, 2))

#: A head is seen where the scan comes within this, or within its points' own spacing; field units.
_SEEN = 0.03

_MM = 250.0


@dataclass(frozen=True)
class FaceEvidence:
    """What the scan shows of eyes and nose."""

    points: int  #: of the scan there
    covered: float  #: share of the head's features that the scan shows
    agreement: float  #: median cosine between the normals
    residual_mm: float  #: mean distance to the head's tangent planes, without the worst tenth
    relief_mm: float  #: the same to the best lump

    @property
    def ratio(self) -> float:
        """Of the two residuals: well below 1 where there is a face."""
        return self.residual_mm / max(self.relief_mm, 1e-9)


def feature_points(
    fields: HeadFields,
    vertices: Float[ndarray, "n 3"],
    identity: Float[Tensor, "latent"],
    expression: Float[Tensor, "ex"] | None,
) -> tuple[Bool[ndarray, "n"], Float[ndarray, "3"]]:
    """Which vertices of a head's mesh belong to eyes and nose, and the middle of these.

    Args:
        fields: NPHM's, with our 39 anchors.
        vertices: of the head in the expression, in the fields' frame.
        identity: its latent.
        expression: likewise; None for the canonical head.
    """
    with torch.no_grad():
        anchors = fields.anchors(identity)
        if expression is not None:
            anchors = anchors + fields.offsets(identity, expression, anchors)
    chosen = [a for a in _FEATURES if a < len(anchors)]
    features = anchors[chosen].double().numpy()
    return KDTree(features).query(vertices)[0] < _REACH, features.mean(0)


def face_evidence(
    target: Target, features: Bool[ndarray, "n"], middle: Float[ndarray, "3"], placed: SurfacePoints
) -> FaceEvidence:
    """Compare a fitted head and the best lump as explanations of a scan.

    Args:
        target: the fitted head.
        features: which of its points belong to eyes and nose.
        middle: of these.
        placed: the scan, in the fields' frame.
    """
    distance, index = target.tree.query(placed.points)
    near = (distance < _NEAR) & features[index]
    points, index = placed.points[near], index[near]
    wanted = target.points[features]
    tree = KDTree(placed.points)
    spacing = float(np.median(tree.query(placed.points[:500], k=min(4, len(placed.points)))[0][:, -1]))
    covered = float((tree.query(wanted)[0] < max(_SEEN, 2 * spacing)).mean()) if len(wanted) else 0.0
    if len(points) < _DEGREES[-1][0]:
        return FaceEvidence(len(points), covered, 0.0, np.inf, 0.0)
    normals = target.normals[index]
    cosine = (placed.normals[near] * normals).sum(1)
    cosine = cosine * np.sign(cosine.sum()) if placed.oriented else np.abs(cosine)
    residual = np.abs(((points - target.points[index]) * normals).sum(1))
    relief = _lump_residual(points - (middle - np.array([0.0, 0.0, _DEPTH])), normals)
    return FaceEvidence(len(points), covered, float(np.median(cosine)), _mean(residual), relief)


def _lump_residual(arms: Float[ndarray, "n 3"], normals: Float[ndarray, "n 3"]) -> float:
    """Millimetres to the best lump, by reweighted least squares for the absolute distances."""
    degree = next(degree for fewest, degree in _DEGREES if len(arms) >= fewest)
    length = np.linalg.norm(arms, axis=1)
    direction = arms / length[:, None]
    basis = harmonics(direction, degree)
    weight, error = np.ones(len(arms)), np.zeros(len(arms))
    for _ in range(6):
        solution = np.linalg.lstsq(basis * weight[:, None], length * weight, rcond=None)[0]
        error = np.abs(basis @ solution - length)
        weight = 1 / np.sqrt(np.maximum(error, 1e-3))
    spent = np.sqrt(len(arms) / (len(arms) - basis.shape[1]))  # as many numbers were fitted to the points
    return spent * _mean(error * np.abs((direction * normals).sum(1)))


def harmonics(direction: Float[ndarray, "n 3"], degree: int) -> Float[ndarray, "n k"]:
    """Functions that span the spherical harmonics up to a degree: the monomials of the two highest degrees, since on
    the sphere x² + y² + z² = 1 turns every lower one into these."""
    x, y, z = direction.T
    return np.stack(
        [
            x**i * y**j * z ** (order - i - j)
            for order in (degree, degree - 1)
            for i in range(order + 1)
            for j in range(order + 1 - i)
        ],
        1,
    )


def _mean(distance: Float[ndarray, "n"]) -> float:
    """Millimetres, without the worst tenth."""
    return _MM * float(np.sort(distance)[: max(1, int(0.9 * len(distance)))].mean())
