"""Is β of one person, fitted to some views, right for another view? Leave one view out.

    python -m headlab.scripts.bench.multiview ../shared/data build/multiview.json

For every view: β is fitted to all other views together; then, with β held, pose and ψ of the view alone. Reported is
the error of its 68 points (over the outer-eye distance) with that β, with the mean face's (β = 0), and with β fitted
to the view itself, the least there can be. All photos of a set must be of one focal length.
"""

import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any

import torch
import tyro
from jaxtyping import Float
from torch import Tensor

from ...geometry.fitting.landmark_fit import LandmarkBasis, LandmarkFit, LandmarkFitConfig, fit_landmarks


@dataclass(frozen=True)
class Args:
    """Fit all views but one, and see how β serves the one."""

    data: Annotated[Path, tyro.conf.Positional]
    """Folder with photos/ (see its README)."""
    out: Annotated[Path, tyro.conf.Positional]
    """JSON file to write."""
    views: str = "multiview_a"
    """Folder of the views below photos/."""


def main(args: Args) -> dict[str, Any]:
    from ...datasets.photo import read_photo
    from ...geometry.landmarks import open_detector
    from ...geometry.models.default import load_default_head

    files = sorted((args.data / "photos" / args.views).glob("*.jpg"))
    with open_detector() as detector:
        frames = [read_photo(file) for file in files]
        points = torch.stack([detector.detect(frame.image)[0].points for frame in frames])
    basis = LandmarkBasis.build(load_default_head())
    rows = leave_one_out(basis, points, [frame.size for frame in frames])
    for row, file in zip(rows, files, strict=True):
        row["view"] = file.name
    keys = ("held_out", "mean_face", "own")
    result = {"mean": {key: sum(row[key] for row in rows) / len(rows) for key in keys}, "views": rows}
    args.out.parent.mkdir(parents=True, exist_ok=True)
    args.out.write_text(json.dumps(result, indent=1))
    return result


def leave_one_out(
    basis: LandmarkBasis, points: Float[Tensor, "views 478 2"], sizes: list[tuple[int, int]]
) -> list[dict[str, Any]]:
    """For every view the 68-point errors with β of the other views (`held_out`), with β = 0 (`mean_face`) and with
    its own (`own`).

    The focal length is fitted to the other views and held, too.
    """
    config = LandmarkFitConfig(shared_focal=True)
    rows: list[dict[str, Any]] = []
    for left_out in range(len(points)):
        others = [i for i in range(len(points)) if i != left_out]
        fit = fit_landmarks(basis, points[others], [sizes[i] for i in others], config=config)
        neutral = replace(fit, codes=fit.codes.with_(shape=torch.zeros_like(fit.codes.shape)))
        focal = [float(fit.cameras[0].K[0, 0])]
        view = (basis, points[left_out][None], [sizes[left_out]])
        own = fit_landmarks(*view, focal=focal, config=config)
        rows.append(
            {
                "held_out": _error(view, focal, fit, config),
                "mean_face": _error(view, focal, neutral, config),
                "own": own.report.nme[0],
                "focal_pixels": focal[0],
                "beta_rms": float(fit.codes.shape[0].square().mean().sqrt()),
            }
        )
    return rows


def _error(
    view: tuple[LandmarkBasis, Tensor, list[tuple[int, int]]],
    focal: list[float],
    identity: LandmarkFit,
    config: LandmarkFitConfig,
) -> float:
    """Error of the view with the identity held; the best of a few starts, since its pose is unknown."""
    held = replace(config, fit_shape=False)
    errors = []
    for i in range(len(identity.cameras)):
        codes = identity.codes[i : i + 1]
        start = replace(identity, codes=codes, cameras=identity.cameras[i : i + 1])
        errors.append(fit_landmarks(*view, focal=focal, init=start, config=held).report.nme[0])
    return min(errors)


if __name__ == "__main__":
    print(json.dumps(main(tyro.cli(Args))["mean"], indent=1))
