"""Joints and skinning for ICT-FaceKit, which ships without: derived from its own shapes.

* Eyes: the centres of the spheres through the scleras. Upstream's eyeLook shapes move lids only, so the eyeballs
  turn about these joints.
* Jaw: in `jawOpen` the lower teeth turn rigidly (by 25 degrees); the fixed axis of that motion is the hinge. How far
  any other vertex follows the same motion is its weight.
* Neck: the base of the skull, which anatomy puts about 2 cm below and 2 cm behind the hinge of the jaw. Its weight
  rises from the cut at the bottom of the neck to the chin.
* Root: the centroid of all vertices, so that a global rotation turns the head on the spot.

An opened mouth can thus be had from the jaw joint or from the expression `jawOpen`; use one of them at a time.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float
from numpy import ndarray

from .ict_topology import vertex_regions

_NECK_FROM_HINGE = np.array([0.0, -0.02, -0.02])  # metres
_SUPPORT = 0.02  # metres around a joint's height and depth whose skin predicts it


@dataclass(frozen=True)
class IctRig:
    """Joints in the order root, neck, jaw, left eye, right eye."""

    regressor: Float[ndarray, "5 verts"]
    weights: Float[ndarray, "verts 5"]
    parents: tuple[int, ...]


def ict_rig(neutral: Float[ndarray, "verts 3"], jaw_open: Float[ndarray, "verts 3"]) -> IctRig:
    """Derive the rig.

    Args:
        neutral: vertices, metres.
        jaw_open: displacements of the expression jawOpen, metres.
    """
    regions = vertex_regions()
    skin = regions["face"] | regions["head_neck"]
    rotation, hinge = _hinge(neutral[regions["lower_teeth"]], jaw_open[regions["lower_teeth"]])
    neck = hinge + _NECK_FROM_HINGE
    uniform = np.full((1, len(neutral)), 1 / len(neutral))
    regressor = np.concatenate(
        [
            uniform,
            _predict(neutral, _beside(neutral, neck) & skin, neck),
            _predict(neutral, _beside(neutral, hinge) & skin, hinge),
            _predict(neutral, regions["sclera_left"], _sphere_centre(neutral[regions["sclera_left"]])),
            _predict(neutral, regions["sclera_right"], _sphere_centre(neutral[regions["sclera_right"]])),
        ]
    )
    head = _head_share(neutral)
    jaw = _jaw_share(neutral - hinge, jaw_open, rotation)
    jaw[regions["lower_teeth"]], jaw[regions["upper_teeth"]] = 1.0, 0.0
    weights = np.stack([1 - head, head * (1 - jaw), head * jaw, 0 * head, 0 * head], 1)
    weights[regions["eyeball_left"]] = [0, 0, 0, 1, 0]
    weights[regions["eyeball_right"]] = [0, 0, 0, 0, 1]
    return IctRig(regressor, weights, (-1, 0, 1, 1, 1))


def _hinge(
    points: Float[ndarray, "n 3"], moves: Float[ndarray, "n 3"]
) -> tuple[Float[ndarray, "3 3"], Float[ndarray, "3"]]:
    """Rotation of a rigid motion, and the point of its axis in the plane of symmetry (x = 0)."""
    after = points + moves
    u, _, vt = np.linalg.svd((points - points.mean(0)).T @ (after - after.mean(0)))
    rotation = (u @ np.diag([1, 1, np.linalg.det(u @ vt)]) @ vt).T
    offset = after.mean(0) - rotation @ points.mean(0)
    # (I - R) c = offset has the whole axis as solutions; the smallest one has no part along it.
    centre = np.linalg.lstsq(np.eye(3) - rotation, offset, rcond=1e-3)[0]
    return rotation, centre * [0, 1, 1]


def _jaw_share(
    arms: Float[ndarray, "verts 3"], moves: Float[ndarray, "verts 3"], rotation: Float[ndarray, "3 3"]
) -> Float[ndarray, "verts"]:
    """How far each vertex follows the jaw: its displacement projected on that of a rigid follower, 0..1."""
    rigid = arms @ rotation.T - arms
    reach = (rigid * rigid).sum(1) + 1e-6  # a millimetre: near the hinge nothing moves and nothing can be told
    return np.clip((rigid * moves).sum(1) / reach, 0, 1)


def _head_share(neutral: Float[ndarray, "verts 3"]) -> Float[ndarray, "verts"]:
    """0 at the cut through the bottom of the neck, 1 from the underside of the chin up.

    Heights count from the plane y = -0.392 z - 0.166 m, which slopes down to the front; no vertex of the cut lies
    more than 19 mm above it.
    """
    height = neutral[:, 1] + 0.392 * neutral[:, 2]
    bottom = -0.166 + 0.019
    top = np.percentile(height[vertex_regions()["narrow_face"]], 1) - 0.01
    ramp = np.clip((height - bottom) / (top - bottom), 0, 1)
    return ramp * ramp * (3 - 2 * ramp)


def _beside(neutral: Float[ndarray, "verts 3"], joint: Float[ndarray, "3"]) -> Bool[ndarray, "verts"]:
    return (np.abs(neutral[:, 1:] - joint[1:]) < _SUPPORT).all(1)


def _sphere_centre(points: Float[ndarray, "n 3"]) -> Float[ndarray, "3"]:
    """Least-squares sphere: |p|² = 2 p·c + (r² - |c|²) is linear in c."""
    rows = np.concatenate([2 * points, np.ones((len(points), 1))], 1)
    return np.linalg.lstsq(rows, (points * points).sum(1), rcond=None)[0][:3]


def _predict(
    neutral: Float[ndarray, "verts 3"], members: Bool[ndarray, "verts"], joint: Float[ndarray, "3"]
) -> Float[ndarray, "1 verts"]:
    """Weights on some vertices, with sum 1, that give the joint exactly and are as even as can be.

    They follow any affine deformation of those vertices.
    """
    if members.sum() < 4:
        raise AssertionError("too few vertices around a joint")
    points = neutral[members]
    rows = np.concatenate([points.T, np.ones((1, len(points)))])
    even = np.full(len(points), 1 / len(points))
    weights = even + np.linalg.pinv(rows) @ (np.append(joint, 1.0) - rows @ even)
    full = np.zeros((1, len(neutral)))
    full[0, members] = weights
    return full
