"""Laying a scan of unknown pose, and maybe unknown unit, on a head: iterated closest points from many starts.

    field = scale · rotation · scan + offset

Starts are the 24 turns of a cube, each also turned 45 degrees to either side, with the scan's middle, top or front on
the head's. At first the scan is drawn to the head, and each start is judged by how near the scan comes to the head and
how near the head's face comes to the scan. In the end the head's face alone is drawn to the scan and alone decides:
shoulders may stick out, hair may hang down, and the back of the head may be missing.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int
from numpy import ndarray
from scipy.spatial import KDTree

from ..fitting.robust import geman_mcclure
from ..fitting.so3 import rotation_matrix
from ..models.correspondence import similarity
from .scan_points import SurfacePoints

#: Distances count up to this, in the field's unit: 30 mm.
_FAR = 0.12

#: The same where the face decides: 12 mm.
_FACE_FAR = 0.048

#: Alignments nearer to each other than this are one: cosine of half the angle between them, field units.
_SAME_TURN, _SAME_PLACE = 0.985, 0.08

#: Extents of scans whose unit is none of the known, metres.
_GUESSES = (0.22, 0.32, 0.45, 0.6)


@dataclass(frozen=True)
class Target:
    """A head's surface in the field's frame and unit."""

    points: Float[ndarray, "n 3"]
    normals: Float[ndarray, "n 3"]  #: unit, outwards
    face: Bool[ndarray, "n"]
    tree: KDTree
    features: Bool[ndarray, "n"] | None = None  #: eyes and nose, which hold a face in its place


@dataclass(frozen=True)
class Alignment:
    """field = scale · rotation · scan + offset."""

    scale: float
    rotation: Float[ndarray, "3 3"]
    offset: Float[ndarray, "3"]
    face_distance: float  #: mean over the nearer 70 % of the face's points, to the scan, in the field's unit
    agreement: float  #: mean cosine between the face's normals and the scan's there

    def to_field(self, points: Float[ndarray, "*batch 3"]) -> Float[ndarray, "*batch 3"]:
        return self.scale * points @ self.rotation.T + self.offset

    def to_scan(self, points: Float[ndarray, "*batch 3"]) -> Float[ndarray, "*batch 3"]:
        return (points - self.offset) @ self.rotation / self.scale


def align(
    scan: SurfacePoints,
    target: Target,
    scales: tuple[float, ...],
    free_scale: bool,
    start: Alignment | None = None,
) -> Alignment:
    """Lay a scan on a head. Seconds without a start.

    Args:
        scan: its points.
        target: the head.
        scales: field units per unit of the scan to try.
        free_scale: the scale may change by a quarter.
        start: where to begin instead of from everywhere.
    """
    few, some = _subset(scan, 300), _subset(scan, 1500)
    if start is None:
        found = [
            _search(few, target, begin, 4, free_scale) for scale in scales for begin in _starts(few, target, scale)
        ]
        found = sorted(found, key=lambda a: _cost(few, target, a))[: max(12, len(found) // 4)]
        found = _distinct([_search(few, target, a, 8, free_scale) for a in found])
        tree, face = KDTree(some.points), _face(target, 200)
        found = [_face_search(some, tree, face, a, 12, free_scale, _FAR) for a in found]
        found = sorted(_distinct(found), key=lambda a: _face_cost(some, tree, face, a))[:6]
    else:
        found = [start]
    tree, face = KDTree(scan.points), _face(target, 500)
    found = [_face_search(scan, tree, face, a, 25, free_scale, _FACE_FAR) for a in found]
    best = min(found, key=lambda a: _face_cost(scan, tree, face, a))
    return judged(scan, target, best)


def landmark_start(marks: Float[ndarray, "k 3"], goals: Float[ndarray, "k 3"], scale: float | None) -> Alignment:
    """A start from corresponding points.

    Args:
        marks: on the scan.
        goals: the same on the head, in the field's frame.
        scale: the scale if it is known.
    """
    size, rotation, offset = similarity(marks, goals)
    if scale is not None:
        size, offset = scale, goals.mean(0) - scale * rotation @ marks.mean(0)
    return Alignment(size, rotation, offset, np.nan, np.nan)


def guessed_scales(extent: float, units_per_metre: float) -> tuple[float, ...]:
    """Scales to try for a scan of unknown unit."""
    return tuple(units_per_metre * guess / extent for guess in _GUESSES)


def judged(scan: SurfacePoints, target: Target, found: Alignment) -> Alignment:
    """The same alignment with its residuals."""
    placed = found.to_field(scan.points)
    face = target.points[target.face]
    distance, index = KDTree(placed).query(face)
    near = distance <= np.quantile(distance, 0.7)
    cosine = ((scan.normals[index] @ found.rotation.T) * target.normals[target.face]).sum(1)[near]
    if not scan.oriented:
        cosine = np.abs(cosine)
    return Alignment(found.scale, found.rotation, found.offset, float(distance[near].mean()), abs(float(cosine.mean())))


def _subset(scan: SurfacePoints, count: int) -> SurfacePoints:
    # Drawn at random already: the first ones are as good as any.
    return SurfacePoints(scan.points[:count], scan.normals[:count], scan.oriented, 0)


def _starts(scan: SurfacePoints, target: Target, scale: float) -> list[Alignment]:
    low, high = np.percentile(target.points, [1, 99], axis=0)
    face = target.points[target.face].mean(0)
    out = []
    for cube in _cube_turns():
        for yaw in (0.0, np.pi / 4, -np.pi / 4):
            rotation = rotation_matrix(np.array([0.0, yaw, 0.0])) @ cube
            placed = scale * scan.points @ rotation.T
            own_high = np.percentile(placed, 99, axis=0)
            upper = placed[placed[:, 1] > own_high[1] - (high[1] - low[1])]
            top = (low + high) / 2 - upper.mean(0)
            top[1] = high[1] - own_high[1]
            front = face - placed.mean(0)
            front[2] = high[2] - own_high[2]
            for offset in (target.points.mean(0) - placed.mean(0), top, front):
                out.append(Alignment(scale, rotation, offset, np.nan, np.nan))
    return out


def _cube_turns() -> list[Float[ndarray, "3 3"]]:
    out = []
    for order in ((0, 1, 2), (1, 2, 0), (2, 0, 1), (0, 2, 1), (2, 1, 0), (1, 0, 2)):
        for signs in np.ndindex(2, 2, 2):
            turn = np.eye(3)[list(order)] * (1 - 2 * np.array(signs))[:, None]
            if np.linalg.det(turn) > 0:
                out.append(turn)
    return out


def _cost(scan: SurfacePoints, target: Target, found: Alignment) -> float:
    """Mean distances, capped, from the scan to the head and from its face to the scan; turned normals add to them."""
    placed = found.to_field(scan.points)
    there, index = target.tree.query(placed, distance_upper_bound=_FAR)
    known = np.isfinite(there)
    cosine = ((scan.normals[known] @ found.rotation.T) * target.normals[index[known]]).sum(1)
    if not scan.oriented:
        cosine = np.abs(cosine)
    elif cosine.sum() < 0:  # inside out
        cosine = -cosine
    missed = np.full(len(placed), 2 * _FAR)
    missed[known] = there[known] + _FAR * (1 - cosine) / 2
    face = target.points[target.face]
    back = np.minimum(KDTree(placed).query(face[:: max(1, len(face) // 300)])[0], _FAR)
    return float(missed.mean() + 2 * back.mean())


def _search(scan: SurfacePoints, target: Target, found: Alignment, rounds: int, free_scale: bool) -> Alignment:
    """Point-to-plane rounds, the scan drawn to the head; far pairs lose their weight, the more so the later."""
    first = found.scale
    for number in range(rounds):
        placed = found.to_field(scan.points)
        _, index = target.tree.query(placed)
        cosine = _agreement(scan, found, target.normals[index])
        reach = max(_FAR * (1 - number / 20), 0.03)
        moved = _step(found, placed, target.points[index], target.normals[index], cosine, reach, first, free_scale)
        if moved is None:
            break
        found = moved
    return found


def _face(target: Target, count: int) -> tuple[Float[ndarray, "k 3"], Float[ndarray, "k 3"]]:
    """About as many points of the head's face, and their normals; half of them of its features, where these are known:
    cheeks and foreheads glide."""
    parts = [np.flatnonzero(target.face)]
    if target.features is not None:
        parts.append(np.flatnonzero(target.features))
    chosen = np.concatenate([part[:: max(1, len(parts) * len(part) // count)] for part in parts])
    return target.points[chosen], target.normals[chosen]


def _face_search(
    scan: SurfacePoints,
    tree: KDTree,
    face: tuple[Float[ndarray, "k 3"], Float[ndarray, "k 3"]],
    found: Alignment,
    rounds: int,
    free_scale: bool,
    reach: float,
) -> Alignment:
    """The same rounds the other way about: the head's face finds its places on the scan, whatever else the scan has.

    Args:
        tree: of the scan's points, in its frame.
        reach: see `_step`; half of it in the end.
    """
    first, (goal, normal) = found.scale, face
    for number in range(rounds):
        index = np.asarray(tree.query(found.to_scan(goal))[1])
        cosine = _agreement(scan, found, normal, index)
        shrunk = reach * max(1 - number / rounds, 0.5)
        moved = _step(found, found.to_field(scan.points[index]), goal, normal, cosine, shrunk, first, free_scale)
        if moved is None:
            break
        found = moved
    return found


def _face_cost(
    scan: SurfacePoints, tree: KDTree, face: tuple[Float[ndarray, "k 3"], Float[ndarray, "k 3"]], found: Alignment
) -> float:
    """Mean capped distance from the head's face to the scan's tangent planes; turned normals add to it."""
    goal, normal = face
    away, index = map(np.asarray, tree.query(found.to_scan(goal)))
    cosine = _agreement(scan, found, normal, index)
    height = np.abs(((found.to_field(scan.points[index]) - goal) * normal).sum(1))
    # Beside the scan's border the tangent plane goes on, but nothing is there.
    beside = np.maximum(found.scale * away - 2 * _FACE_FAR / 3, 0)
    return float((np.minimum(height + beside, _FACE_FAR) + _FACE_FAR * (1 - cosine) / 2).mean())


def _agreement(
    scan: SurfacePoints, found: Alignment, normals: Float[ndarray, "n 3"], index: Int[ndarray, "n"] | None = None
) -> Float[ndarray, "n"]:
    """Cosines between normals of the head and of the scan; clouds' and inside-out scans' may point either way."""
    own = scan.normals if index is None else scan.normals[index]
    cosine = ((own @ found.rotation.T) * normals).sum(1)
    return np.abs(cosine) if not scan.oriented or cosine.sum() < 0 else cosine.clip(0)


def _step(
    found: Alignment,
    placed: Float[ndarray, "n 3"],
    goal: Float[ndarray, "n 3"],
    normal: Float[ndarray, "n 3"],
    cosine: Float[ndarray, "n"],
    reach: float,
    first: float,
    free_scale: bool,
) -> Alignment | None:
    """One weighted point-to-plane step; None where too little is left to hold on to.

    Args:
        found: from here.
        placed: points of the scan, in the field's frame.
        goal: where they shall lie.
        normal: of the head there.
        cosine: how well the normals agree.
        reach: pairs farther apart hardly count.
        first: the scale that a free one keeps near to.
    """
    gap = goal - placed
    weight = geman_mcclure((gap**2).sum(1) / reach**2, 1.0)[1] * cosine**2
    if weight.sum() < 20:
        return None
    centre = (weight[:, None] * placed).sum(0) / weight.sum()
    arm = placed - centre
    rows = np.concatenate([np.cross(arm, normal), normal, (arm * normal).sum(1, keepdims=True)], 1)
    system = rows.T @ (weight[:, None] * rows)
    system += np.diag([1e-6] * 6 + [1e-6 if free_scale else 1e12]) * weight.sum()
    motion = np.linalg.solve(system, rows.T @ (weight * (gap * normal).sum(1)))
    scale = found.scale
    ratio = float(np.clip(np.exp(motion[6]), 0.8 * first / scale, 1.25 * first / scale)) if free_scale else 1.0
    turn = rotation_matrix(np.clip(motion[:3], -0.4, 0.4))
    offset = centre + ratio * turn @ (found.offset - centre) + motion[3:6]
    return Alignment(scale * ratio, turn @ found.rotation, offset, np.nan, np.nan)


def _distinct(found: list[Alignment]) -> list[Alignment]:
    """Without those that come after nearly the same."""
    kept: list[Alignment] = []
    for one in found:
        for other in kept:
            # trace = 1 + 2 cos(angle) = 4 cos²(angle / 2) - 1
            half = np.sqrt(max(0.0, (np.trace(one.rotation @ other.rotation.T) + 1) / 4))
            near = np.linalg.norm(one.offset - other.offset) < _SAME_PLACE
            if half > _SAME_TURN and near and abs(one.scale / other.scale - 1) < 0.1:
                break
        else:
            kept.append(one)
    return kept
