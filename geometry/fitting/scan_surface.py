"""Scans as surfaces that can be asked for their nearest point: triangle meshes, and clouds of points."""

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from numpy import ndarray
from scipy.spatial import KDTree

from ..errors import HeadlabError
from ..models.correspondence import vertex_normals
from ..raster import closest_point

_NEIGHBOURS = 12  # of a cloud's point, for its tangent plane


@dataclass(frozen=True)
class SurfaceHits:
    """The nearest points of a scan to some queries, in the scan's unit."""

    position: Float[ndarray, "n 3"]
    normal: Float[ndarray, "n 3"]  #: unit
    distance: Float[ndarray, "n"]  #: to the surface; of a cloud, to the tangent plane
    border: Bool[ndarray, "n"]  #: the scan ends here: the true nearest point may not have been seen


@dataclass(frozen=True)
class MeshSurface:
    """A triangle mesh, open or closed."""

    vertices: Float[ndarray, "verts 3"]
    faces: Int[ndarray, "faces 3"]
    normals: Float[ndarray, "verts 3"]
    on_border: Bool[ndarray, "verts"]
    oriented: bool = True

    def nearest(self, queries: Float[ndarray, "n 3"]) -> SurfaceHits:
        """Exact closest points. A hit is at the border where all that it touches of its triangle is."""
        faces = torch.from_numpy(self.faces)
        distance, face, weights = closest_point(torch.from_numpy(self.vertices), faces, torch.from_numpy(queries))
        corners, w = self.faces[face.numpy()], weights.numpy()
        normal = _unit((w[..., None] * self.normals[corners]).sum(1))
        border = np.where(w > 1e-6, self.on_border[corners], True).all(1)
        return SurfaceHits((w[..., None] * self.vertices[corners]).sum(1), normal, distance.numpy(), border)


@dataclass(frozen=True)
class CloudSurface:
    """Points without connection; each stands for a patch of its tangent plane."""

    points: Float[ndarray, "verts 3"]
    normals: Float[ndarray, "verts 3"]  #: of unknown sign
    tree: KDTree
    spacing: float  #: typical distance between neighbours
    oriented: bool = False

    def nearest(self, queries: Float[ndarray, "n 3"]) -> SurfaceHits:
        """The nearest point's plane. A query that falls beside the patch, by twice the spacing, is at the border."""
        _, index = self.tree.query(queries)
        position, normal = self.points[index], self.normals[index]
        offset = queries - position
        height = (offset * normal).sum(1)
        beside = np.linalg.norm(offset - height[:, None] * normal, axis=1)
        return SurfaceHits(position, normal, np.abs(height), beside > 2 * self.spacing)


#: What the scan fit works on: `points`, `nearest(queries)`, and whether normals are `oriented` the same way.
ScanSurface = MeshSurface | CloudSurface


def scan_surface(vertices: Float[ndarray, "verts 3"], faces: Int[ndarray, "faces 3"] | None) -> ScanSurface:
    """A mesh, or a cloud where there are no faces.

    Raises:
        HeadlabError: NaN or infinite points, too few of them, or face indices out of range.
    """
    points = np.ascontiguousarray(vertices, dtype=np.float64)
    if len(points) < 100 or not np.isfinite(points).all():
        raise HeadlabError(
            f"the scan has {len(points)} points, {int((~np.isfinite(points)).any(-1).sum())} of them not finite; "
            "at least 100 finite points are needed: remove the bad ones"
        )
    if faces is None or len(faces) == 0:
        return _cloud(points)
    faces = np.ascontiguousarray(faces, dtype=np.int64)
    if faces.min() < 0 or faces.max() >= len(points):
        raise HeadlabError(
            f"the scan's faces name vertices {faces.min()}..{faces.max()} but it has {len(points)}; export it again"
        )
    return MeshSurface(points, faces, vertex_normals(points, faces), _border(points, faces))


def _cloud(points: Float[ndarray, "verts 3"]) -> CloudSurface:
    tree = KDTree(points)
    distance, index = tree.query(points, k=_NEIGHBOURS)
    near = points[index] - points[index].mean(1, keepdims=True)
    _, vectors = np.linalg.eigh(np.einsum("nki,nkj->nij", near, near))
    return CloudSurface(points, vectors[:, :, 0], tree, float(np.median(distance[:, 4])))


def _border(vertices: Float[ndarray, "verts 3"], faces: Int[ndarray, "faces 3"]) -> Bool[ndarray, "verts"]:
    """Ends of edges that belong to one triangle only. Vertices doubled along texture seams count as one."""
    _, merged = np.unique(vertices, axis=0, return_inverse=True)
    welded = merged.reshape(-1)[faces]
    edges = np.sort(np.concatenate([welded[:, [0, 1]], welded[:, [1, 2]], welded[:, [2, 0]]]), axis=1)
    unique, count = np.unique(edges, axis=0, return_counts=True)
    lone = np.zeros(int(merged.max()) + 1, dtype=bool)
    lone[unique[count == 1]] = True
    return lone[merged.reshape(-1)]


def _unit(x: Float[ndarray, "n 3"]) -> Float[ndarray, "n 3"]:
    return x / np.maximum(np.linalg.norm(x, axis=1, keepdims=True), 1e-20)
