"""How alike two sets of pictures are, seen by a feature network: Frechet distance, CMMD, precision and recall, IS.

The network decides what the number may be called: only with Inception's weights of 2015 is a Frechet distance FID, only
with CLIP ViT-L/14@336 is the discrepancy CMMD; otherwise they carry their network's name (`report_name`).
"""

from dataclasses import dataclass, field

import numpy as np
from jaxtyping import Float
from numpy import ndarray

from ...geometry.errors import HeadlabError

INCEPTION, CLIP = "inception-2015-12-05", "clip-vit-large-patch14-336"
#: What a measure is called with its own network.
_OWN = {"Frechet distance": ("FID", INCEPTION), "MMD": ("CMMD", CLIP), "exp KL": ("IS", INCEPTION)}


def report_name(measure: str, network: str) -> str:
    """ "FID" for a Frechet distance of Inception's features, "Frechet distance (network)" for any other's."""
    short, own = _OWN.get(measure, (measure, ""))
    return short if network == own else f"{measure} ({network})"


@dataclass
class FeatureMoments:
    """Mean and covariance of features, gathered batch by batch: memory does not depend on the number of pictures.

    Sums are in double precision about the first batch's mean, so that they do not cancel.
    """

    count: int = 0
    _origin: ndarray = field(default_factory=lambda: np.zeros(0))
    _sum: ndarray = field(default_factory=lambda: np.zeros(0))
    _outer: ndarray = field(default_factory=lambda: np.zeros((0, 0)))

    def add(self, features: Float[ndarray, "n dims"]) -> None:
        """Take more pictures in.

        Raises:
            HeadlabError: features that are no numbers, or of another length.
        """
        features = np.asarray(features, np.float64)
        if not np.isfinite(features).all():
            raise HeadlabError("features of a picture are no numbers; leave it out")
        if self.count == 0:
            dims = features.shape[1]
            self._origin, self._sum, self._outer = features.mean(0), np.zeros(dims), np.zeros((dims, dims))
        if features.shape[1] != len(self._origin):
            raise HeadlabError(f"features of length {features.shape[1]} do not go with those of {len(self._origin)}")
        moved = features - self._origin
        self._sum += moved.sum(0)
        self._outer += moved.T @ moved
        self.count += len(features)

    @property
    def mean(self) -> Float[ndarray, "dims"]:
        return self._origin + self._sum / self.count

    @property
    def covariance(self) -> Float[ndarray, "dims dims"]:
        """Unbiased.

        Raises:
            HeadlabError: fewer than two pictures.
        """
        if self.count < 2:
            raise HeadlabError(f"{self.count} pictures have no covariance; give at least two")
        mean = self._sum / self.count
        return (self._outer - self.count * np.outer(mean, mean)) / (self.count - 1)


def frechet_distance(a: FeatureMoments, b: FeatureMoments) -> float:
    """Frechet distance of two Gaussians, |m1 - m2|² + tr(C1 + C2 - 2 (C1 C2)^½) (Heusel et al. 2017).

    The trace of the root is the sum of the roots of the eigenvalues of the symmetric C1^½ C2 C1^½: no complex numbers.
    """
    first, second = a.covariance, b.covariance
    values, vectors = np.linalg.eigh(first)
    root = (vectors * np.sqrt(np.clip(values, 0, None))) @ vectors.T
    inner = np.linalg.eigvalsh(root @ second @ root)
    shift = float(((a.mean - b.mean) ** 2).sum())
    return shift + float(np.trace(first) + np.trace(second) - 2 * np.sqrt(np.clip(inner, 0, None)).sum())


def cmmd(a: Float[ndarray, "n dims"], b: Float[ndarray, "m dims"], *, sigma: float = 10.0, block: int = 1024) -> float:
    """1000 times the squared maximum mean discrepancy with a Gaussian kernel (Jayasumana et al. 2024).

    Features are brought to length 1, as CLIP's are there; the biased estimate, as in the authors' code.
    """
    x, y = (np.asarray(v, np.float64) / np.linalg.norm(v, axis=1, keepdims=True) for v in (a, b))

    def kernel(p: ndarray, q: ndarray) -> float:
        total = 0.0
        for first in range(0, len(p), block):
            total += float(np.exp((p[first : first + block] @ q.T - 1) / sigma**2).sum())  # |p - q|² = 2 - 2 p q
        return total / (len(p) * len(q))

    return 1000 * (kernel(x, x) + kernel(y, y) - 2 * kernel(x, y))


def precision_recall(
    real: Float[ndarray, "n dims"], made: Float[ndarray, "m dims"], *, neighbours: int = 3, block: int = 1024
) -> tuple[float, float]:
    """Improved precision and recall (Kynkäänniemi et al. 2019): shares within the other set's balls.

    A ball around each picture reaches to its k-th nearest of its own set.

    Returns:
        precision (made pictures within a real one's ball), recall (real within a made one's).

    Raises:
        HeadlabError: a set has no more than k pictures.
    """
    if min(len(real), len(made)) <= neighbours:
        raise HeadlabError(f"precision and recall need more than {neighbours} pictures in each set")
    reals, mades = np.asarray(real, np.float64), np.asarray(made, np.float64)

    def radii(x: ndarray) -> ndarray:
        return np.concatenate(
            [
                np.partition(_distances(x[i : i + block], x), neighbours, 1)[:, neighbours]
                for i in range(0, len(x), block)
            ]
        )

    def share(points: ndarray, around: ndarray) -> float:
        reach = radii(around)
        inside = [(_distances(points[i : i + block], around) <= reach).any(1) for i in range(0, len(points), block)]
        return float(np.concatenate(inside).mean())

    return share(mades, reals), share(reals, mades)


def inception_score(probabilities: Float[ndarray, "n classes"], *, splits: int = 10) -> tuple[float, float]:
    """exp of the mean Kullback-Leibler divergence of pictures' classes from their mean (Salimans et al. 2016).

    Returns:
        mean and standard deviation over the splits.
    """
    scores = []
    for part in np.array_split(np.asarray(probabilities, np.float64), min(splits, len(probabilities))):
        safe = np.clip(part, 1e-16, None)
        scores.append(np.exp((part * (np.log(safe) - np.log(safe.mean(0)))).sum(1).mean()))
    return float(np.mean(scores)), float(np.std(scores))


def _distances(a: ndarray, b: ndarray) -> Float[ndarray, "n m"]:
    """Euclidean, without holding differences."""
    squares = (a**2).sum(1)[:, None] + (b**2).sum(1) - 2 * a @ b.T
    return np.sqrt(np.clip(squares, 0, None))
