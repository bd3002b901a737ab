"""A face is told from a smooth lump: harmonics span what they should, and evidence of analytic shapes."""

import numpy as np
import pytest
import torch
from numpy import ndarray
from scipy.spatial import KDTree
from scipy.special import lpmv

from headlab.geometry.sdf.align import Target
from headlab.geometry.sdf.default_fields import load_default_fields
from headlab.geometry.sdf.extract import mesh_normals
from headlab.geometry.sdf.face_evidence import FaceEvidence, face_evidence, feature_points, harmonics
from headlab.geometry.sdf.scan_points import SurfacePoints


def directions(count: int) -> ndarray:
    drawn = np.random.default_rng(0).standard_normal((count, 3))
    return drawn / np.linalg.norm(drawn, axis=1, keepdims=True)


@pytest.mark.parametrize("degree", [2, 3])
def test_the_monomials_span_all_harmonics_up_to_their_degree(degree: int) -> None:
    d = directions(400)
    basis = harmonics(d, degree)
    assert basis.shape[1] == (degree + 1) ** 2 == np.linalg.matrix_rank(basis)
    azimuth = np.arctan2(d[:, 1], d[:, 0])
    for order in range(degree + 2):
        for m in range(order + 1):
            wanted = lpmv(m, order, d[:, 2]) * np.cos(m * azimuth)
            left = wanted - basis @ np.linalg.lstsq(basis, wanted, rcond=None)[0]
            assert (np.abs(left).max() < 1e-9) == (order <= degree)


@pytest.fixture(scope="module")
def head() -> tuple[Target, ndarray, ndarray]:
    """The mean head, its features and their middle."""
    fields = load_default_fields()
    identity = fields.identity_latents.mean(0)
    mesh = fields.extract(identity, None, 64, normals=False)
    points = mesh.vertices.double().numpy()
    normals = mesh_normals(mesh.vertices, mesh.faces).double().numpy()
    features, middle = feature_points(fields, points, identity, None)
    return Target(points, normals, features, KDTree(points), features), features, middle


def seen(
    head: tuple[Target, ndarray, ndarray], points: ndarray, normals: ndarray, oriented: bool = True
) -> FaceEvidence:
    return face_evidence(*head, SurfacePoints(points, normals, oriented, 0))


def test_features_are_eyes_and_nose(head: tuple[Target, ndarray, ndarray]) -> None:
    target, features, middle = head
    chosen = target.points[features]
    assert 0.02 < features.mean() < 0.2
    assert abs(middle[0]) < 0.01 and chosen[:, 2].min() > target.points[:, 2].mean()
    nose = target.points[target.points[:, 2].argmax()]
    assert np.linalg.norm(chosen - nose, axis=1).min() < 0.01


def test_a_noisy_face_is_one_and_its_normals_may_point_inwards(head: tuple[Target, ndarray, ndarray]) -> None:
    target, features, _ = head
    draws = np.random.default_rng(1)
    noisy = target.points + 0.004 * draws.standard_normal(target.points.shape)  # 1 mm
    for oriented, sign in ((True, 1), (True, -1), (False, draws.choice([-1, 1], (len(noisy), 1)))):
        evidence = seen(head, noisy, sign * target.normals, oriented)
        assert evidence.ratio < 0.7 and evidence.covered > 0.99 and evidence.agreement > 0.95
        assert 0.5 < evidence.residual_mm < 1.0 < evidence.relief_mm and evidence.points > 0.9 * features.sum()


def test_a_lump_through_the_face_is_none(head: tuple[Target, ndarray, ndarray]) -> None:
    target, features, middle = head
    centre = middle - [0, 0, 0.35]
    arms = target.points[features] - centre
    radius = np.linalg.norm(arms, axis=1, keepdims=True)
    ball = centre + arms / radius * radius.mean()
    evidence = seen(head, ball, arms / radius)
    assert evidence.relief_mm < 1e-3 and evidence.ratio > 100


def test_half_a_face_is_said_to_be_half_and_too_few_points_show_nothing(head: tuple[Target, ndarray, ndarray]) -> None:
    target, features, _ = head
    half = target.points[:, 0] > 0
    evidence = seen(head, target.points[half], target.normals[half])
    assert 0.4 < evidence.covered < 0.75 and evidence.ratio < 0.5
    few = np.flatnonzero(features)[:20]
    evidence = seen(head, target.points[few], target.normals[few])
    assert evidence.residual_mm == np.inf and evidence.points == 20


def test_features_move_with_the_expression() -> None:
    fields = load_default_fields()
    identity, expression = fields.identity_latents[0], fields.expression_latents[5]
    vertices = fields.extract(identity, None, 32, normals=False).vertices
    with torch.no_grad():
        moved = vertices + fields.offsets(identity, expression, vertices)
    still, middle = feature_points(fields, vertices.double().numpy(), identity, None)
    posed, shifted = feature_points(fields, moved.double().numpy(), identity, expression)
    assert (still == posed).mean() > 0.99 and 0 < np.linalg.norm(middle - shifted) < 0.1
