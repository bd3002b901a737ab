"""The synthetic depth camera: its noise, steps and holes are those it says."""

import numpy as np
import pytest

from headlab.datasets.synthetic.depth_sensor import DepthSensor

FOCAL = 580.0


def scene() -> np.ndarray:
    depth = np.full((240, 320), 1.3)
    depth[60:180, 110:210] = 0.5
    return depth


def test_noise_and_steps() -> None:
    flat = np.full((200, 200), 0.5)
    out = DepthSensor(specks=0.0).measure(flat, FOCAL, np.random.default_rng(0))
    step = 0.5**2 / (FOCAL * 0.075)  # metres per pixel of disparity
    assert (out > 0).all() and abs(out.mean() - 0.5) < 2e-4
    assert out.std() == pytest.approx(0.15 * step, rel=0.25)
    np.testing.assert_allclose(out, np.rint(out * 1000) / 1000)
    far = DepthSensor(specks=0.0).measure(3 * flat, FOCAL, np.random.default_rng(0))
    assert far.std() == pytest.approx(9 * out.std(), rel=0.2)  # with the square of the distance


def test_the_projectors_shadow_falls_on_the_wall_right_of_the_box() -> None:
    depth = scene()
    out = DepthSensor(specks=0.0, noise=0.01).measure(depth, FOCAL, np.random.default_rng(0))
    width = FOCAL * 0.075 * (1 / 0.5 - 1 / 1.3)
    row = out[120]
    assert (row[213 : 210 + int(width) - 3] == 0).all() and (row[210 + int(width) + 4 :] > 0).all()
    assert (row[4:106] > 0).all() and (row[116:206] > 0).all()
    assert (out[20] > 0).all()


def test_grazing_dark_and_specks() -> None:
    rng = np.random.default_rng(0)
    slope = 0.5 * np.exp(np.arange(200)[None] / FOCAL * 8) + np.zeros((100, 1))
    assert (DepthSensor().measure(slope, FOCAL, rng)[:, 5:-5] == 0).mean() > 0.99
    dark = DepthSensor(specks=0.0).measure(np.full((100, 100), 0.5), FOCAL, rng, np.zeros((100, 100)))
    assert (dark == 0).mean() == pytest.approx(0.5, abs=0.03)
    specks = DepthSensor(specks=1e-3).measure(np.full((300, 300), 0.5), FOCAL, rng)
    assert 0.003 < (specks == 0).mean() < 0.03
    assert not DepthSensor().measure(np.zeros((20, 20)), FOCAL, rng).any()
