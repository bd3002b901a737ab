"""The landmark solver against Adam on the same energy: model evaluations, time, error.

    python -m headlab.scripts.bench.landmark_fit build/landmark_fit.json

Every face is fitted twice from the same start to the same energy: once by Levenberg-Marquardt, once by Adam with
gradients from torch's autograd, at each of several learning rates. The fastest rate counts, so Adam is not
handicapped by a bad choice; a step is one model evaluation, and Adam is done when its cost comes within a part of LM's.
Without --landmarks the faces are the astronaut of scikit-image and projections of random default heads with noise.
"""

import json
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
import tyro
from torch import Tensor

from ...geometry.camera import Camera
from ...geometry.code import HeadCode
from ...geometry.fitting.landmark_basis import LandmarkBasis
from ...geometry.fitting.landmark_energy import LandmarkEnergy, LandmarkState
from ...geometry.fitting.landmark_fit import fit_landmarks
from ...geometry.fitting.landmark_problem import LandmarkFitConfig, landmark_problem
from ...geometry.fitting.lm import ArrowVector, minimize
from ...geometry.fitting.point_basis import PointBasis
from ...geometry.fitting.priors import EYES, FOCAL, JAW, OFFSET, POSE_VARIABLES, SCALE, TURN
from ...geometry.landmarks import open_detector
from ...geometry.models.default import load_default_head
from ...geometry.models.head_model import HeadModel


@dataclass(frozen=True)
class Args:
    """Measure the landmark solver."""

    out: Annotated[Path, tyro.conf.Positional]
    """JSON file to write."""
    landmarks: Path | None = None
    """npz with files, image_wh (n, 2) and landmarks (n, 478, 3) in 0..1: fit these faces instead."""
    faces: int = 12
    """Faces to fit with both solvers."""
    rates: tuple[float, ...] = (0.003, 0.01, 0.03, 0.1)
    """Learning rates that Adam is tried with."""
    steps: int = 4000
    """Adam gives up after so many."""
    tolerance: float = 0.01
    """Adam is done when its cost exceeds LM's by no more than this part."""
    threads: int = 1
    """Threads of torch; numpy's follow OPENBLAS_NUM_THREADS."""


@dataclass(frozen=True)
class Face:
    name: str
    landmarks: Tensor  #: (1, 478, 2) pixels
    size: tuple[int, int]


def main(args: Args) -> dict[str, Any]:
    torch.set_num_threads(args.threads)
    model = load_default_head()
    started = time.perf_counter()
    basis = LandmarkBasis.build(model)
    build = time.perf_counter() - started
    detection, astronaut = time_detector()
    faces = stored_faces(args.landmarks) if args.landmarks else [astronaut, *random_faces(model, args.faces - 1)]
    faces = faces[:: max(1, len(faces) // args.faces)][: args.faces]
    config = LandmarkFitConfig(outline="fixed")  # the energy must be the same function for both
    fit_landmarks(basis, faces[0].landmarks, [faces[0].size], config=config)  # warm up
    rows = [compare(basis, face, config, args) for face in faces]
    reached = [row for row in rows if row["adam"]["reached"]]
    summary = {
        "faces": len(rows),
        "faces_where_adam_arrived": len(reached),
        "lm_evaluations": float(np.mean([row["lm"]["evaluations"] for row in rows])),
        "adam_evaluations": float(np.mean([row["adam"]["evaluations"] for row in rows])),
        "lm_milliseconds": 1e3 * float(np.mean([row["lm"]["seconds"] for row in rows])),
        "adam_milliseconds": 1e3 * float(np.mean([row["adam"]["seconds"] for row in rows])),
        "lm_nme": float(np.mean([row["lm"]["nme"] for row in rows])),
        "adam_nme": float(np.mean([row["adam"]["nme"] for row in rows])),
        "basis_milliseconds": 1e3 * build,
        "detector_milliseconds": 1e3 * detection,
    }
    summary["fewer_evaluations"] = summary["adam_evaluations"] / summary["lm_evaluations"]
    summary["faster"] = summary["adam_milliseconds"] / summary["lm_milliseconds"]
    summary["landmark_stage_milliseconds"] = summary["detector_milliseconds"] + summary["lm_milliseconds"]
    report = {"args": {**asdict(args), "out": str(args.out), "landmarks": str(args.landmarks)}, "summary": summary}
    args.out.parent.mkdir(parents=True, exist_ok=True)
    args.out.write_text(json.dumps({**report, "rows": rows}, indent=1) + "\n")
    print(json.dumps(summary, indent=1))
    return summary


def time_detector() -> tuple[float, Face]:
    """Median seconds of one detection after warm-up, and the face of the astronaut."""
    from skimage import data

    image = torch.from_numpy(data.astronaut()).permute(2, 0, 1).float() / 255
    with open_detector() as detector:
        found = detector.detect(image)
        times = []
        for _ in range(7):
            started = time.perf_counter()
            found = detector.detect(image)
            times.append(time.perf_counter() - started)
    return float(np.median(times)), Face("astronaut", found[0].points[None].double(), (512, 512))


def random_faces(model: HeadModel, count: int, seed: int = 0) -> list[Face]:
    """Random people with random faces, turned up to about 40 degrees, landmarks off by about a pixel."""
    generator = torch.Generator().manual_seed(seed)
    faces = []
    for i in range(count):
        expression = torch.rand(1, model.expressions, generator=generator)
        used = torch.rand(1, model.expressions, generator=generator) < 0.15
        code = HeadCode.neutral(model.shapes, model.expressions, (1,)).with_(
            shape=0.7 * torch.randn(1, model.shapes, generator=generator),
            expression=expression * used,
            rotation=torch.randn(1, 3, generator=generator) * torch.tensor([0.15, 0.35, 0.1]),
            translation=torch.tensor([[0.0, 0.0, -0.9]]) + 0.1 * torch.randn(1, 3, generator=generator),
        )
        points = Camera.frontal(900.0, (640, 480)).project(model.landmarks3d(model.vertices(code), "478"))
        points = points + torch.randn(points.shape, generator=generator)
        faces.append(Face(f"random {i}", points.double(), (640, 480)))
    return faces


def stored_faces(path: Path) -> list[Face]:
    with np.load(path) as file:
        data = {name: file[name] for name in ("files", "image_wh", "landmarks")}
    good = [i for i in range(len(data["files"])) if np.isfinite(data["landmarks"][i]).all()]
    return [
        Face(
            str(data["files"][i]),
            torch.from_numpy(data["landmarks"][i, None, :, :2].astype(np.float64) * data["image_wh"][i]),
            (int(data["image_wh"][i, 1]), int(data["image_wh"][i, 0])),
        )
        for i in good
    ]


def compare(basis: LandmarkBasis, face: Face, config: LandmarkFitConfig, args: Args) -> dict[str, Any]:
    """One face, both solvers."""
    fits = [fit_landmarks(basis, face.landmarks, [face.size], config=config) for _ in range(3)]
    energy, start = landmark_problem(basis, face.landmarks, [face.size], None, None, config)
    result = minimize(energy, start, config.solver)
    lm = {
        "evaluations": result.evaluations,
        "seconds": float(np.median([fit.report.seconds for fit in fits])),
        "cost": result.cost,
    }
    lm["nme"] = fits[0].report.nme[0]
    target = result.cost * (1 + args.tolerance)
    attempts = [adam(basis, energy, start, target, rate, args.steps) for rate in args.rates]
    best = min(attempts, key=lambda run: (not run["reached"], run["evaluations"], run["cost"]))
    return {"name": face.name, "lm": lm, "adam": best, "adam_attempts": attempts}


def adam(
    basis: LandmarkBasis, energy: LandmarkEnergy, start: LandmarkState, target: float, rate: float, steps: int
) -> dict[str, Any]:
    """Adam (Kingma & Ba 2015) in scaled variables, weights clamped to their bounds after every step."""
    cost_of = torch_energy(energy, start)
    count = energy.shapes + energy.fixed.expressions + POSE_VARIABLES
    x = torch.zeros(count, dtype=torch.float64, requires_grad=True)
    lower, upper = (torch.from_numpy(np.r_[b.shared, b.blocks[0]]) for b in energy.bounds(start))
    assert abs(float(cost_of(x.detach())) / energy.evaluate(start).cost - 1) < 1e-9
    scale = torch.ones(count, dtype=torch.float64)
    pose = slice(energy.shapes + energy.fixed.expressions, None)
    scale[pose][OFFSET] = 0.1 * float(np.exp(start.log_scale[0]))  # pixels: a tenth of a metre at the face
    scale[pose][EYES] = scale[pose][TURN] = 0.3
    optimizer = torch.optim.Adam([x], lr=rate)
    evaluations, cost, reached = 0, float("inf"), False
    started = time.perf_counter()
    while evaluations < steps:
        value = cost_of(x * scale)
        evaluations += 1
        cost = value.item()
        if cost <= target:
            reached = True
            break
        optimizer.zero_grad()
        value.backward()
        optimizer.step()
        with torch.no_grad():
            x.clamp_(lower / scale, upper / scale)
    seconds = time.perf_counter() - started
    step = (x.detach() * scale).numpy()
    state = energy.retract(start, ArrowVector(step[: energy.shapes], step[None, energy.shapes :]))
    final = energy.evaluate(state)
    assert abs(final.cost / float(cost_of(x.detach() * scale)) - 1) < 1e-9  # one energy, written twice
    photo = final.photos[0]
    nme = landmark_error(basis, photo.pixels, energy.targets[0])
    return dict(rate=rate, evaluations=evaluations, seconds=seconds, cost=cost, nme=nme, reached=reached)


def landmark_error(basis: LandmarkBasis, pixels: np.ndarray, targets: np.ndarray) -> float:
    """Mean distance of the 68 points in units of the outer-eye distance; both in the solver's order."""
    place = np.argsort(basis.order)
    subset, (right, left) = place[list(basis.layout.ibug68)], place[list(basis.layout.outer_eyes)]
    error = np.linalg.norm(pixels[subset] - targets[subset], axis=-1).mean()
    return float(error / np.linalg.norm(targets[left] - targets[right]))


def torch_energy(energy: LandmarkEnergy, start: LandmarkState) -> Callable[[Tensor], Tensor]:
    """The same energy of the first photo as a differentiable function of a step off `start`; Charbonnier kernel.

    As lean as torch allows: the restricted bases, one product each; joints that stay shut are left out.
    """
    assert energy.kernel == "charbonnier" and not energy.fixed.feature_joints
    prior, s, e = energy.priors[0], energy.shapes, energy.fixed.expressions
    basis = joined(energy.fixed, energy.outlines[0])
    mean, columns = torch.from_numpy(basis.mean), torch.from_numpy(basis.basis.reshape(-1, s + e))
    moving = [joint for joint in basis.joints if joint.joint > 0]
    assert not prior.upper[e:][JAW].any()
    parts = [
        (
            joint.joint - 1,
            torch.from_numpy(joint.rows),
            torch.from_numpy(joint.mean - joint.centre[:, None] * joint.weight),
            torch.from_numpy(joint.basis - joint.centre_basis[:, None] * joint.weight[:, None]),
        )
        for joint in moving
    ]
    centre, targets = torch.from_numpy(energy.centre), torch.from_numpy(energy.targets[0])
    whiten, rotation = torch.from_numpy(energy.whiten[0]), torch.from_numpy(start.rotation[0])
    precision, prior_mean, linear = (torch.from_numpy(a) for a in (prior.precision, prior.mean, prior.linear))
    now = torch.from_numpy(np.r_[start.shape, start.photo(0)])
    unit = torch.eye(3, dtype=torch.float64)
    signs, flip = torch.tensor([1.0, -1.0, -1.0]).double(), torch.tensor([-1.0, 1.0]).double()

    def exponential(v: Tensor) -> Tensor:
        angle = torch.sqrt(v @ v + 1e-24)
        skew = torch.linalg.cross(unit, v.expand(3, 3))
        return unit + torch.sin(angle) / angle * skew + (1 - torch.cos(angle)) / angle**2 * (skew @ skew)

    def cost(step: Tensor) -> Tensor:
        x = now + step
        q, own, pose = x[: s + e], x[s:], x[s + e :]
        points = mean + (columns @ q).reshape(3, -1)
        eyes = pose[EYES].reshape(2, 2)
        for eye, rows, part_mean, part_basis in parts:
            moved = part_mean + part_basis @ q
            turn = exponential(torch.cat([eyes[eye], eyes.new_zeros(1)]))
            points = points.index_add(1, rows, turn @ moved - moved)
        focal = torch.exp(pose[FOCAL])
        place = torch.cat([pose[OFFSET], focal[None]]) * signs * torch.exp(-pose[SCALE])
        world = (points.T - centre) @ (exponential(step[s + e :][TURN]) @ rotation).T + place
        pixels = focal * world[:, :2] / (world[:, 2:] * flip)
        residual = (whiten @ (pixels - targets)[..., None])[..., 0]
        squared = residual.square().sum(-1)
        rho = 2 * energy.kernel_scale**2 * (torch.sqrt(1 + squared / energy.kernel_scale**2) - 1)
        shape = 0.5 * energy.shape_weight * x[:s].square().sum()
        # the prior knows no turn: its variable there is 0 at every state
        own = own * keep
        return 0.5 * rho.sum() + shape + 0.5 * (own - prior_mean) @ precision @ (own - prior_mean) + linear @ own

    keep = torch.ones(e + POSE_VARIABLES, dtype=torch.float64)
    keep[e:][TURN] = 0
    return cost


def joined(first: PointBasis, second: PointBasis) -> PointBasis:
    """Two sets of points as one."""
    joints = []
    for joint in first.joints:
        other = [j for j in second.joints if j.joint == joint.joint]
        rows = np.concatenate([joint.rows, *(j.rows + first.points for j in other)])
        joints.append(
            replace(
                joint,
                rows=rows,
                weight=np.concatenate([joint.weight, *(j.weight for j in other)]),
                mean=np.concatenate([joint.mean, *(j.mean for j in other)], 1),
                basis=np.concatenate([joint.basis, *(j.basis for j in other)], 1),
            )
        )
    mean, basis = np.concatenate([first.mean, second.mean], 1), np.concatenate([first.basis, second.basis], 1)
    return replace(first, mean=mean, basis=basis, joints=tuple(joints))


if __name__ == "__main__":
    main(tyro.cli(Args))
