"""Principal components of more samples than fit in memory, by a randomised sketch of a stream.

Halko, Martinsson, Shkolnisky & Tygert, "An Algorithm for the Principal Component Analysis of Large Data Sets" (2011).
The samples A (count x size, minus their mean) are read at least twice, batch by batch:

    Y = AᵀA Ω      Q = orth(Y)      (once more from Q per further pass)
    C = (AQ)ᵀ(AQ) / (count - 1) = U Λ Uᵀ      V = Q U

Λ never overstates a variance, and the total variance is summed exactly, so what is left unexplained is known.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Float32
from numpy import ndarray

from ..errors import HeadlabError

#: Starts the stream anew; the same samples must come every time.
Stream = Callable[[], Iterator[Float32[ndarray, "batch size"]]]


@dataclass(frozen=True)
class StreamedComponents:
    """Orthonormal directions in decreasing order of variance."""

    count: int  #: samples read
    mean: Float[ndarray, "size"]
    directions: Float32[ndarray, "size comps"]
    variances: Float[ndarray, "comps"]
    total: float  #: variance of the samples in all directions

    @property
    def explained(self) -> Float[ndarray, "comps"]:
        """Share of the total variance that the leading components explain together."""
        return np.cumsum(self.variances) / max(self.total, 1e-300)

    def needed(self, share: float) -> int | None:
        """How many leading components explain a share of the variance; None where all that were found do not."""
        enough = np.flatnonzero(self.explained >= share)
        return int(enough[0]) + 1 if len(enough) else None

    def leading(self, count: int) -> "StreamedComponents":
        """The first so many."""
        return StreamedComponents(self.count, self.mean, self.directions[:, :count], self.variances[:count], self.total)


def streamed_components(
    stream: Stream,
    components: int,
    *,
    passes: int = 2,
    extra: int = 16,
    seed: int = 0,
    progress: Callable[[str], None] = lambda stage: None,
) -> StreamedComponents:
    """The leading components of a stream. Memory: two matrices of size x (components + extra), and a batch.

    Args:
        stream: starts the stream anew.
        components: how many to find; fewer are returned where the samples span fewer.
        passes: how often the stream is read, at least twice: the last pass measures, those before it turn the sketch.
        extra: further directions of the sketch, which make the leading ones exact.
        seed: of the sketch.
        progress: called with a line before each pass.

    Raises:
        HeadlabError: fewer than two samples, or values that are not finite.
    """
    progress("sketch, pass 1")
    rank = components + extra
    first, basis = _first_pass(stream, rank, seed)
    count, mean, total = first.count, first.mean, first.total
    for number in range(2, max(2, passes)):
        progress(f"sketch, pass {number}")
        sketch = np.zeros_like(basis)
        for batch in stream():
            centred = batch - mean.astype(np.float32)
            sketch += centred.T @ (centred @ basis)
        basis = np.linalg.qr(sketch)[0]
    rank = basis.shape[1]
    progress("variances")
    inner = np.zeros((rank, rank))
    for batch in stream():
        seen = (batch - mean.astype(np.float32)) @ basis
        inner += (seen.T @ seen).astype(np.float64)
    values, vectors = np.linalg.eigh(inner / (count - 1))
    order = np.argsort(values)[::-1][:components]
    order = order[values[order] > 1e-9 * max(float(values.max()), 1e-300)]
    directions = basis @ vectors[:, order].astype(np.float32)
    return StreamedComponents(count, mean, directions, values[order], total)


@dataclass(frozen=True)
class _Moments:
    count: int
    mean: Float[ndarray, "size"]
    total: float


def _first_pass(stream: Stream, rank: int, seed: int) -> tuple[_Moments, Float32[ndarray, "size rank"]]:
    """Number, mean and total variance, and the directions that AᵀAΩ spans.

    The mean is not known yet, so everything is told from the first sample, and corrected at the end.
    """
    count, squares = 0, 0.0
    first = sums = test = sketch = None
    for batch in stream():
        if first is None or sketch is None:
            first = batch[0].copy()
            sums = np.zeros(len(first))
            test = np.random.default_rng(seed).standard_normal((len(first), min(rank, len(first))), dtype=np.float32)
            sketch = np.zeros_like(test)
        off = batch - first
        sums = sums + off.sum(0, dtype=np.float64)
        squares += float(np.einsum("ns,ns->n", off, off).sum(dtype=np.float64))
        sketch += off.T @ (off @ test)
        count += len(batch)
    if first is None or sketch is None or test is None or sums is None or count < 2:
        raise HeadlabError(f"components need at least two samples, not {count}; give more heads")
    if not np.isfinite(squares):
        raise HeadlabError("the heads hold numbers that are not finite; look for broken meshes among them")
    shift = sums / count
    sketch -= np.outer(sums, shift @ test).astype(np.float32)
    total = (squares - float(sums @ shift)) / (count - 1)
    basis = np.linalg.qr(sketch[:, : min(rank, count - 1)])[0]
    return _Moments(count, first + shift, total), basis
