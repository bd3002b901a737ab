"""Intervals cover as often as they say; tests give exact small probabilities."""

import numpy as np
import pytest

from headlab.geometry.errors import HeadlabError
from headlab.heads.metrics.bootstrap import mean_interval, paired_test


def test_intervals_cover_the_mean():
    rng = np.random.default_rng(0)
    hits = 0
    for i in range(150):
        low, high = mean_interval(rng.normal(3, 2, 60), rounds=400, seed=i)
        hits += low <= 3 <= high
    assert 0.88 <= hits / 150 <= 0.99
    low, high = mean_interval(np.full(5, 2.0))
    assert (low, high) == (2, 2)
    with pytest.raises(HeadlabError, match="no values"):
        mean_interval(np.zeros(0))


def test_paired_test_counts_all_flips():
    a = np.array([1.0, 2, 3, 4, 5])
    # All differences positive: of 32 flips only two reach their mean.
    assert paired_test(a, np.zeros(5)) == pytest.approx(2 / 32)
    assert paired_test(a, a) == 1
    rng = np.random.default_rng(1)
    noise = rng.normal(size=100)
    assert paired_test(noise + 1, rng.normal(size=100)) < 0.001
    assert paired_test(noise, noise + 0.001 * rng.normal(size=100)) > 0.01
    with pytest.raises(HeadlabError, match="3 and 2"):
        paired_test(np.zeros(3), np.zeros(2))
