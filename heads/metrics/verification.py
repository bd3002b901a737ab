"""Is it the same person? Error rates of genuine and impostor scores, as PyEER and ID-Booth define them.

A comparison is a match where its similarity reaches the threshold. FMR is the share of impostor comparisons that match,
FNMR that of genuine ones that do not. FMR100 is the lowest FNMR with FMR <= 1 %, FMR1000 the lowest FNMR with
FMR <= 0.1 % (some papers swap the two words or say 0.01 %). EER is where both are equal; between two thresholds the
mean of both at the nearer one. FDR is Fisher's (difference of means)² / (sum of variances).

Impostor scores are many: those of 10 000 pictures with 10 000 others are a hundred million. They are counted in narrow
bins block by block and never held together; thresholds are exact to the width of a bin.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int
from numpy import ndarray

from ...geometry.errors import HeadlabError

#: Bins over scores -1..1: 4e-6 wide.
BINS = 1 << 19
_BLOCK = 512


@dataclass(frozen=True)
class ScoreCounts:
    """Histograms of similarities over -1..1, of equal bins."""

    genuine: Int[ndarray, "bins"]
    impostor: Int[ndarray, "bins"]

    @classmethod
    def of_scores(cls, genuine: Float[ndarray, "n"], impostor: Float[ndarray, "m"], bins: int = BINS) -> "ScoreCounts":
        """Count two lists of similarities in -1..1.

        Raises:
            HeadlabError: scores outside, or not numbers.
        """
        return cls(_counted(np.asarray(genuine), bins), _counted(np.asarray(impostor), bins))

    @property
    def centres(self) -> Float[ndarray, "bins"]:
        """Middle of each bin."""
        return (np.arange(len(self.genuine)) + 0.5) * (2 / len(self.genuine)) - 1

    def coarse(self, bins: int) -> "ScoreCounts":
        """The same counts in fewer bins, for a figure; `bins` divides the present number."""
        return ScoreCounts(*(counts.reshape(bins, -1).sum(1) for counts in (self.genuine, self.impostor)))


@dataclass(frozen=True)
class Verification:
    """Error rates (0..1) and the thresholds that give them. See the top of this file for what each is."""

    eer: float
    eer_threshold: float
    fmr100: float
    fmr100_threshold: float
    fmr1000: float
    fmr1000_threshold: float
    fdr: float
    genuine_pairs: int
    impostor_pairs: int
    genuine_mean: float
    genuine_std: float
    impostor_mean: float
    impostor_std: float


def verification(counts: ScoreCounts) -> Verification:
    """Error rates of counted scores.

    Raises:
        HeadlabError: there are no genuine or no impostor comparisons: the rates are undefined.
    """
    genuine, impostor = int(counts.genuine.sum()), int(counts.impostor.sum())
    if genuine == 0 or impostor == 0:
        which = "no two pictures of one person" if genuine == 0 else "pictures of one person only"
        raise HeadlabError(f"there are {which}: EER, FMR100 and FMR1000 are undefined; add pictures of other people")
    # At threshold i everything in bin i and above matches; one threshold more, where nothing does.
    fmr = np.append(counts.impostor[::-1].cumsum()[::-1], 0) / impostor
    fnmr = np.append(0, counts.genuine.cumsum()) / genuine
    edges = np.arange(len(counts.genuine) + 1) * (2 / len(counts.genuine)) - 1
    nearest = _middle(np.abs(fmr - fnmr))
    points = {}
    for name, limit in (("fmr100", 0.01), ("fmr1000", 0.001)):
        at = int(np.argmax(fmr <= limit))  # fmr falls and fnmr rises: the first that is allowed is the best
        points |= {name: float(fnmr[at]), f"{name}_threshold": float(edges[at])}
    (mean_g, var_g), (mean_i, var_i) = (_moments(c, counts.centres) for c in (counts.genuine, counts.impostor))
    spread = var_g + var_i
    return Verification(
        eer=float(fmr[nearest] + fnmr[nearest]) / 2,
        eer_threshold=float(edges[nearest]),
        **points,
        fdr=float((mean_g - mean_i) ** 2 / spread) if spread > 0 else float("inf"),
        genuine_pairs=genuine,
        impostor_pairs=impostor,
        genuine_mean=mean_g,
        genuine_std=var_g**0.5,
        impostor_mean=mean_i,
        impostor_std=var_i**0.5,
    )


def count_pairs(
    vectors: Float[ndarray, "pictures dims"],
    people: Int[ndarray, "pictures"],
    *,
    others: Float[ndarray, "more dims"] | None = None,
    other_people: Int[ndarray, "more"] | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> ScoreCounts:
    """Cosines of all pairs of pictures, counted; of a set with itself each pair once.

    Args:
        vectors: embeddings of any length.
        people: whose.
        others: compare with these instead of among themselves (generated pictures with real ones).
        other_people: whose, in the same numbers.
        progress: called with (done, all) pictures.

    Raises:
        HeadlabError: vectors that are no numbers or of length 0, or not as many people.
    """
    a = _unit(vectors, people)
    b, names = (a, people) if others is None or other_people is None else (_unit(others, other_people), other_people)
    same_set = others is None
    genuine, impostor = np.zeros(BINS, np.int64), np.zeros(BINS, np.int64)
    for first in range(0, len(a), _BLOCK):
        rows = a[first : first + _BLOCK]
        start = first if same_set else 0
        scores = rows @ b[start:].T
        match = people[first : first + _BLOCK, None] == names[None, start:]
        bins = _bins_of(scores, BINS)
        if same_set:
            # Within the first square only what is above the diagonal; the rest is another block's.
            square = np.tril(np.ones((len(rows), len(rows)), bool))
            bins[:, : len(rows)][square] = -1
        flat = bins[match]
        genuine += np.bincount(flat[flat >= 0], minlength=BINS)
        bins[match] = -1
        np.add(bins, 1, out=bins)  # what does not count falls into a bin of its own
        impostor += np.bincount(bins.ravel(), minlength=BINS + 1)[1:]
        if progress is not None:
            progress(min(first + _BLOCK, len(a)), len(a))
    return ScoreCounts(genuine, impostor)


def gallery_ranks(
    probes: Float[ndarray, "probes dims"],
    whose: Int[ndarray, "probes"],
    gallery: Float[ndarray, "people dims"],
    names: Int[ndarray, "people"],
) -> Int[ndarray, "probes"]:
    """Position (from 1) of the true person when a gallery is sorted by similarity to each probe; ties count against.

    Raises:
        HeadlabError: a probe's person is not in the gallery.
    """
    missing = sorted(set(np.asarray(whose).tolist()) - set(np.asarray(names).tolist()))
    if missing:
        raise HeadlabError(f"{len(missing)} people of the probes are not in the gallery; add a picture of each")
    scores = _unit(probes, whose) @ _unit(gallery, names).T
    own = np.where(whose[:, None] == names[None], scores, -np.inf).max(1)
    return 1 + ((scores >= own[:, None]) & (whose[:, None] != names[None])).sum(1)


def _unit(vectors: ndarray, people: ndarray) -> Float[ndarray, "n dims"]:
    lengths = np.linalg.norm(vectors, axis=-1, keepdims=True)
    if len(vectors) != len(people) or not np.isfinite(lengths).all() or (lengths == 0).any():
        raise HeadlabError("embeddings must be finite, not zero, and one per named picture; leave failed pictures out")
    return np.ascontiguousarray(vectors / lengths, np.float32)


def _bins_of(scores: Float[ndarray, "*shape"], bins: int) -> Int[ndarray, "*shape"]:
    scaled = scores * np.asarray(bins / 2, scores.dtype)
    scaled += bins / 2
    np.clip(scaled, 0, bins - 1, out=scaled)
    return scaled.astype(np.int64)


def _counted(scores: ndarray, bins: int) -> Int[ndarray, "bins"]:
    if scores.size and not (np.isfinite(scores).all() and np.abs(scores).max() <= 1 + 1e-6):
        raise HeadlabError("similarities must be numbers in -1..1")
    return np.bincount(_bins_of(scores.astype(np.float64), bins), minlength=bins)


def _moments(counts: ndarray, centres: ndarray) -> tuple[float, float]:
    mean = float((counts * centres).sum() / counts.sum())
    return mean, float((counts * (centres - mean) ** 2).sum() / counts.sum())


def _middle(distance: ndarray) -> int:
    """Of all thresholds where the two rates are nearest, the middle one."""
    best = np.flatnonzero(distance <= distance.min() + 1e-15)
    return int(best[len(best) // 2])
