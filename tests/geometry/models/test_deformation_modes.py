"""Gaussian-process modes against the kernel they approximate."""

import numpy as np
import pytest

from headlab.geometry.models.deformation_modes import SYMMETRIC_SHARE, deformation_modes

_SCALES = ((0.04, 0.003), (0.02, 0.001))
_MIRROR = np.array([-1.0, 1.0, 1.0])


@pytest.fixture(scope="module")
def points() -> np.ndarray:
    """A cloud on a head-sized sphere with its mirror image: point i + 250 mirrors point i."""
    rng = np.random.default_rng(0)
    half = rng.standard_normal((250, 3))
    half = 0.09 * half / np.linalg.norm(half, axis=1, keepdims=True)
    return np.concatenate([half, half * _MIRROR])


@pytest.fixture(scope="module")
def modes(points: np.ndarray) -> np.ndarray:
    return deformation_modes(points, np.ones(len(points)), 600, scales=_SCALES, samples=500)


def test_variance_is_the_kernels(points: np.ndarray, modes: np.ndarray) -> None:
    """Σ mode mode' over all modes is the covariance; at a point far from its mirror image, Σ deviation² per axis."""
    variance = (modes**2).sum(0)
    away = np.abs(points[:, 0]) > 0.06
    assert variance[away] == pytest.approx(sum(deviation**2 for _, deviation in _SCALES), rel=0.02)


def test_covariance_falls_with_distance_as_the_kernel_does(points: np.ndarray, modes: np.ndarray) -> None:
    found = modes[:, 7, 1] @ modes[:, :, 1]
    near, across = (((p - points[7]) ** 2).sum(1) for p in (points, points * _MIRROR))
    wanted = sum(
        d**2 * (np.exp(-near / (2 * length**2)) + SYMMETRIC_SHARE * np.exp(-across / (2 * length**2)))
        for length, d in _SCALES
    )
    assert np.allclose(found, wanted, atol=2e-7)


def test_mirrored_points_move_as_mirror_images_up_to_the_free_share(points: np.ndarray, modes: np.ndarray) -> None:
    rng = np.random.default_rng(1)
    bent = np.einsum("nm,mvc->nvc", rng.standard_normal((400, len(modes))), modes)
    one, other = bent[:, :250], bent[:, 250:] * _MIRROR
    away = np.abs(points[:250, 0]) > 0.06
    correlation = (one * other)[:, away].mean() / (one**2)[:, away].mean()
    assert correlation == pytest.approx(SYMMETRIC_SHARE, abs=0.03)


def test_modes_come_in_order_and_the_first_ones_are_the_best(points: np.ndarray, modes: np.ndarray) -> None:
    energy = (modes**2).sum((1, 2))
    assert (np.diff(energy) < 1e-3 * energy[0]).all()
    few = deformation_modes(points, np.ones(len(points)), 30, scales=_SCALES, samples=500)
    assert np.allclose((few**2).sum((1, 2)), energy[:30])


def test_amplitude_scales_and_equal_points_move_together(points: np.ndarray) -> None:
    amplitude = np.where(np.arange(500) % 250 < 100, 1.0, 0.0)
    doubled = points.copy()
    doubled[[3, 253]] = doubled[[4, 254]]
    modes = deformation_modes(doubled, amplitude, 50, scales=_SCALES)
    assert np.abs(modes[:, amplitude == 0]).max() == 0
    assert np.allclose(modes[:, 3], modes[:, 4])


def test_seed_decides(points: np.ndarray) -> None:
    def make(seed: int) -> np.ndarray:
        return deformation_modes(points, np.ones(len(points)), 10, scales=_SCALES, samples=120, seed=seed)

    assert np.array_equal(make(1), make(1))
    assert not np.allclose(np.abs(make(1)), np.abs(make(2)), atol=1e-9)
