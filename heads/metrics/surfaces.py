"""How near a fitted head is to a scan: NoW's scan-to-mesh distance and REALY's error by region.

NoW (Sanyal et al. 2019): the predicted, neutral mesh is aligned to the scan by seven landmarks, then by ICP on the
face; the distance runs from every point of the scan's face to the mesh's surface.
REALY (Chai et al. 2022): region by region the prediction is laid rigidly on the scan's region and then bent to it, so
that the pose of the whole does not spoil the parts; an error is in parts of the region's extent (NMSE) or in length.
"""

from collections.abc import Mapping

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from numpy import ndarray
from scipy.spatial import KDTree

from ...geometry.errors import HeadlabError
from ...geometry.models.correspondence import similarity
from ...geometry.raster import closest_point

#: NoW's seven landmarks in iBUG's 68: outer and inner eye corners, the nose's base, mouth corners.
NOW_LANDMARKS = (36, 39, 42, 45, 33, 48, 54)
#: Points of the scan farther than this from the nose's base are no face, millimetres.
FACE_RADIUS = 95.0


def moved(
    source: Float[ndarray, "n 3"], target: Float[ndarray, "n 3"], points: Float[ndarray, "m 3"], *, scaled: bool
) -> Float[ndarray, "m 3"]:
    """Points under the similarity (or rigid motion) that lays `source` on `target`, least squares.

    Raises:
        HeadlabError: fewer than three pairs, or all in one place.
    """
    if len(source) < 3 or np.ptp(source, axis=0).max() == 0:
        raise HeadlabError("three or more points in different places are needed to lay one surface on another")
    scale, rotation, offset = similarity(source, target)
    if not scaled:
        scale, offset = 1.0, target.mean(0) - rotation @ source.mean(0)
    return scale * points @ rotation.T + offset


def scan_to_mesh(
    scan: Float[ndarray, "n 3"],
    vertices: Float[ndarray, "v 3"],
    faces: Int[ndarray, "f 3"],
    scan_landmarks: Float[ndarray, "7 3"],
    mesh_landmarks: Float[ndarray, "7 3"],
    *,
    face: Bool[ndarray, "n"] | None = None,
    scaled: bool = False,
    rounds: int = 20,
) -> Float[ndarray, "m"]:
    """NoW's distances from the scan's face to the aligned mesh, millimetres.

    Args:
        scan: points of the scan, millimetres.
        vertices: predicted mesh, neutral; millimetres, unless `scaled`.
        faces: its triangles.
        scan_landmarks: `NOW_LANDMARKS` on the scan.
        mesh_landmarks: the same on the mesh.
        face: scan points that count; by default those within `FACE_RADIUS` of the nose's base.
        scaled: also fit a scale (NoW's first protocol); False: metrical.
        rounds: of ICP after the landmarks.

    Raises:
        HeadlabError: no scan points count, or landmarks that tell no motion.
    """
    if face is None:
        face = np.linalg.norm(scan - scan_landmarks[4], axis=1) < FACE_RADIUS
    points = scan[face]
    if len(points) < 3 or np.ptp(points, axis=0).max() < 20:
        raise HeadlabError(f"{len(points)} points of the scan, or a tiny one, lie on the face; give it in millimetres")
    mesh = moved(mesh_landmarks, scan_landmarks, vertices, scaled=scaled)
    tried = points[:: max(1, len(points) // 5000)]
    for _ in range(rounds):
        nearest, distance = _nearest(mesh, faces, tried)
        near = distance <= np.quantile(distance, 0.9)
        mesh = moved(nearest[near], tried[near], mesh, scaled=scaled)
    return _nearest(mesh, faces, points)[1]


def region_errors(
    predicted: Float[ndarray, "v 3"],
    scan: Float[ndarray, "n 3"],
    regions: Mapping[str, Bool[ndarray, "v"]],
    scan_regions: Mapping[str, Bool[ndarray, "n"]],
    *,
    rounds: int = 10,
    bent: bool = True,
) -> dict[str, float]:
    """Normalised mean squared error by region, in parts of the region's own mean square extent.

    Args:
        predicted: vertices, near the scan's place and in its unit.
        scan: points.
        regions: which vertices.
        scan_regions: which points.
        rounds: of rigid ICP, region by region.
        bent: then bend it (non-rigid): every vertex follows the Gaussian-weighted mean pull of its 30 neighbours.
            False: rigid alone.

    Raises:
        HeadlabError: a region has fewer than three points on one side.
    """
    out = {}
    for name, own in regions.items():
        source, target = predicted[own], scan[scan_regions[name]]
        if min(len(source), len(target)) < 3:
            raise HeadlabError(f"the region {name} has fewer than three points; choose larger regions")
        tree = KDTree(target)
        for _ in range(rounds):
            source = moved(source, target[tree.query(source)[1]], source, scaled=False)
        if bent:
            pull = target[tree.query(source)[1]] - source
            distance, index = KDTree(source).query(source, k=min(30, len(source)))
            weight = np.exp(-2 * (distance / np.maximum(distance[:, -1:], 1e-12)) ** 2)
            source = source + (weight[..., None] * pull[index]).sum(1) / weight.sum(1, keepdims=True)
        left = KDTree(source).query(target)[0]
        out[name] = float((left**2).mean() / ((target - target.mean(0)) ** 2).sum(1).mean())
    return out


def _nearest(
    vertices: Float[ndarray, "v 3"], faces: Int[ndarray, "f 3"], points: Float[ndarray, "n 3"]
) -> tuple[Float[ndarray, "n 3"], Float[ndarray, "n"]]:
    """Nearest point of a mesh to each point, and how far it is."""
    corners = torch.from_numpy(np.ascontiguousarray(vertices, np.float64))
    index = torch.from_numpy(np.ascontiguousarray(faces, np.int32))
    distance, face, weights = closest_point(corners, index, torch.from_numpy(np.ascontiguousarray(points, np.float64)))
    at = (corners[index[face.long()].long()] * weights[..., None]).sum(-2)
    return at.numpy(), distance.numpy()
