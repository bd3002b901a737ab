"""Distances of sets of features against closed forms and plain loops."""

import numpy as np
import pytest
from scipy.linalg import sqrtm

from headlab.geometry.errors import HeadlabError
from headlab.heads.metrics.distributions import (
    FeatureMoments,
    cmmd,
    frechet_distance,
    inception_score,
    precision_recall,
    report_name,
)


def moments(features, batch=7):
    out = FeatureMoments()
    for i in range(0, len(features), batch):
        out.add(features[i : i + batch])
    return out


def test_moments_are_numpy_s():
    x = np.random.default_rng(0).normal(1e4, 1, (50, 5))  # far from 0: a plain sum of squares would cancel
    got = moments(x)
    assert np.allclose(got.mean, x.mean(0)) and np.allclose(got.covariance, np.cov(x.T), rtol=1e-9)
    with pytest.raises(HeadlabError, match="length 3"):
        got.add(np.zeros((1, 3)))
    with pytest.raises(HeadlabError, match="no covariance"):
        _ = moments(x[:1]).covariance


def test_frechet_distance_of_gaussians():
    rng = np.random.default_rng(1)
    a, b = rng.normal(size=(400, 6)), rng.normal(size=(300, 6)) @ rng.normal(size=(6, 6)) + 0.5
    one, two = moments(a), moments(b)
    root = sqrtm(np.cov(a.T) @ np.cov(b.T)).real
    want = ((a.mean(0) - b.mean(0)) ** 2).sum() + np.trace(np.cov(a.T) + np.cov(b.T) - 2 * root)
    assert frechet_distance(one, two) == pytest.approx(want, rel=1e-6)
    assert frechet_distance(one, one) == pytest.approx(0, abs=1e-6)
    # In one dimension: (m1 - m2)² + (s1 - s2)².
    x = np.array([[-1.0], [1.0]])
    assert frechet_distance(moments(x), moments(3 * x + 5)) == pytest.approx(25 + (2**0.5 * 2) ** 2)


def test_cmmd_is_the_double_sum():
    rng = np.random.default_rng(2)
    a, b = rng.normal(size=(30, 4)), rng.normal(size=(20, 4)) + 1
    x, y = a / np.linalg.norm(a, axis=1, keepdims=True), b / np.linalg.norm(b, axis=1, keepdims=True)

    def k(p, q):
        return np.mean([[np.exp(-((i - j) ** 2).sum() / 200) for j in q] for i in p])

    assert cmmd(a, b, block=8) == pytest.approx(1000 * (k(x, x) + k(y, y) - 2 * k(x, y)), rel=1e-6)
    assert cmmd(a, a) == pytest.approx(0, abs=1e-9)


def test_precision_and_recall():
    rng = np.random.default_rng(3)
    real = rng.normal(size=(200, 3))
    assert precision_recall(real, real) == (1, 1)
    assert precision_recall(real, real + 100) == (0, 0)
    # Made pictures of a corner of what is real: precise, with little recall.
    precision, recall = precision_recall(real, 0.05 * rng.normal(size=(200, 3)))
    assert precision > 0.95 and recall < 0.1
    with pytest.raises(HeadlabError, match="more than 3"):
        precision_recall(real[:3], real)


def test_inception_score_of_certain_classes():
    assert inception_score(np.tile(np.eye(5), (20, 1)), splits=1)[0] == pytest.approx(5)
    assert inception_score(np.full((50, 5), 0.2))[0] == pytest.approx(1)


def test_only_inception_makes_a_fid():
    assert report_name("Frechet distance", "inception-2015-12-05") == "FID"
    assert report_name("Frechet distance", "headlab identity") == "Frechet distance (headlab identity)"
    assert report_name("MMD", "clip-vit-large-patch14-336") == "CMMD"
