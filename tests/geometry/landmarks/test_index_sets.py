"""The index tables against the canonical mesh, ICT-FaceKit and FLAME's embedding."""

from pathlib import Path

import numpy as np
import pytest

from headlab.geometry.landmarks import mesh478
from headlab.geometry.landmarks.ibug68 import (
    IBUG68,
    INNER_LIPS,
    JAW,
    LEFT_EYE,
    OUTER_EYE_CORNERS,
    OUTER_LIPS,
    RIGHT_EYE,
)

#: iBUG's own left-right partners.
PARTNER68 = [
    *range(16, -1, -1),
    *range(26, 16, -1),
    *(27, 28, 29, 30),
    *range(35, 30, -1),
    *(45, 44, 43, 42, 47, 46, 39, 38, 37, 36, 41, 40),
    *(54, 53, 52, 51, 50, 49, 48, 59, 58, 57, 56, 55),
    *(64, 63, 62, 61, 60, 67, 66, 65),
]


@pytest.fixture(scope="module")
def canonical(shared: Path) -> np.ndarray:
    """Canonical mesh, cm: +X subject's left, +Y up, +Z out of the face."""
    with np.load(shared / "data/mediapipe_canonical.npz") as data:
        return data["vertices"].astype(np.float64)


def test_sets_are_sets() -> None:
    assert len(IBUG68) == len(set(IBUG68)) == 68 and max(IBUG68) < 468
    groups = [mesh478.FACE_OVAL, mesh478.RIGHT_EYE, mesh478.LEFT_EYE, mesh478.RIGHT_BROW, mesh478.LEFT_BROW]
    groups += [mesh478.OUTER_LIPS, mesh478.INNER_LIPS, mesh478.IRISES]
    flat = [i for group in groups for i in group]
    assert len(flat) == len(set(flat))


def test_sets_equal_mediapipes_own_lists() -> None:
    connections = pytest.importorskip("mediapipe.python.solutions.face_mesh_connections")

    def ring(points: tuple[int, ...]) -> set[frozenset[int]]:
        return {frozenset(pair) for pair in zip(points, (*points[1:], points[0]), strict=True)}

    def edges(name: str) -> set[frozenset[int]]:
        return {frozenset(pair) for pair in getattr(connections, f"FACEMESH_{name}")}

    assert ring(mesh478.FACE_OVAL) == edges("FACE_OVAL")
    assert ring(mesh478.RIGHT_EYE) == edges("RIGHT_EYE") and ring(mesh478.LEFT_EYE) == edges("LEFT_EYE")
    assert ring(mesh478.OUTER_LIPS) | ring(mesh478.INNER_LIPS) == edges("LIPS")
    assert ring(mesh478.RIGHT_IRIS[1:]) == edges("RIGHT_IRIS") and ring(mesh478.LEFT_IRIS[1:]) == edges("LEFT_IRIS")
    assert set().union(*edges("RIGHT_EYEBROW")) == set(mesh478.RIGHT_BROW)
    assert set().union(*edges("LEFT_EYEBROW")) == set(mesh478.LEFT_BROW)


def test_mirror_is_the_meshs_symmetry(canonical: np.ndarray) -> None:
    mirror = np.array(mesh478.MIRROR)
    assert (mirror[mirror] == np.arange(478)).all()
    flipped = canonical * [-1, 1, 1]
    nearest = np.linalg.norm(flipped[:, None] - canonical[None], axis=-1).argmin(1)
    assert (mirror[:468] == nearest).all()
    np.testing.assert_allclose(canonical[mirror[:468]], flipped, atol=1e-6)
    assert set(mesh478.MIDLINE) == {i for i in range(478) if mirror[i] == i}


def test_irises_mirror_as_found_in_photos(shared: Path) -> None:
    """Rim points 1..4 go right, up, left, down in the image, in both eyes."""
    with np.load(shared / "data/photos/mediapipe_reference.npz") as data:
        points = (data["landmarks"][..., :2] * data["image_wh"][:, None])[0]
    for iris in (mesh478.RIGHT_IRIS, mesh478.LEFT_IRIS):
        rays = points[list(iris[1:])] - points[iris[0]]
        assert rays[0, 0] > abs(rays[0, 1]) and -rays[1, 1] > abs(rays[1, 0])
        assert -rays[2, 0] > abs(rays[2, 1]) and rays[3, 1] > abs(rays[3, 0])
    mesh = np.concatenate([points, np.zeros((478, 1))], 1)
    again = mesh478.mirrored(mesh478.mirrored(mesh, 640.0), 640.0)
    np.testing.assert_allclose(again, mesh, atol=1e-4)
    turned = mesh478.mirrored(mesh, 640.0)
    for iris in (mesh478.RIGHT_IRIS, mesh478.LEFT_IRIS):  # a mirrored picture keeps the order as well
        assert turned[iris[1], 0] > turned[iris[3], 0] and turned[iris[2], 1] < turned[iris[4], 1]


def test_ibug_is_symmetric_and_lies_on_the_rings() -> None:
    assert [mesh478.MIRROR[i] for i in IBUG68] == [IBUG68[i] for i in PARTNER68]
    assert set(IBUG68[JAW]) <= set(mesh478.FACE_OVAL)
    assert set(IBUG68[RIGHT_EYE]) <= set(mesh478.RIGHT_EYE) and set(IBUG68[LEFT_EYE]) <= set(mesh478.LEFT_EYE)
    assert set(IBUG68[OUTER_LIPS]) <= set(mesh478.OUTER_LIPS) and set(IBUG68[INNER_LIPS]) <= set(mesh478.INNER_LIPS)
    assert OUTER_EYE_CORNERS == (IBUG68[36], IBUG68[45])


def test_jaw_points_are_evenly_spaced(canonical: np.ndarray) -> None:
    """As iBUG defines them: equal steps along the outline from ear to ear."""
    oval = list(mesh478.FACE_OVAL)
    start, stop = oval.index(IBUG68[16]), oval.index(IBUG68[0])
    curve = canonical[oval[start : stop + 1]][::-1]
    steps = np.concatenate([[0], np.cumsum(np.linalg.norm(np.diff(curve, axis=0), axis=1))])
    order = oval[start : stop + 1][::-1]
    at = np.array([steps[order.index(i)] for i in IBUG68[JAW]]) / steps[-1]
    assert np.abs(at - np.linspace(0, 1, 17)).max() < 0.026  # under half a step of 1/16


def test_ibug_agrees_with_ict(canonical: np.ndarray, shared: Path) -> None:
    """ICT's own 68 points, aligned by a similarity over the inner 51, lie where the table says."""
    with np.load(shared / "data/ict_facekit.npz") as data:
        ict = data["neutral_vertices"][data["landmarks68"]].astype(np.float64)
    ours = canonical[list(IBUG68)]
    a, b = ict[17:] - ict[17:].mean(0), ours[17:] - ours[17:].mean(0)
    u, s, vt = np.linalg.svd(b.T @ a)
    assert np.linalg.det(u @ vt) > 0
    aligned = (s.sum() / (a**2).sum()) * (ict - ict[17:].mean(0)) @ (u @ vt).T + ours[17:].mean(0)
    off = np.linalg.norm(aligned - ours, axis=1)  # cm; outer eye corners are 8.9 cm apart
    assert off[17:].mean() < 0.26 and off[17:].max() < 0.65
    assert off[:17].mean() < 1.6  # ICT's jaw line runs about a centimetre inside MediaPipe's outline
    nearest = np.linalg.norm(aligned[:, None] - ours[None], axis=-1).argmin(1)
    assert (nearest[17:] == np.arange(17, 68)).mean() > 0.85  # but for lips that touch: no two points swapped


def test_flames_105_points_are_inner_points(shared: Path) -> None:
    """FLAME's MediaPipe embedding has no outline: brows, eyes, nose and lips only, each point once."""
    with np.load(shared / "parity/geometry/mediapipe_landmark_embedding.npz") as data:
        indices = data["landmark_indices"].tolist()
    assert len(set(indices)) == 105 and not set(indices) & set(mesh478.FACE_OVAL)
    assert {mesh478.MIRROR[i] for i in indices} == set(indices)
    lips = set(mesh478.OUTER_LIPS) | set(mesh478.INNER_LIPS)
    assert set(mesh478.RIGHT_EYE) | set(mesh478.RIGHT_BROW) | lips <= set(indices)
