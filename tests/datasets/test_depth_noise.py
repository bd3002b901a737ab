"""Sensor noise: as large as the paper says, in steps, and with holes where sensors have them."""

import numpy as np

from headlab.datasets.synthetic.depth_noise import DepthNoiseConfig, sensor_depth

FLAT = DepthNoiseConfig(step=0.0, blobs=0.0)


def test_noise_grows_with_distance() -> None:
    for distance in (0.5, 1.5):
        plane = np.full((120, 120), distance, np.float32)
        seen = sensor_depth(plane, np.random.default_rng(0), FLAT)
        assert (seen > 0).all()
        wanted = 0.0012 + 0.0019 * (distance - 0.4) ** 2
        np.testing.assert_allclose((seen - plane).std(), wanted, rtol=0.05)
        assert abs(float((seen - plane).mean())) < wanted / 5


def test_steps_and_holes() -> None:
    depth = np.full((80, 80), 0.6, np.float32)
    depth[20:60, 20:60] = 0.5
    depth[:5] = 0
    config = DepthNoiseConfig(noise=0.0, step=0.005, blobs=0.0)
    seen = sensor_depth(depth, np.random.default_rng(0), config)
    assert (seen[:5] == 0).all()  # nothing comes of nothing
    levels = seen[seen > 0] / 0.005
    np.testing.assert_allclose(levels, np.round(levels), atol=1e-3)
    inside = np.zeros_like(depth, bool)
    inside[25:55, 25:55] = True
    assert (seen[inside] > 0).all()
    rim = np.zeros_like(inside)
    rim[19:61, 19:61] = True
    rim[22:58, 22:58] = False
    assert 0.2 < (seen[rim] == 0).mean() < 0.9
    again = sensor_depth(depth, np.random.default_rng(0), config)
    np.testing.assert_array_equal(seen, again)
    blobs = sensor_depth(np.full((80, 80), 0.6, np.float32), np.random.default_rng(1), DepthNoiseConfig(blobs=8.0))
    assert 0.005 < (blobs == 0).mean() < 0.3
