"""Agreement of read emotions with wanted ones: CCC, PCC, RMSE, SAGR; accuracy and confusion over classes."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int
from numpy import ndarray

from ...geometry.errors import HeadlabError

#: AffectNet's eight, in its order.
CLASSES = ("neutral", "happy", "sad", "surprise", "fear", "disgust", "anger", "contempt")


def agreement(got: Float[ndarray, "n"], true: Float[ndarray, "_"]) -> dict[str, float]:
    """Of valence or arousal, -1..1.

    Returns:
        ccc: concordance correlation (Lin 1989), 2 cov / (var + var' + (difference of means)²); pcc: Pearson's; both 0
        where one side does not vary; rmse; sagr: share of equal signs; difference: mean of got - true.

    Raises:
        HeadlabError: no values, different numbers of them, or values that are none.
    """
    a, b = np.asarray(got, np.float64), np.asarray(true, np.float64)
    if a.shape != b.shape or len(a) == 0 or not (np.isfinite(a).all() and np.isfinite(b).all()):
        raise HeadlabError("agreement needs as many read values as wanted ones, at least one, and all numbers")
    covariance = float(((a - a.mean()) * (b - b.mean())).mean())
    spread = float(a.var() + b.var() + (a.mean() - b.mean()) ** 2)
    lengths = float(np.sqrt(a.var() * b.var()))
    return {
        "ccc": 2 * covariance / spread if spread > 0 else 0.0,
        "pcc": covariance / lengths if lengths > 0 else 0.0,
        "rmse": float(np.sqrt(((a - b) ** 2).mean())),
        "sagr": float((np.sign(a) == np.sign(b)).mean()),
        "difference": float((a - b).mean()),
    }


@dataclass(frozen=True)
class Confusion:
    """Counts: row = wanted class, column = read class."""

    counts: Int[ndarray, "wanted read"]
    classes: tuple[str, ...]

    @classmethod
    def of(cls, got: Int[ndarray, "n"], true: Int[ndarray, "_"], classes: tuple[str, ...] = CLASSES) -> "Confusion":
        """Raises:
        HeadlabError: a class outside."""
        n = len(classes)
        both = np.concatenate([got, true])
        if len(got) != len(true) or (len(both) and not (0 <= both.min() and both.max() < n)):
            raise HeadlabError(f"classes must be 0..{n - 1}, as many read as wanted")
        return cls(np.bincount(np.asarray(true) * n + np.asarray(got), minlength=n * n).reshape(n, n), classes)

    @property
    def accuracy(self) -> float:
        """Share that is right; not a number without any."""
        total = int(self.counts.sum())
        return float(np.trace(self.counts) / total) if total else float("nan")

    @property
    def recall(self) -> dict[str, float]:
        """Per wanted class that occurs."""
        sums = self.counts.sum(1)
        return {name: float(self.counts[i, i] / sums[i]) for i, name in enumerate(self.classes) if sums[i]}

    @property
    def balanced_accuracy(self) -> float:
        """Mean recall of the classes that occur."""
        return float(np.mean(list(self.recall.values()))) if self.recall else float("nan")
