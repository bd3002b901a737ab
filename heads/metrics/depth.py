"""Errors of depth maps: AbsRel, RMSE, and the share of pixels within a factor (Eigen et al. 2014)."""

from pathlib import Path

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from ...geometry.errors import HeadlabError
from .bootstrap import mean_interval
from .faces import pairs_by_name
from .report import Missing, Report


def depth_errors(
    got: Float[Tensor, "height width"],
    true: Float[Tensor, "_ _"],
    mask: Bool[Tensor, "_ _"] | None = None,
) -> dict[str, float]:
    """Compare depth in metres; 0 or not a number is "none". Only pixels with both count, and `coverage` says how many.

    Returns:
        abs_rel |d - d*| / d*; rmse (m); delta1..3: shares with max(d / d*, d* / d) below 1.25, 1.25²,
        1.25³;
        coverage: share of the true pixels that have a depth.

    Raises:
        HeadlabError: different sizes, or no pixel with both.
    """
    if got.shape != true.shape:
        raise HeadlabError(f"depth maps of {tuple(got.shape)} and {tuple(true.shape)} pixels; make them one size")
    wanted = (true > 0) & true.isfinite()
    if mask is not None:
        wanted = wanted & mask
    both = wanted & (got > 0) & got.isfinite()
    if not bool(both.any()):
        raise HeadlabError("the two depth maps have no pixel in common; check that both are in metres and of one view")
    d, t = got[both].double(), true[both].double()
    ratio = torch.maximum(d / t, t / d)
    shares = {f"delta{k}": float((ratio < 1.25**k).double().mean()) for k in (1, 2, 3)}
    return {
        "abs_rel": float(((d - t).abs() / t).mean()),
        "rmse": float((d - t).square().mean().sqrt()),
        **shares,
        "coverage": float(both.sum() / wanted.sum()),
    }


def evaluate_depth(reference: Path, made: Path, unit: float) -> Report:
    """Compare 16-bit PNGs of the same names.

    Args:
        reference: folder of true depth.
        made: folder to judge.
        unit: metres of one count; 0 is no depth.

    Raises:
        HeadlabError: a folder holds no pictures.
    """
    report = Report(f"depth in {made.name or made} against {reference.name or reference}")
    report.settings = {"reference": str(reference), "made": str(made), "metres per count": unit}
    pairs, alone = pairs_by_name(reference, made)
    for name in alone:
        report.leave_out("in one folder only", name)
    for true, got in pairs:
        name = true.relative_to(reference).as_posix()
        try:
            report.rows.append({"picture": name, **depth_errors(_read(got, unit), _read(true, unit))})
        except HeadlabError as error:
            report.leave_out(" ".join(str(error).split()), name)
    for key in ("abs_rel", "rmse", "delta1", "delta2", "delta3", "coverage"):
        values = np.array([row[key] for row in report.rows])
        if len(values):
            low, high = mean_interval(values)
            report.add(key, float(values.mean()), "m" if key == "rmse" else "", None, len(values), low, high)
    if not report.rows:
        report.missing.append(Missing("depth errors", "no pair could be compared", "see what was left out"))
    return report


def _read(path: Path, unit: float) -> Float[Tensor, "height width"]:
    import cv2

    counts = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
    if counts is None or counts.ndim != 2 or counts.dtype != np.uint16:
        raise HeadlabError("no 16-bit PNG of one channel")
    return torch.from_numpy(counts.astype(np.float32)) * unit
