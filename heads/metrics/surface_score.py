"""One head's surface against the true one, in millimetres: the whole outer surface, and the face.

Distances are exact, from points drawn on one surface to the other's triangles: with samples on both sides, as the
authors have it (geometry/sdf/metrics.py), the spacing of the samples would be a floor below which nothing is seen.
What no view from outside shows (a closed mouth's inside) and what lies below the cut through the neck is left out of
both surfaces.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from ...geometry.errors import HeadlabError
from ...geometry.raster import closest_point
from ...geometry.sdf.extract import mesh_normals
from ...geometry.sdf.frame import UNITS_PER_METRE
from ...geometry.sdf.metrics import OneWay, SurfaceComparison
from ...geometry.sdf.sampling import LOWEST, visible_faces

#: Millimetres of one unit of the fields' frame.
MILLIMETRES = 1000 / UNITS_PER_METRE

#: How far above the cut points must lie: surfaces end raggedly there.
_MARGIN = 0.03


@dataclass(frozen=True)
class HeadSurface:
    """Triangles in the fields' frame."""

    vertices: Float[Tensor, "verts 3"]
    faces: Int[Tensor, "faces 3"]
    on_face: Bool[Tensor, "faces"] | None = None  #: needed of the true surface, for the score of the face

    def outer(self) -> "HeadSurface":
        """What can be seen from outside.

        Raises:
            HeadlabError: nothing is left, or vertices are no numbers.
        """
        if len(self.faces) == 0 or not bool(self.vertices.isfinite().all()):
            raise HeadlabError("the surface has no triangles, or vertices that are no numbers; give a mesh of a head")
        seen = visible_faces(self.vertices, self.faces)
        if not bool(seen.any()):
            raise HeadlabError("no triangle of the surface faces outwards; turn its faces round")
        return HeadSurface(self.vertices, self.faces[seen], None if self.on_face is None else self.on_face[seen])


@dataclass(frozen=True)
class SurfacePoints:
    """Points drawn on a surface."""

    points: Float[Tensor, "n 3"]
    normals: Float[Tensor, "n 3"]
    face: Int[Tensor, "n"]  #: on which triangle


def score_surface(
    predicted: HeadSurface,
    true: HeadSurface,
    generator: torch.Generator,
    count: int = 20000,
    lowest: float | None = LOWEST,
) -> dict[str, SurfaceComparison]:
    """Compare two surfaces: "head", and "face" where the true one says what is face.

    Args:
        predicted: outer surface.
        true: outer surface.
        generator: for the draws.
        count: points drawn on each surface.
        lowest: height of the cut through the neck; None: there is none.

    Raises:
        HeadlabError: no points are left above the cut.
    """
    ours, theirs = draw_points(predicted, count, lowest, generator), draw_points(true, count, lowest, generator)
    forth, hit = _one_way(ours, true)
    back, _ = _one_way(theirs, predicted)
    out = {"head": SurfaceComparison(forth, back)}
    if true.on_face is not None:
        near, own = true.on_face[hit].numpy(), true.on_face[theirs.face].numpy()
        if near.any() and own.any():
            out["face"] = SurfaceComparison(_some(forth, near), _some(back, own))
    return out


def mean_rows(rows: Sequence[Mapping[str, SurfaceComparison]], thresholds: Sequence[float] = (1.0, 1.5)) -> dict:
    """Means over heads of every measure, by region: what a line of the table says."""
    out: dict[str, dict[str, float]] = {}
    for region in rows[0]:
        lines = [row[region].row(thresholds) for row in rows if region in row]
        out[region] = {}
        for name in lines[0]:
            values = [line[name] for line in lines]
            out[region][name] = float(np.mean([value for value in values if value is not None]))
    return out


def draw_points(surface: HeadSurface, count: int, lowest: float | None, generator: torch.Generator) -> SurfacePoints:
    """Uniformly by area; `count` less those below the cut.

    Raises:
        HeadlabError: all are below.
    """
    a, b, c = surface.vertices[surface.faces].unbind(1)
    area = torch.linalg.cross(b - a, c - a).norm(dim=-1)
    which = torch.multinomial(area, count, replacement=True, generator=generator)
    u, v = torch.rand(2, count, generator=generator)
    root = u.sqrt()
    weights = torch.stack([1 - root, root * (1 - v), root * v], -1)
    points, normals = _at(surface, which, weights)
    kept = torch.ones(count, dtype=torch.bool) if lowest is None else points[:, 1] > lowest + _MARGIN
    if not bool(kept.any()):
        raise HeadlabError("the surface lies below the neck's cut altogether; bring it into the head's frame")
    return SurfacePoints(points[kept], normals[kept], which[kept])


def _at(surface: HeadSurface, face: Tensor, weights: Tensor) -> tuple[Tensor, Tensor]:
    corners = surface.faces[face]
    normals = mesh_normals(surface.vertices, surface.faces)
    points = (surface.vertices[corners] * weights[..., None]).sum(1)
    return points, torch.nn.functional.normalize((normals[corners] * weights[..., None]).sum(1), dim=-1)


def _one_way(points: SurfacePoints, target: HeadSurface) -> tuple[OneWay, Tensor]:
    distance, face, weights = closest_point(target.vertices, target.faces, points.points)
    _, normals = _at(target, face.long(), weights)
    cosine = (normals * points.normals).sum(-1).abs()
    return OneWay((MILLIMETRES * distance).numpy(), cosine.numpy()), face.long()


def _some(way: OneWay, mask: np.ndarray) -> OneWay:
    return OneWay(way.distance[mask], None if way.cosine is None else way.cosine[mask])
