"""Scans as the fields' fitting wants them: points with normals, cleaned, in whatever frame and unit they came.

The unit is told by the size: a head with its neck is some 30 cm high, a face some 15, a bust 60, so that metres,
centimetres and millimetres cannot be confused.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int
from numpy import ndarray
from scipy.spatial import KDTree
from torch import Tensor

from ..camera import Camera
from ..errors import HeadlabError
from ..fitting.scan_surface import scan_surface
from ..rgbd.cloud import back_project

#: Metres per unit.
UNITS = {"m": 1.0, "cm": 0.01, "mm": 0.001}

#: Sizes (middle 96 % of the points, largest extent) from half a face to a bust, metres.
_SMALLEST, _LARGEST = 0.09, 0.85

_FEWEST = 200

#: Depth of a person in a depth map, metres.
_BEHIND = 0.5
#: Of people who show more than the first, only so much from the top of the head downwards counts, metres.
_TALL, _BUST = 0.6, 0.4
_NEIGHBOUR = 8
#: A point this many times farther from its neighbours than points usually are is an outlier.
_LONELY = 6.0


@dataclass(frozen=True)
class Scan:
    """A mesh or a cloud of points of somebody's head, as it was read."""

    points: Float[ndarray, "n 3"]
    faces: Int[ndarray, "faces 3"] | None = None
    colors: Float[ndarray, "n 3"] | None = None  #: sRGB, 0..1
    unit: str | None = None  #: of `UNITS`, where it is known

    @property
    def extent(self) -> float:
        """Largest extent along an axis, without the outermost 2 % on either side; 0 where no point is a number."""
        known = self.points[np.isfinite(self.points).all(1)]
        if len(known) == 0:
            return 0.0
        low, high = np.percentile(known, [2, 98], axis=0)
        return float((high - low).max())

    def unbroken(self) -> "Scan":
        """Without points that are no numbers, and triangles at them."""
        good = np.isfinite(self.points).all(1)
        if good.all():
            return self
        faces = None
        if self.faces is not None:
            faces = (np.cumsum(good) - 1)[self.faces[good[self.faces].all(1)]]
        return Scan(self.points[good], faces, None if self.colors is None else self.colors[good], self.unit)


@dataclass(frozen=True)
class SurfacePoints:
    """Points spread over a scan's surface, in its frame and unit."""

    points: Float[ndarray, "n 3"]
    normals: Float[ndarray, "n 3"]  #: unit
    oriented: bool  #: all normals point outwards (or all inwards)
    dropped: int  #: outliers and broken points left out


def scan_unit(extent: float) -> str | None:
    """ "m", "cm" or "mm", by the size of a scan of a head; None if it fits none of them."""
    fitting = [name for name, metres in UNITS.items() if _SMALLEST <= extent * metres <= _LARGEST]
    return fitting[0] if fitting else None


def surface_points(scan: Scan, count: int, generator: np.random.Generator) -> SurfacePoints:
    """Draw points of a scan: of a mesh uniformly by area, of a cloud among its points; normals estimated for clouds.

    Args:
        scan: any.
        count: at most as many points.
        generator: for the draws.

    Raises:
        HeadlabError: too few points, or faces that name points there are none of.
    """
    points = np.asarray(scan.points, dtype=np.float64)
    finite = np.isfinite(points).all(1)
    if scan.faces is not None and len(scan.faces):
        faces = np.asarray(scan.faces)
        if faces.min() < 0 or faces.max() >= len(points):
            raise HeadlabError(
                f"the scan's faces name points {faces.min()}..{faces.max()} but it has {len(points)}; export it again"
            )
        faces = faces[finite[faces].all(1)]
        _check_count(len(np.unique(faces)), len(points))
        surface = scan_surface(np.where(finite[:, None], points, 0.0), faces)
        drawn, normals = _on_faces(points, faces, surface.normals, count, generator)
        return SurfacePoints(drawn, normals, True, int((~finite).sum()))
    kept = points[finite]
    _check_count(len(kept), len(points))
    kept = kept[~lonely(kept)]
    _check_count(len(kept), len(points))
    if len(kept) > 4 * count:  # normals of as many as matter
        kept = kept[generator.choice(len(kept), 4 * count, replace=False)]
    surface = scan_surface(kept, None)
    chosen = generator.permutation(len(kept))[:count]
    return SurfacePoints(kept[chosen], surface.normals[chosen], False, len(points) - int(finite.sum()))


def lonely(points: Float[ndarray, "n 3"]) -> Bool[ndarray, "n"]:
    """Outliers: points far from their neighbours, or in the outskirts of all."""
    distance = KDTree(points).query(points, k=min(_NEIGHBOUR, len(points) - 1) + 1)[0][:, -1]
    from_middle = np.linalg.norm(points - np.median(points, axis=0), axis=1)
    return (distance > _LONELY * np.median(distance)) | (from_middle > _LONELY * np.median(from_middle))


def _check_count(usable: int, given: int) -> None:
    if usable < _FEWEST:
        raise HeadlabError(
            f"the scan has {usable} usable points of {given}; at least {_FEWEST} are needed to tell a head: give a "
            "denser one"
        )


def _on_faces(
    points: Float[ndarray, "n 3"],
    faces: Int[ndarray, "faces 3"],
    normals: Float[ndarray, "n 3"],
    count: int,
    generator: np.random.Generator,
) -> tuple[Float[ndarray, "drawn 3"], Float[ndarray, "drawn 3"]]:
    a, b, c = (points[faces[:, i]] for i in range(3))
    area = np.linalg.norm(np.cross(b - a, c - a), axis=1)
    if not area.sum() > 0:
        raise HeadlabError("the scan's triangles have no area; export it again")
    which = generator.choice(len(faces), count, p=area / area.sum())
    u, v = generator.random((2, count))
    root = np.sqrt(u)
    weights = np.stack([1 - root, root * (1 - v), root * v], -1)[..., None]
    normal = (weights * normals[faces[which]]).sum(1)
    length = np.maximum(np.linalg.norm(normal, axis=1, keepdims=True), 1e-20)
    return (weights * points[faces[which]]).sum(1), normal / length


def depth_scan(
    depth: Float[Tensor, "height width"], camera: Camera, image: Float[Tensor, "3 height width"] | None = None
) -> Scan:
    """The points of a depth map in the camera's world; what lies more than half a metre behind the nearest thing is
    background, and of somebody who is seen from head to chest or further, what lies 40 cm below the top is body.

    Args:
        depth: metres, 0 = none.
        camera: that took it, of the same size.
        image: colours of the same pixels.

    Raises:
        HeadlabError: there is no depth in it.
    """
    away = depth.flatten()
    known = away > 0
    if not bool(known.any()):
        raise HeadlabError("the depth map is empty; give one with depths in millimetres, 0 where there is none")
    nearest = float(np.quantile(away[known].numpy(), 0.02))
    known &= away < nearest + _BEHIND
    kept = back_project(depth, camera).reshape(-1, 3)[known].numpy()
    colors = None if image is None else image.flatten(1).T[known].double().numpy()
    below = kept @ camera.R[1].double().numpy()  # the camera's y, downwards
    top, bottom = np.quantile(below, [0.002, 0.998])
    upper = below < top + _BUST if bottom - top > _TALL else np.ones(len(kept), dtype=bool)
    return Scan(kept[upper], None, None if colors is None else colors[upper], "m")


def nearest_colors(scan: Scan, vertices: Float[ndarray, "verts 3"]) -> Float[ndarray, "verts 3"]:
    """Colours of a mesh laid on a coloured scan: of the nearest points, fading to the mean where none is near."""
    assert scan.colors is not None
    count = min(4, len(scan.points))
    distance, index = KDTree(scan.points).query(vertices, k=count)
    distance, index = distance.reshape(len(vertices), count), index.reshape(len(vertices), count)
    weight = 1 / np.maximum(distance, 1e-9)
    color = (scan.colors[index] * (weight / weight.sum(1, keepdims=True))[..., None]).sum(1)
    trust = np.clip(2 - distance[:, :1] / (0.02 * scan.extent), 0, 1)
    return trust * color + (1 - trust) * scan.colors.mean(0)
