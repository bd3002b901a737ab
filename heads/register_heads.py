"""A folder of scans -> heads in a template's topology, for `build_morphable`.

Meshes with as many vertices as the template are taken to be registered already. All others are: MediaPipe finds their
landmarks on renders (or a file beside them gives them), then `register_scan`. What has been registered is kept, so that
a run that was stopped goes on.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from numpy import ndarray

from ..datasets.head_scans import HeadScan, find_scans, read_head_scan
from ..geometry.errors import HeadlabError
from ..geometry.files import atomic_path
from ..geometry.fitting.registration import RegistrationConfig, register_scan
from ..geometry.fitting.scan_landmarks import scan_landmarks
from ..geometry.landmarks import LandmarkDetector
from ..geometry.models.head_model import HeadModel

#: Mean distance to the scan, metres, above which a registration has failed.
_FAILED = 0.003


@dataclass(frozen=True)
class RegisteredHeads:
    """Heads in correspondence."""

    names: tuple[str, ...]
    vertices: Float[ndarray, "count verts 3"]  #: neutral, metres
    report: dict[str, Any]  #: per scan: matched share and distance, or why it was left out


def register_heads(
    folder: Path,
    template: HeadModel,
    detector: LandmarkDetector,
    kept: Path,
    config: RegistrationConfig | None = None,
    progress: Callable[[str], None] = lambda stage: None,
) -> RegisteredHeads:
    """Read and register all scans of a folder; those that fail are left out and reported.

    Args:
        folder: with the scans.
        template: head model with 68 landmarks.
        detector: for scans without landmarks.
        kept: folder for the registered meshes; made where missing.
        config: see `RegistrationConfig`.
        progress: called with each scan's name.

    Raises:
        HeadlabError: no scans, or none that can be used.
    """
    paths = find_scans(folder)
    kept.mkdir(parents=True, exist_ok=True)
    names, heads, report = [], [], {}
    for i, path in enumerate(paths):
        progress(f"{path.name}, {i + 1} of {len(paths)}")
        try:
            vertices, told = _registered(path, template, detector, kept / f"{path.stem}.npz", config)
        except HeadlabError as error:
            report[path.name] = {"left_out": str(error)}
            continue
        names.append(path.stem)
        heads.append(vertices)
        report[path.name] = told
    if not heads:
        first = next(iter(report.values()))["left_out"]
        raise HeadlabError(f"none of the {len(paths)} scans in {folder} can be used; the first: {first}")
    return RegisteredHeads(tuple(names), np.stack(heads), report)


def _registered(
    path: Path, template: HeadModel, detector: LandmarkDetector, kept: Path, config: RegistrationConfig | None
) -> tuple[Float[ndarray, "verts 3"], dict[str, Any]]:
    scan = read_head_scan(path)
    if len(scan.vertices) == len(template.template) and scan.unit != "unknown":
        return scan.vertices, {"registered": "before", "unit": scan.unit}
    if kept.is_file() and kept.stat().st_mtime >= path.stat().st_mtime:
        with np.load(kept, allow_pickle=False) as file:
            if file["neutral"].shape == tuple(template.template.shape):
                return file["neutral"], {"registered": "earlier", "distance_mm": float(file["distance_mm"])}
    marks = scan.landmarks if scan.landmarks is not None else _found(scan, detector)
    fitted = register_scan(template, scan.vertices, scan.faces, marks, scale=scan.unit == "unknown", config=config)
    if fitted.distance > _FAILED:
        raise HeadlabError(
            f"{path.name} does not take the template: {1000 * fitted.distance:.1f} mm apart on average; check that it "
            "is a head, upright (+Y), or give its landmarks"
        )
    told = {
        "registered": "now",
        "unit": scan.unit,
        "distance_mm": round(1000 * fitted.distance, 3),
        "matched": round(fitted.matched, 3),
    }
    with atomic_path(kept) as temporary:
        np.savez_compressed(temporary, neutral=fitted.neutral, posed=fitted.vertices, distance_mm=told["distance_mm"])
    return fitted.neutral, told


def _found(scan: HeadScan, detector: LandmarkDetector) -> Float[ndarray, "68 3"]:
    if scan.faces is None:
        raise HeadlabError(f"{scan.name} is a cloud of points; put its landmarks into {scan.name}.landmarks.txt")
    points = torch.from_numpy(scan.vertices).float()
    return scan_landmarks(points, torch.from_numpy(scan.faces), detector).double().numpy()
