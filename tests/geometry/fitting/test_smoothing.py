"""Smoothing: frequency response, dense reference, invariances, one-euro by its paper's formulas."""

import math

import numpy as np
import pytest
import roma
import torch

from headlab.geometry.fitting.smoothing import (
    OneEuro,
    continuous_quaternions,
    fill_gaps,
    fill_rotation_gaps,
    smooth_forward_backward,
    smooth_rotations,
)


def dense(values, times, cutoff):
    """The same minimum by dense matrices and direct second differences."""
    n, h = len(times), np.diff(times)
    tau = 1 / (2 * np.pi * cutoff)
    hessian, right = np.zeros((n, n)), np.zeros((n, values.shape[1]))
    for i in range(n):
        w = ((h[i - 1] if i else 0) + (h[i] if i < n - 1 else 0)) / 2
        hessian[i, i] += w
        right[i] += w * values[i]
    for i in range(n - 2):
        span = (h[i] + h[i + 1]) / 2
        row = np.zeros(n)
        row[i], row[i + 1], row[i + 2] = 1 / h[i], -1 / h[i] - 1 / h[i + 1], 1 / h[i + 1]
        row /= span
        hessian += tau**4 * span * np.outer(row, row)
    return np.linalg.solve(hessian, right)


def uneven(n, seed=0):
    return np.cumsum(np.random.default_rng(seed).uniform(0.01, 0.08, n))


def test_equals_the_dense_minimum():
    times = uneven(40)
    values = np.random.default_rng(1).normal(size=(40, 3))
    for cutoff in (0.5, 3.0, 20.0):
        np.testing.assert_allclose(
            smooth_forward_backward(values, times, cutoff), dense(values, times, cutoff), atol=1e-9
        )


@pytest.mark.parametrize("frequency", [1.0, 3.0, 6.0])
def test_halves_the_cutoff_and_keeps_the_phase(frequency):
    times = np.arange(4000) / 200
    wave = np.sin(2 * np.pi * frequency * times)[:, None]
    out = smooth_forward_backward(wave, times, 3.0)[500:-500, 0]
    basis = np.stack([np.sin(2 * np.pi * frequency * times), np.cos(2 * np.pi * frequency * times)], 1)[500:-500]
    kept, shifted = np.linalg.lstsq(basis, out, rcond=None)[0]
    assert kept == pytest.approx(1 / (1 + (frequency / 3) ** 4), abs=5e-3)
    assert abs(shifted) < 1e-6


def test_straight_lines_pass_and_limits():
    times = uneven(30)
    line = np.stack([2 + 3 * times, -times], 1)
    for cutoff in (0.0, 0.01, 1.0, 50.0):
        np.testing.assert_allclose(smooth_forward_backward(line, times, cutoff), line, atol=1e-8)
    noise = np.random.default_rng(0).normal(size=(30, 1))
    np.testing.assert_array_equal(smooth_forward_backward(noise, times, math.inf), noise)
    np.testing.assert_allclose(smooth_forward_backward(noise, times, 1e4), noise, atol=1e-6)
    reversed_ = smooth_forward_backward(noise[::-1].copy(), -times[::-1], 2.0)[::-1]
    np.testing.assert_allclose(reversed_, smooth_forward_backward(noise, times, 2.0), atol=1e-9)


def test_short_and_wrong_input():
    two = np.array([[1.0], [5.0]])
    np.testing.assert_array_equal(smooth_forward_backward(two, np.array([0.0, 1.0]), 1.0), two)
    with pytest.raises(ValueError, match="later"):
        smooth_forward_backward(np.zeros((3, 1)), np.array([0.0, 0.0, 1.0]), 1.0)
    with pytest.raises(ValueError, match="cutoff"):
        smooth_forward_backward(np.zeros((3, 1)), np.arange(3.0), -1.0)
    with pytest.raises(ValueError, match="known"):
        fill_gaps(np.zeros((3, 1)), np.arange(3.0), np.zeros(3, bool))


def test_rotations_across_pi_and_equivariance():
    times = np.arange(60) / 30
    angle = torch.linspace(2.6, 3.8, 60, dtype=torch.float64)  # beyond π the vector's sign turns over
    turn = roma.rotvec_to_rotmat(torch.tensor([0.2, 1.0, -0.1], dtype=torch.float64)[None] * angle[:, None])
    vectors = roma.rotmat_to_rotvec(turn)
    assert (continuous_quaternions(vectors)[1:] - continuous_quaternions(vectors)[:-1]).norm(dim=-1).max() < 0.05
    smooth = roma.rotvec_to_rotmat(smooth_rotations(vectors, times, 2.0))
    assert roma.rotmat_geodesic_distance(smooth, turn)[5:-5].max() < 2e-3
    fixed = roma.rotvec_to_rotmat(torch.tensor([0.3, -0.8, 0.5], dtype=torch.float64))
    moved = smooth_rotations(roma.rotmat_to_rotvec(fixed @ turn), times, 2.0)
    assert roma.rotmat_geodesic_distance(roma.rotvec_to_rotmat(moved), fixed @ smooth).max() < 1e-6


def test_gaps_are_bridged():
    times = np.array([0.0, 1, 2, 4, 5, 6])
    known = np.array([False, True, False, False, True, False])
    values = np.where(known, [0, 10.0, 0, 0, 50, 0], np.nan)[:, None]
    np.testing.assert_allclose(fill_gaps(values, times, known)[:, 0], [10, 10, 20, 40, 50, 50])
    vectors = torch.zeros(6, 2, 3, dtype=torch.float64)
    vectors[1, :, 1], vectors[4, :, 1] = -0.2, 0.2
    filled = fill_rotation_gaps(vectors, times, known)
    np.testing.assert_allclose(filled[:, 0, 1], [-0.2, -0.2, -0.1, 0.1, 0.2, 0.2], atol=1e-3)
    assert torch.equal(filled[1], vectors[1])


def test_one_euro_follows_the_paper():
    rng = np.random.default_rng(3)
    times, values = uneven(50, 2), rng.normal(size=(50, 2)).cumsum(0)
    filter_ = OneEuro(min_cutoff=1.2, beta=0.3, speed_cutoff=0.9)
    got = filter_.run(values, times)
    for channel in range(2):
        last, speed = values[0, channel], 0.0
        assert got[0, channel] == last
        for i in range(1, 50):
            te = times[i] - times[i - 1]

            def alpha(fc, te=te):
                r = 2 * math.pi * fc * te
                return r / (r + 1)

            dx = (values[i, channel] - last) / te
            speed = alpha(0.9) * dx + (1 - alpha(0.9)) * speed
            a = alpha(1.2 + 0.3 * abs(speed))
            last = a * values[i, channel] + (1 - a) * last
            assert got[i, channel] == pytest.approx(last, abs=1e-12)


def test_one_euro_is_causal_and_checks_time():
    times, values = uneven(20), np.random.default_rng(0).normal(size=(20, 1))
    changed = values.copy()
    changed[12:] += 5
    filter_ = OneEuro()
    np.testing.assert_array_equal(filter_.run(values, times)[:12], filter_.run(changed, times)[:12])
    with pytest.raises(ValueError, match="grow"):
        filter_.step(filter_.start(values[0], 1.0), values[1], 1.0)
    still = torch.full((20, 3), 0.4, dtype=torch.float64)
    assert torch.allclose(filter_.run_rotations(still, times), still)
