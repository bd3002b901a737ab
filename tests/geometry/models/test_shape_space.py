"""Rigid alignment and principal components against closed forms."""

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from headlab.geometry.models.shape_space import align_rigidly, principal_components, vertex_areas


def test_components_are_uncorrelated_and_explain_the_variance() -> None:
    rng = np.random.default_rng(0)
    heads = rng.standard_normal((60, 40, 3)) * rng.random((40, 3))
    weights = rng.random(40) + 0.1
    mean, basis, values = principal_components(heads, weights, 20)
    assert np.allclose(mean, heads.mean(0))
    # Orthogonal in the weighted inner product, with the explained variances as squared lengths.
    gram = np.einsum("vck,v,vcl->kl", basis, weights, basis)
    assert np.allclose(gram, np.diag(values), atol=1e-5 * values[0])
    covariance = np.linalg.eigvalsh(np.cov((heads * np.sqrt(weights)[:, None]).reshape(60, -1).T))[::-1]
    assert np.allclose(values, covariance[:20], rtol=1e-4)


def test_components_find_what_samples_were_made_of() -> None:
    rng = np.random.default_rng(1)
    directions = np.linalg.qr(rng.standard_normal((90, 3)))[0].T.reshape(3, 30, 3)
    scales = np.array([3.0, 2.0, 1.0])
    heads = 5 + np.einsum("nk,kvc->nvc", rng.standard_normal((20000, 3)) * scales, directions)
    mean, basis, values = principal_components(heads[:4000], np.ones(30), 3)
    assert np.allclose(mean, 5, atol=0.2)
    assert np.allclose(np.sqrt(values), scales, rtol=0.05)
    assert np.allclose(np.abs(np.einsum("kvc,vck->k", directions, basis)), scales, rtol=0.05)


def test_component_signs_do_not_depend_on_the_order_of_samples() -> None:
    rng = np.random.default_rng(2)
    heads = rng.standard_normal((50, 20, 3)) * np.linspace(1, 3, 60).reshape(20, 3)
    first = principal_components(heads, np.ones(20), 5)[1]
    second = principal_components(heads[::-1], np.ones(20), 5)[1]
    assert np.allclose(first, second, atol=1e-4)


def test_alignment_undoes_rigid_motion_and_keeps_sizes() -> None:
    rng = np.random.default_rng(3)
    head = rng.standard_normal((50, 3))
    sizes = rng.uniform(0.9, 1.1, 30)
    turns = Rotation.from_rotvec(rng.standard_normal((30, 3)) * 0.3).as_matrix()
    moved = sizes[:, None, None] * head @ turns.transpose(0, 2, 1) + rng.standard_normal((30, 1, 3))
    region = np.arange(50) < 40
    rotation, offset = align_rigidly(moved, region, rounds=10)
    assert np.allclose(np.linalg.det(rotation), 1)
    aligned = np.einsum("nij,nvj->nvi", rotation, moved) + offset[:, None]
    centred = aligned - aligned[:, region].mean(1, keepdims=True)
    assert np.allclose(centred / sizes[:, None, None], centred[0] / sizes[0], atol=1e-6)
    assert np.allclose(aligned[:, region].mean(1), aligned[0, region].mean(0))


def test_vertex_areas_sum_to_the_surface() -> None:
    vertices = np.array([[0, 0, 0], [1, 0, 0], [1, 1, 0], [0, 1, 0.0]])
    areas = vertex_areas(vertices, np.array([[0, 1, 2], [0, 2, 3]]))
    assert areas.sum() == pytest.approx(1)
    assert areas == pytest.approx([1 / 3, 1 / 6, 1 / 3, 1 / 6])
