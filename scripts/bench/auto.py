"""What the network's start and the quicker schedule of `fit --method auto` buy on real photos.

    python -m headlab.scripts.bench.auto ../shared/data scripts/bench/results/auto.json

Times are of the processor, of the fitting alone: network, landmark solver and photometric refinement. The detector and
the texture, which are the same for all methods, are given apart. Every photo is fitted by all methods in turn. The
colour error is that of the fitted geometry with light and albedo solved anew at plain `fit`'s settings, so that methods
of other resolutions compare. Landmark errors are of the 68 points, against the detector's own and against the
reference network's, in parts of the eye distance.
"""

import json
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
import tyro

#: The schedule of "auto" was chosen on every second photo, of these names; the others judge it.
CHOSEN_ON = ("p01", "p03", "p05", "p07", "p09", "p11", "view_0", "view_2")


@dataclass(frozen=True)
class Args:
    """Compare the methods of `headlab fit`."""

    data: Annotated[Path, tyro.conf.Positional]
    """Folder with photos/ (see its README)."""
    out: Annotated[Path, tyro.conf.Positional]
    """JSON file to write."""
    rounds: int = 2
    """The fastest counts."""


def main(args: Args) -> dict[str, Any]:
    from ...datasets.photo import read_photo
    from ...geometry.fitting.photometric import PhotometricConfig
    from ...geometry.landmarks import open_detector
    from ...geometry.models.default import load_default_head
    from ...heads.fit import QUICK_PIXELS, FitConfig, FitTools

    tools = FitTools.build("default", load_default_head(), texture_size=64)
    reference = np.load(args.data / "photos/mediapipe_reference.npz")
    plain = FitConfig()
    methods = {
        "optimise": plain,
        "auto": FitConfig(method="auto"),
        "regress": FitConfig(method="regress"),
        "network's start, plain schedule": FitConfig(method="auto", pixels=PhotometricConfig()),
        "no network, quick schedule": replace(plain, pixels=QUICK_PIXELS),
    }
    rows: list[dict[str, Any]] = []
    with open_detector() as detector:
        for index, name in enumerate(map(str, reference["files"])):
            if name.startswith("video") or not reference["faces_found"][index]:
                continue
            frame = read_photo(args.data / "photos" / name)
            size = torch.tensor([frame.size[1], frame.size[0]])
            truth = torch.from_numpy(reference["landmarks"][index])[:, :2].float() * size
            faces, seconds = _timed(lambda image=frame.image: detector.detect(image))
            face = min(range(len(faces)), key=lambda i: float((faces[i].points.mean(0) - truth.mean(0)).norm()))
            row = {"photo": name, "detector_ms": 1e3 * seconds}
            row |= _compare(tools, frame, faces[face], truth, methods, args.rounds)
            rows.append(row)
            print(json.dumps(row), file=sys.stderr)
    result = {
        "all": _means(rows, methods),
        "photos_the_schedule_was_not_chosen_on": _means(
            [row for row in rows if Path(row["photo"]).stem not in CHOSEN_ON], methods
        ),
        "rounds": args.rounds,
        "detector_ms": float(np.mean([row["detector_ms"] for row in rows])),
        "photos": rows,
    }
    args.out.parent.mkdir(parents=True, exist_ok=True)
    args.out.write_text(json.dumps(result, indent=1))
    return result


def _compare(tools, frame, face, truth, methods: dict, rounds: int) -> dict[str, Any]:
    """One photo by every method."""
    from ...heads.fit import fit_geometry, regressor_for
    from ...heads.fit_report import landmark_error

    found: dict[str, Any] = {}
    best = dict.fromkeys(methods, float("inf"))
    fits = {}
    regressor_for(tools)  # reading its file is not fitting
    for _ in range(rounds):
        for name, config in methods.items():
            fit, seconds = _timed(lambda config=config: fit_geometry(tools, [frame], face.points[None], config))
            best[name], fits[name] = min(best[name], seconds), fit
    for name, fit in fits.items():
        code, camera = fit.codes[0], fit.cameras[0]
        found[name] = {
            "ms": 1e3 * best[name],
            "landmark_error": landmark_error(tools.model, code, camera, face.points),
            "landmark_error_reference": landmark_error(tools.model, code, camera, truth),
            "colour_error": _colour_error(tools, fit, frame, face.points),
            "solver_iterations": fit.landmarks.report.iterations,
        }
    return found


def _colour_error(tools, fit, frame, points) -> float:
    """Of the fitted geometry, light and albedo solved from nothing until they stand still."""
    from ...geometry.fitting.photometric import colour_error

    return colour_error(tools.model, tools.albedo, fit.codes, fit.cameras, [frame.image], points[None])


def _timed(work: Callable[[], Any]) -> tuple[Any, float]:
    start = time.process_time()
    result = work()
    return result, time.process_time() - start


def _means(rows: list[dict[str, Any]], methods: dict) -> dict[str, dict[str, float]]:
    """Over photos; `time` is over that of "optimise"."""
    means = {name: {key: float(np.mean([row[name][key] for row in rows])) for key in rows[0][name]} for name in methods}
    for name in methods:
        means[name]["time"] = means[name]["ms"] / means["optimise"]["ms"]
    return means


if __name__ == "__main__":
    print(json.dumps(main(tyro.cli(Args))["all"], indent=1))
