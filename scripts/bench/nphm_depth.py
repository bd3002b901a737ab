"""Heads from one depth map each: NPHM's fields against the parametric model, on the half that was seen and the other.

    python -m headlab.scripts.bench.nphm_depth --fields RUN/fields.safetensors --data ../shared/data --out depth.json

People are ICT-FaceKit's that no field was trained on (scripts/bench/nphm_training.py trains on the first 80), in some
of the script's expressions. A camera in front takes a depth map in whole millimetres. Both methods get the same points;
the parametric fit also gets the true 68 landmarks, the neural one finds the head by itself. Distances are millimetres:
L1-Chamfer, the mean of both directions, where a predicted point belongs to the half of the true point nearest to it.
"""

import os
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import tyro
from jaxtyping import Bool, Float
from numpy import ndarray
from scipy.spatial import KDTree
from torch import Tensor

from ...geometry.camera import Camera
from ...geometry.code import HeadCode
from ...geometry.errors import HeadlabError
from ...geometry.files import write_json
from ...geometry.fitting.scan import ScanConfig, fit_scan
from ...geometry.models.default import load_default_head
from ...geometry.models.head_model import HeadModel
from ...geometry.models.ict import load_ict
from ...geometry.raster import rasterize
from ...geometry.sdf.anchors import FieldFrame
from ...geometry.sdf.field_files import load_fields
from ...geometry.sdf.fit_scan import ScanFitConfig, fit_neural_head
from ...geometry.sdf.frame import BOX
from ...geometry.sdf.head_fields import HeadFields
from ...geometry.sdf.latent_fit import LatentFitConfig
from ...geometry.sdf.model_heads import HeadsConfig, canonical_code, draw_people
from ...geometry.sdf.sampling import HeadSampler
from ...geometry.sdf.scan_points import Scan, depth_scan, surface_points
from ...heads.neural_head import NeuralHead

#: People before this number were trained on.
TRAINED = 80

_DISTANCE = 0.6  # of the camera from the eyes, metres
_SIZE = (480, 480)
_FOCAL = 700.0
_TOLERANCE = 0.003  # a point is seen where the depth map has it, metres
_POINTS = 30000


@dataclass(frozen=True)
class Args:
    """What to measure."""

    fields: Path  #: trained on ICT people
    data: Path  #: folder with ict_facekit.npz
    out: Path | None = None  #: JSON file; printed if absent
    people: int = 4
    expressions: tuple[int, ...] = (0, 8)  #: of the script: neutral, mouth wide open
    seed: int = 0
    threads: int = 2


@dataclass(frozen=True)
class Truth:
    """The outer surface of one posed head above the neck's foot, and which of it the camera saw."""

    points: Float[ndarray, "n 3"]  #: metres
    seen: Bool[ndarray, "n"]


def take_depth(vertices: Float[Tensor, "verts 3"], faces: Tensor, camera: Camera) -> Float[Tensor, "height width"]:
    """Depth in whole millimetres, as cameras store it; 0 = none."""
    raster = rasterize(camera.to_homogeneous(vertices)[None], faces, camera.size)
    depth = torch.where(raster.mask[0], raster.depth[0], torch.zeros(()))
    return (depth * 1000).round() / 1000


def front_camera(model: HeadModel, code: HeadCode) -> Camera:
    """In front of the middle of the eyes."""
    eyes = model.landmarks3d(model.vertices(code), "68")[36:48].mean(0)
    camera = Camera.frontal(_FOCAL, _SIZE)
    away = eyes + torch.tensor([0.0, 0.0, _DISTANCE])
    return Camera(camera.K, camera.R, -camera.R @ away, camera.size)


def truth_of(
    vertices: Float[Tensor, "verts 3"],
    faces: Tensor,
    frame: FieldFrame,
    depth: Float[Tensor, "height width"],
    camera: Camera,
    draws: np.random.Generator,
) -> Truth:
    """Points of the true surface inside the fields' box, and whether the depth map shows them."""
    points = surface_points(Scan(vertices.double().numpy(), faces.numpy()), _POINTS, draws).points
    low, high = np.array(BOX)
    placed = frame.to_field(torch.from_numpy(points).float()).numpy()
    points = points[((placed > low + 0.02) & (placed < high - 0.02)).all(1)]
    there = torch.from_numpy(points).float() @ camera.R.T + camera.t
    pixel = camera.project(torch.from_numpy(points).float())
    height, width = camera.size
    x, y = pixel[:, 0].long(), pixel[:, 1].long()
    inside = (x >= 0) & (x < width) & (y >= 0) & (y < height)
    shown = depth[y.clamp(0, height - 1), x.clamp(0, width - 1)]
    seen = inside & (shown > 0) & ((shown - there[:, 2]).abs() < _TOLERANCE)
    return Truth(points, seen.numpy())


def chamfer(
    vertices: Float[Tensor, "verts 3"], faces: Tensor, truth: Truth, draws: np.random.Generator
) -> dict[str, float]:
    """L1-Chamfer of a predicted surface with either half, millimetres."""
    predicted = surface_points(Scan(vertices.double().numpy(), faces.numpy()), _POINTS, draws).points
    completeness = KDTree(predicted).query(truth.points)[0]
    accuracy, nearest = KDTree(truth.points).query(predicted)
    # Below the box's floor there is no truth to compare with.
    known = predicted[:, 1] > truth.points[:, 1].min()
    out = {}
    for name, half in (("seen", truth.seen), ("unseen", ~truth.seen)):
        there = accuracy[known & half[nearest]]
        out[name] = 500 * float(completeness[half].mean() + there.mean())
    return out


def neural(fields: HeadFields, scan: Scan) -> tuple[Float[Tensor, "verts 3"], Tensor, dict[str, Any]]:
    """The neural head laid on the points, in their frame."""
    start = time.process_time()
    # People of the model that the fields were trained on: their depths may be believed.
    fit = fit_neural_head(fields, scan, ScanFitConfig(LatentFitConfig(), face=1))
    mesh = NeuralHead.of("benchmark", fields, fit, "depth").mesh(fields, 128, normals=False)
    return mesh.vertices, mesh.faces, {"cpu_s": time.process_time() - start, "aligned_by": fit.report["aligned_by"]}


def parametric(
    model: HeadModel, outer: Tensor, scan: Scan, marks: Float[ndarray, "68 3"]
) -> tuple[Float[Tensor, "verts 3"], Tensor, dict[str, Any]]:
    """The default head model fitted to the same points and the true landmarks."""
    start = time.process_time()
    fit = fit_scan(model, scan.points, None, marks, config=ScanConfig(fit_expression=True))
    return model.vertices(fit.code), outer, {"cpu_s": time.process_time() - start}


def main(args: Args) -> dict[str, Any]:
    torch.set_num_threads(args.threads)
    fields = load_fields(args.fields)
    if fields.expression is None:
        raise HeadlabError(f"{args.fields} has no expression field; train one, since people are posed here")
    model, default = load_ict(args.data / "ict_facekit.npz"), load_default_head()
    sampler = HeadSampler.of(model, canonical_code(model, torch.zeros(model.shapes)))
    outer = HeadSampler.of(default).faces
    people = draw_people(model, HeadsConfig(people=TRAINED + args.people, seed=args.seed))[TRAINED:]
    draws = np.random.default_rng(args.seed)
    records = []
    for number, person in enumerate(people):
        for expression in args.expressions:
            name, code = person.poses[expression]
            vertices = model.vertices(code)
            camera = front_camera(model, code)
            depth = take_depth(vertices, sampler.faces, camera)
            scan = depth_scan(depth, camera)
            truth = truth_of(vertices, sampler.faces, fields.frame, depth, camera, draws)
            marks = model.landmarks3d(vertices, "68").double().numpy()
            record: dict[str, Any] = {"person": TRAINED + number, "expression": name}
            for method, fit in (
                ("nphm", lambda s=scan: neural(fields, s)),
                ("parametric", lambda s=scan, m=marks: parametric(default, outer, s, m)),
            ):
                try:
                    found, faces, facts = fit()
                    record[method] = {**chamfer(found, faces, truth, draws), **facts}
                except HeadlabError as error:
                    record[method] = {"failed": str(error)}
            records.append(record)
            print(record, flush=True)
    means = {
        method: {half: _mean(records, method, half) for half in ("seen", "unseen", "cpu_s")}
        for method in ("nphm", "parametric")
    }
    result = {
        "means": means,
        "failed": {m: sum("failed" in r[m] for r in records) for m in means},
        "records": records,
        "load_average": os.getloadavg(),
        "fields": dict(fields.facts),
    }
    if args.out is None:
        print(means)
    else:
        write_json(args.out, result)
    return result


def _mean(records: list[dict[str, Any]], method: str, key: str) -> float | None:
    values = [record[method][key] for record in records if key in record[method]]
    return float(np.mean(values)) if values else None


if __name__ == "__main__":
    main(tyro.cli(Args))
