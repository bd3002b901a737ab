"""Closest points on a triangle mesh, for many queries at once."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int
from numpy import ndarray
from scipy.spatial import KDTree


@dataclass(frozen=True)
class SurfacePoints:
    """Points on a mesh."""

    face: Int[ndarray, "n"]
    weights: Float[ndarray, "n 3"]  #: barycentric
    position: Float[ndarray, "n 3"]


def closest_points(
    points: Float[ndarray, "n 3"],
    vertices: Float[ndarray, "verts 3"],
    faces: Int[ndarray, "faces 3"],
    candidates: int = 12,
) -> SurfacePoints:
    """The nearest point of the surface to each query.

    Exact among the triangles whose centroids are the `candidates` nearest; on meshes of even triangles that is the
    nearest of all.
    """
    corners = vertices[faces]
    count = min(candidates, len(faces))
    _, near = KDTree(corners.mean(1)).query(points, k=count)
    near = near.reshape(len(points), count)
    weights = _nearest_weights(points[:, None], corners[near])
    position = (weights[..., None] * corners[near]).sum(-2)
    best = ((position - points[:, None]) ** 2).sum(-1).argmin(1)
    row = np.arange(len(points))
    return SurfacePoints(near[row, best], weights[row, best], position[row, best])


def _nearest_weights(p: Float[ndarray, "n 1 3"], triangle: Float[ndarray, "n k 3 3"]) -> Float[ndarray, "n k 3"]:
    """Barycentric weights of the nearest point of each triangle: inside, or on the nearest of its three edges."""
    a, b, c = triangle[..., 0, :], triangle[..., 1, :], triangle[..., 2, :]
    ab, ac, ap = b - a, c - a, p - a
    d00, d01, d11 = _dot(ab, ab), _dot(ab, ac), _dot(ac, ac)
    d20, d21 = _dot(ap, ab), _dot(ap, ac)
    area = np.maximum(d00 * d11 - d01 * d01, 1e-30)
    v, w = (d11 * d20 - d01 * d21) / area, (d00 * d21 - d01 * d20) / area
    inside = np.stack([1 - v - w, v, w], -1)
    choices = [np.where((inside >= 0).all(-1, keepdims=True), inside, np.nan)]
    for i, j in ((0, 1), (1, 2), (2, 0)):
        start, edge = triangle[..., i, :], triangle[..., j, :] - triangle[..., i, :]
        t = np.clip(_dot(p - start, edge) / np.maximum(_dot(edge, edge), 1e-30), 0, 1)
        weights = np.zeros_like(inside)
        weights[..., i], weights[..., j] = 1 - t, t
        choices.append(weights)
    stacked = np.stack(choices)  # (4, n, k, 3)
    distance = (((stacked[..., None] * triangle).sum(-2) - p) ** 2).sum(-1)
    best = np.where(np.isnan(distance), np.inf, distance).argmin(0)
    return np.take_along_axis(stacked, best[None, ..., None], 0)[0]


def _dot(a: ndarray, b: ndarray) -> ndarray:
    return (a * b).sum(-1)
