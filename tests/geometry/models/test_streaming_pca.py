"""Streamed components against a singular value decomposition of the whole matrix, and their memory."""

import tracemalloc
from collections.abc import Iterator

import numpy as np
import pytest

from headlab.geometry.errors import HeadlabError
from headlab.geometry.models.streaming_pca import streamed_components

COUNT, SIZE, RANK = 400, 240, 30


def samples() -> np.ndarray:
    rng = np.random.default_rng(0)
    scale = 0.8 ** np.arange(RANK)
    low = rng.normal(size=(COUNT, RANK)) * scale @ np.linalg.qr(rng.normal(size=(SIZE, RANK)))[0].T
    return (low + 5 + 1e-4 * rng.normal(size=(COUNT, SIZE))).astype(np.float32)


def stream(data: np.ndarray, step: int = 37):
    def batches() -> Iterator[np.ndarray]:
        for start in range(0, len(data), step):
            yield data[start : start + step]

    return batches


def test_equals_the_decomposition_of_all_samples() -> None:
    data = samples()
    found = streamed_components(stream(data), 20, passes=3)
    centred = data.astype(np.float64) - data.mean(0, dtype=np.float64)
    _, values, vectors = np.linalg.svd(centred, full_matrices=False)
    variances = values**2 / (COUNT - 1)
    np.testing.assert_allclose(found.mean, data.mean(0, dtype=np.float64), atol=1e-5)
    np.testing.assert_allclose(found.variances, variances[:20], rtol=2e-4)
    np.testing.assert_allclose(found.total, variances.sum(), rtol=1e-4)
    cosines = np.abs((found.directions * vectors[:20].T).sum(0))
    assert cosines.min() > 0.999
    share = np.cumsum(variances) / variances.sum()
    assert found.needed(0.9) == int(np.flatnonzero(share >= 0.9)[0]) + 1
    assert found.needed(2.0) is None
    assert len(found.leading(3).variances) == 3


def test_never_overstates_and_needs_no_more_than_the_samples_span() -> None:
    data = samples()[:8]
    found = streamed_components(stream(data), 50)
    assert len(found.variances) <= 7 and found.explained[-1] == pytest.approx(1, abs=1e-3)
    with pytest.raises(HeadlabError, match="at least two samples"):
        streamed_components(stream(data[:1]), 3)
    broken = data.copy()
    broken[3, 4] = np.nan
    with pytest.raises(HeadlabError, match="not finite"), np.errstate(invalid="ignore"):
        streamed_components(stream(broken), 3)


def test_memory_does_not_grow_with_the_samples() -> None:
    size, step = 3000, 50

    def made(count: int):
        def batches() -> Iterator[np.ndarray]:
            for start in range(0, count, step):
                codes = np.random.default_rng(start).normal(size=(step, 6)).astype(np.float32)
                yield codes @ np.sin(np.arange(6 * size, dtype=np.float32)).reshape(6, size)

        return batches

    peaks = []
    for count in (500, 5000):
        tracemalloc.start()
        streamed_components(made(count), 10)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] < 1.1 * peaks[0]
    assert peaks[1] < 5000 * size * 4 / 10  # a tenth of the whole matrix
