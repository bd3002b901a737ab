"""Closed lips and round eyes, on shapes whose answer is known."""

import numpy as np
import pytest

from headlab.geometry.models.makehuman.anatomy import round_eyes, seal_lips


@pytest.fixture(scope="module")
def lips() -> tuple[np.ndarray, np.ndarray]:
    """Two rows of points 1 mm apart in height, 50 mm wide, upper row first, and the jaw's weights."""
    x = np.linspace(-0.025, 0.025, 26)
    zero = np.zeros_like(x)
    upper, lower = np.stack([x, zero + 0.001, zero], 1), np.stack([x, zero, zero], 1)
    return np.concatenate([upper, lower]), np.repeat([0.0, 0.9], 26)


def test_lips_meet(lips: tuple[np.ndarray, np.ndarray]) -> None:
    base, jaw = lips
    rng = np.random.default_rng(0)
    bent = np.repeat(base[None], 8, 0)
    bent[:, :26, 1] += rng.uniform(-0.001, 0.003, (8, 1)) * np.cos(base[:26, 0] * 50)
    closed = seal_lips(bent, base, jaw, np.ones(52, dtype=bool))
    gap = closed[:, :26, 1] - closed[:, 26:, 1]
    assert np.abs(gap).max() < 2e-4
    assert np.array_equal(closed[..., [0, 2]], bent[..., [0, 2]])
    middle = (bent[:, :26, 1] + bent[:, 26:, 1]) / 2
    assert np.allclose((closed[:, :26, 1] + closed[:, 26:, 1]) / 2, middle, atol=1e-12)


def test_sealing_is_linear_and_stays_local(lips: tuple[np.ndarray, np.ndarray]) -> None:
    base, jaw = lips
    far = np.array([[0.0, 0.05, 0.0], [0.0, -0.05, 0.0]])
    base, jaw = np.concatenate([base, far]), np.concatenate([jaw, [0.0, 0.9]])
    mouth = np.arange(54) < 52
    a, b = base + np.random.default_rng(1).normal(0, 0.001, (2, 54, 3))
    both = seal_lips(np.stack([a, b, (a + b) / 2]), base, jaw, mouth)
    assert np.allclose(both[2], (both[0] + both[1]) / 2)
    assert np.array_equal(both[0, 52:], a[52:])


def test_eyeballs_become_similar_to_the_bases_and_lids_keep_their_distance() -> None:
    rng = np.random.default_rng(2)
    ball = rng.standard_normal((60, 3))
    ball = 0.012 * ball / np.linalg.norm(ball, axis=1, keepdims=True)
    lid = ball[ball[:, 2] > 0] * 1.05
    base = np.concatenate([ball, lid, [[0, 0, 0.06]]])
    members, skin = np.arange(60), np.arange(len(base)) >= 60
    stretched = base * [1.2, 1.0, 1.0] + [0.001, 0.002, 0.003]
    pushed = base + np.where(np.arange(len(base)) >= 60, 0.0, 0.004)[:, None] * [0, 0, 1]
    out = round_eyes(np.stack([stretched, pushed]), base, [members], skin)
    for head in out:
        centre = head[members].mean(0)
        size = (head[members] - centre) / (base[members] - base[members].mean(0))
        assert np.ptp(size) < 1e-9
        reach = np.linalg.norm(head[60:-1] - centre, axis=1)
        assert (reach > 0.0122 * size.mean()).all()
    assert np.array_equal(out[:, -1], [stretched[-1], pushed[-1]])
    assert np.allclose(out[1, members], pushed[members])
