"""Principal component analysis of heads: from samples in correspondence to an identity basis."""

import numpy as np
from jaxtyping import Bool, Float, Int
from numpy import ndarray
from scipy.linalg import eigh


def align_rigidly(
    heads: Float[ndarray, "count verts 3"], region: Bool[ndarray, "verts"], rounds: int = 3
) -> tuple[Float[ndarray, "count 3 3"], Float[ndarray, "count 3"]]:
    """Rotations and translations (x -> R x + t) that bring heads onto their mean; sizes are kept.

    Generalised Procrustes analysis over the region's vertices (Kabsch's solution for each head).
    """
    points = heads[:, region]
    centre = points.mean(1, keepdims=True)
    centred = points - centre
    mean = centred.mean(0)
    rotation = np.tile(np.eye(3), (len(heads), 1, 1))
    for _ in range(rounds):
        u, _, vt = np.linalg.svd(np.einsum("nvi,vj->nij", centred, mean))
        sign = np.linalg.det(u @ vt)
        u[:, :, 2] *= sign[:, None]
        rotation = (u @ vt).transpose(0, 2, 1)
        mean = np.einsum("nij,nvj->nvi", rotation, centred).mean(0)
    return rotation, -np.einsum("nij,nj->ni", rotation, centre[:, 0]) + points.mean((0, 1))


def principal_components(
    heads: Float[ndarray, "count verts 3"], weights: Float[ndarray, "verts"], components: int
) -> tuple[Float[ndarray, "verts 3"], Float[ndarray, "verts 3 components"], Float[ndarray, "components"]]:
    """Mean and basis (per standard deviation), by the Gram matrix of weighted samples; and explained variances.

    A component's sign is free; the one is taken whose large displacements point to positive axes, so that codes mean
    the same wherever the basis was made.

    Args:
        heads: samples in correspondence.
        weights: importance of each vertex in the inner product, e.g. its surface area.
        components: how many to keep.
    """
    count, verts, _ = heads.shape
    mean = heads.mean(0)
    centred = (heads - mean).reshape(count, -1).astype(np.float32)
    scaled = centred * np.repeat(np.sqrt(weights), 3).astype(np.float32)
    gram = (scaled @ scaled.T).astype(np.float64) / (count - 1)
    values, vectors = eigh(gram, subset_by_index=(count - components, count - 1))
    values, vectors = values[::-1], vectors[:, ::-1]
    # Coefficients of the samples have unit variance; the basis is their regression onto the samples.
    basis = centred.T @ (vectors / np.sqrt(count - 1)).astype(np.float32)
    basis *= np.where((basis**3).sum(0) < 0, -1, 1)
    return mean, basis.reshape(verts, 3, components).astype(float), values


def vertex_areas(vertices: Float[ndarray, "verts 3"], faces: Int[ndarray, "faces 3"]) -> Float[ndarray, "verts"]:
    """A third of the area of the triangles around each vertex."""
    corners = vertices[faces]
    area = np.linalg.norm(np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]), axis=1) / 2
    out = np.zeros(len(vertices))
    np.add.at(out, faces, area[:, None] / 3)
    return out
