"""How sure a number is: bootstrap intervals and paired tests."""

from collections.abc import Callable

import numpy as np
from jaxtyping import Float
from numpy import ndarray

from ...geometry.errors import HeadlabError


def mean_interval(
    values: Float[ndarray, "n"], *, level: float = 0.95, rounds: int = 2000, seed: int = 0
) -> tuple[float, float]:
    """Percentile bootstrap interval of the mean (Efron 1979). One value alone gives itself twice."""
    return interval(values, lambda rows: rows.mean(-1), level=level, rounds=rounds, seed=seed)


def interval(
    values: Float[ndarray, "n"],
    statistic: Callable[[ndarray], ndarray],
    *,
    level: float = 0.95,
    rounds: int = 2000,
    seed: int = 0,
) -> tuple[float, float]:
    """Percentile bootstrap interval of any statistic of rows (rounds, n) -> (rounds,).

    Raises:
        HeadlabError: no values.
    """
    values = np.asarray(values, np.float64)
    if len(values) == 0:
        raise HeadlabError("there are no values to be sure or unsure of")
    rng = np.random.default_rng(seed)
    size = max(1, min(rounds, 20_000_000 // len(values)))
    drawn = np.concatenate(
        [statistic(values[rng.integers(0, len(values), (b, len(values)))]) for b in _parts(rounds, size)]
    )
    low, high = np.quantile(drawn, ((1 - level) / 2, (1 + level) / 2))
    return float(low), float(high)


def paired_test(a: Float[ndarray, "n"], b: Float[ndarray, "_"], *, rounds: int = 10_000, seed: int = 0) -> float:
    """Probability that the mean of paired differences is as far from 0 by chance: sign flips, two-sided.

    All 2^n flips are counted where they are no more than `rounds`; else that many are drawn.

    Raises:
        HeadlabError: not as many values on both sides, or none.
    """
    if len(a) != len(b) or len(a) == 0:
        raise HeadlabError(f"a paired test needs pairs; there are {len(a)} and {len(b)} values")
    difference = np.asarray(a, np.float64) - np.asarray(b, np.float64)
    n = len(difference)
    if 2**n <= rounds if n < 40 else False:
        signs = 1 - 2 * ((np.arange(2**n)[:, None] >> np.arange(n)) & 1)
        extra = 0
    else:
        signs = np.random.default_rng(seed).choice((-1, 1), (rounds, n))
        extra = 1  # the observed one itself, so that no probability is 0
    means = np.abs((signs * difference).mean(1))
    return float(((means >= abs(difference.mean()) - 1e-12).sum() + extra) / (len(signs) + extra))


def _parts(total: int, size: int) -> list[int]:
    return [min(size, total - done) for done in range(0, total, size)]
