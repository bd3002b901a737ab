"""`headlab evaluate scan`: a fitted head against a scan, NoW's way."""

from pathlib import Path

import numpy as np
import torch

from ...geometry.errors import HeadlabError
from ..head_fit import HeadFit
from ..models import load_model
from .report import Report
from .surfaces import NOW_LANDMARKS, scan_to_mesh


def evaluate_scan(scan: Path, head: Path, landmarks: Path, *, millimetres: float = 1.0, scaled: bool = False) -> Report:
    """Median, mean and deviation of the scan's distance to the neutral face, millimetres.

    Args:
        scan: mesh or points that trimesh reads.
        head: `head.npz`.
        landmarks: seven lines of x y z in the scan's unit, `NOW_LANDMARKS`' order.
        millimetres: of one unit of the scan.
        scaled: also fit a scale.

    Raises:
        HeadlabError: a file cannot be read, or the head's model has no 68 landmarks.
    """
    import trimesh

    fit = HeadFit.load(head)
    model = load_model(fit.model)
    if "68" not in model.landmarks:
        raise HeadlabError(f"the head model {fit.model} has no 68 landmarks; add its landmark file")
    try:
        read = trimesh.load(scan, process=False)
        points = np.asarray(getattr(read, "vertices", np.zeros((0, 3))), float) * millimetres
        marks = np.loadtxt(landmarks, delimiter="," if "," in landmarks.read_text() else None) * millimetres
    except (OSError, ValueError, TypeError, AttributeError) as error:
        raise HeadlabError(
            f"{scan} or {landmarks} cannot be read ({error}); give a mesh and seven lines of x y z"
        ) from error
    if marks.shape != (7, 3) or len(points) == 0:
        raise HeadlabError(
            f"{landmarks} holds {marks.shape} numbers and {scan} {len(points)} points; 7 x 3 and some needed"
        )
    neutral = model.shaped(fit.codes.shape[:1], torch.zeros(1, model.expressions))
    own = model.landmarks3d(neutral, "68")[0, list(NOW_LANDMARKS)]
    vertices, own_marks = (1000 * x.double().numpy() for x in (neutral[0], own))
    faces = model.faces.cpu().numpy()
    distance = scan_to_mesh(points, vertices, faces, marks, own_marks, scaled=scaled)
    report = Report(f"{head} against {scan}")
    report.settings = {"scan": str(scan), "head": str(head), "aligned with scale": scaled, "points": len(distance)}
    note = "NoW: seven landmarks, ICP, scan to mesh, neutral"
    for name, value in (("median", np.median(distance)), ("mean", distance.mean()), ("deviation", distance.std())):
        report.add(f"scan-to-mesh {name}", float(value), "mm", None, len(distance), note=note)
    return report
