"""How well one surface matches another: the measures of NPHM's evaluation, on sampled points.

Accuracy runs from the prediction to the truth, completeness from the truth to the prediction. Values of the authors'
code at their thresholds; F-scores here may be asked for at any.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from numpy import ndarray
from scipy.spatial import KDTree

from ..errors import HeadlabError


@dataclass(frozen=True)
class OneWay:
    """From each point of one cloud to the nearest of the other."""

    distance: Float[ndarray, "n"]
    cosine: Float[ndarray, "n"] | None  #: |cosine| between the two normals


@dataclass(frozen=True)
class SurfaceComparison:
    """Distances both ways, in the unit of the points."""

    accuracy: OneWay
    completeness: OneWay

    @property
    def chamfer_l1(self) -> float:
        """Mean of the two mean distances."""
        return float(self.accuracy.distance.mean() + self.completeness.distance.mean()) / 2

    @property
    def chamfer_l2(self) -> float:
        """Mean of the two mean squared distances."""
        return float((self.accuracy.distance**2).mean() + (self.completeness.distance**2).mean()) / 2

    @property
    def normal_consistency(self) -> float | None:
        """Mean |cosine| of the normals, both ways; None without normals."""
        if self.accuracy.cosine is None or self.completeness.cosine is None:
            return None
        return float(self.accuracy.cosine.mean() + self.completeness.cosine.mean()) / 2

    def precision(self, threshold: float) -> float:
        """Share of the predicted points within `threshold` of the truth."""
        return float((self.accuracy.distance <= threshold).mean())

    def recall(self, threshold: float) -> float:
        """Share of the true points within `threshold` of the prediction."""
        return float((self.completeness.distance <= threshold).mean())

    def f_score(self, threshold: float) -> float:
        """Harmonic mean of precision and recall; 0 where both are."""
        precision, recall = self.precision(threshold), self.recall(threshold)
        return 2 * precision * recall / (precision + recall) if precision + recall > 0 else 0.0

    def row(self, thresholds: Sequence[float] = (1.0, 1.5)) -> dict[str, float | None]:
        """One line of a table; points in millimetres give millimetres."""
        scores = {f"f_score_{threshold:g}": self.f_score(threshold) for threshold in thresholds}
        return {"chamfer_l1": self.chamfer_l1, "normal_consistency": self.normal_consistency, **scores}


def compare_surfaces(
    predicted: Float[ndarray, "n 3"],
    true: Float[ndarray, "m 3"],
    predicted_normals: Float[ndarray, "_ 3"] | None = None,
    true_normals: Float[ndarray, "_ 3"] | None = None,
) -> SurfaceComparison:
    """Compare points of two surfaces. Normals of any length and either sign.

    Raises:
        HeadlabError: no points, points that are no numbers, or normals that are not as many as the points.
    """
    for name, points, normals in (
        ("predicted", predicted, predicted_normals),
        ("true", true, true_normals),
    ):
        if len(points) == 0 or not np.isfinite(points).all():
            raise HeadlabError(
                f"the {name} surface has no points or some that are no numbers; give points on a surface"
            )
        if normals is not None and normals.shape != points.shape:
            raise HeadlabError(
                f"the {name} surface has {len(points)} points and {len(normals)} normals; give one normal per point"
            )
    with_normals = predicted_normals is not None and true_normals is not None
    return SurfaceComparison(
        _one_way(predicted, true, predicted_normals, true_normals) if with_normals else _one_way(predicted, true),
        _one_way(true, predicted, true_normals, predicted_normals) if with_normals else _one_way(true, predicted),
    )


def _one_way(
    source: Float[ndarray, "n 3"],
    target: Float[ndarray, "m 3"],
    source_normals: Float[ndarray, "n 3"] | None = None,
    target_normals: Float[ndarray, "m 3"] | None = None,
) -> OneWay:
    distance, nearest = KDTree(target).query(source)
    if source_normals is None or target_normals is None:
        return OneWay(distance, None)
    cosine = (_unit(source_normals) * _unit(target_normals)[nearest]).sum(-1)
    return OneWay(distance, np.abs(cosine))


def _unit(vectors: Float[ndarray, "n 3"]) -> Float[ndarray, "n 3"]:
    return vectors / np.maximum(np.linalg.norm(vectors, axis=-1, keepdims=True), 1e-12)
