"""What is believed about a head and its camera before any landmark is seen.

Every belief is a Gaussian, a bound, or both, on the variables of one photo

    ψ (E) | log f | turn (3) | log scale | offset (2) | jaw (3) | eyes (4: left x, y, right x, y)

where scale = f / distance, pixels per metre at the face. Turn and offset are left free.
"""

from dataclasses import dataclass

import numpy as np

from ..models.head_model import HeadModel

#: Places of a photo's variables, counted after ψ.
FOCAL, TURN, SCALE, OFFSET, JAW, EYES = 0, slice(1, 4), 4, slice(5, 7), slice(7, 10), slice(10, 14)
POSE_VARIABLES = 14


@dataclass(frozen=True)
class LandmarkPriors:
    """Strengths; angles in radians, lengths in metres. β is unit Gaussian by the model's own scaling."""

    shape: float = 1.0  #: factor on ½‖β‖²
    expression: float = 1.0  #: factor on ½ Σ (ψ / std)², std = model.expression_std
    sparsity: float = 0.5  #: cost per unit of ψ / std where actions only go one way: unused actions stay at 0
    field_of_view: float = 1.4  #: likely focal length in units of the longer image side (a 50 mm lens on 36 mm film)
    field_of_view_spread: float = 0.5  #: of its logarithm
    distance: float = 1.0  #: likely distance of the face, metres
    distance_spread: float = 0.4  #: of its logarithm
    focal_range: tuple[float, float] = (0.4, 20.0)  #: in units of the longer image side
    jaw_std: tuple[float, float, float] = (0.15, 0.03, 0.03)  #: open, sideways, twist
    jaw_bounds: tuple[tuple[float, float], ...] = ((-0.05, 0.6), (-0.15, 0.15), (-0.1, 0.1))
    eye_std: tuple[float, float] = (0.2, 0.3)  #: up-down, left-right
    eye_difference_std: tuple[float, float] = (0.03, 0.08)  #: between the two eyes
    eye_limit: float = 0.8


@dataclass(frozen=True, eq=False)
class PhotoPrior:
    """Energy ½ (x - mean)ᵀ precision (x - mean) + linearᵀ x, and bounds, for one photo's variables."""

    precision: np.ndarray  #: (n, n)
    mean: np.ndarray  #: (n,)
    linear: np.ndarray  #: (n,)
    lower: np.ndarray  #: (n,) infinite where free
    upper: np.ndarray

    def energy(self, x: np.ndarray) -> float:
        off = x - self.mean
        return float(0.5 * off @ self.precision @ off + self.linear @ x)

    def gradient(self, x: np.ndarray) -> np.ndarray:
        return self.precision @ (x - self.mean) + self.linear


def photo_prior(
    model: HeadModel,
    priors: LandmarkPriors,
    size: tuple[int, int],
    focal: float | None,
    *,
    fit_jaw: bool,
    sharing_focal: int = 1,
) -> PhotoPrior:
    """Beliefs about one photo.

    Args:
        model: gives ψ's scale and bounds.
        priors: strengths.
        size: (height, width), pixels.
        focal: known focal length in pixels, or None.
        fit_jaw: let the jaw joint turn; otherwise it stays shut.
        sharing_focal: photos that share one unknown focal length, so that its prior counts once.
    """
    expressions = model.expressions
    count = expressions + POSE_VARIABLES
    precision, mean, linear = np.zeros((count, count)), np.zeros(count), np.zeros(count)
    lower, upper = np.full(count, -np.inf), np.full(count, np.inf)
    diagonal = np.einsum("ii->i", precision)

    std = np.ones(expressions)
    if model.expression_std is not None:
        std = model.expression_std.detach().cpu().numpy().astype(np.float64)
    std = np.maximum(std, 1e-6)
    diagonal[:expressions] = priors.expression / std**2
    if model.expression_bounds is not None:
        bounds = model.expression_bounds.detach().cpu().numpy().astype(np.float64)
        lower[:expressions], upper[:expressions] = bounds.T
        linear[:expressions] = np.where(bounds[:, 0] >= 0, priors.sparsity / std, 0.0)

    pose = slice(expressions, None)
    long_side = max(size)
    f, s = expressions + FOCAL, expressions + SCALE
    mean[f] = np.log(long_side * priors.field_of_view)
    lower[f], upper[f] = np.log(long_side * np.array(priors.focal_range))
    if focal is None:
        diagonal[f] += 1 / (priors.field_of_view_spread**2 * sharing_focal)
    else:
        mean[f] = lower[f] = upper[f] = np.log(focal)
    mean[s] = mean[f] - np.log(priors.distance)  # log distance = log f - log scale
    precision[np.ix_([f, s], [f, s])] += np.array([[1, -1], [-1, 1]]) / priors.distance_spread**2

    diagonal[pose][JAW] = 1 / np.array(priors.jaw_std) ** 2
    jaw_bounds = np.array(priors.jaw_bounds) * float(fit_jaw)
    lower[pose][JAW], upper[pose][JAW] = jaw_bounds.T

    eyes = expressions + np.arange(EYES.start, EYES.stop)
    difference = np.array([[1.0, 0, -1, 0], [0, 1, 0, -1]]) / np.array(priors.eye_difference_std)[:, None]
    precision[np.ix_(eyes, eyes)] += (
        np.diag(np.tile(0.5 / np.array(priors.eye_std) ** 2, 2)) + difference.T @ difference
    )
    lower[eyes], upper[eyes] = -priors.eye_limit, priors.eye_limit
    return PhotoPrior(precision, mean, linear, lower, upper)
