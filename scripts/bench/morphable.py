"""Models built of few heads: error on people held out, with and without augmentation; memory of 100 000 heads.

    python -m headlab.scripts.bench.morphable build/morphable.json --ict ../shared/data/ict_facekit.npz

Heads are drawn from ICT-FaceKit's identities (face only, 6706 vertices). Held-out heads are laid on each model's mean
by a rigid motion and projected onto its leading components; the error is the mean distance of their vertices, mm.
"""

import json
import os
import resource
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
import tyro
from jaxtyping import Float
from numpy import ndarray

from ...geometry.models.head_model import HeadModel, LandmarkEmbedding

SIZES = (5, 10, 20, 30, 39, 60, 79, 100, 150, 200, 300, 399)
_HELD_OUT_SEED = 1_000_003


@dataclass(frozen=True)
class Args:
    """Measure model building."""

    out: Annotated[Path, tyro.conf.Positional]
    """JSON file to write."""
    ict: Path = Path("../shared/data/ict_facekit.npz")
    """ICT-FaceKit: a clone or one npz."""
    sources: tuple[int, ...] = (40, 80, 400)
    """Numbers of source heads."""
    draws: int = 2
    """Sets of source heads per number."""
    held_out: int = 100
    """Heads to measure on."""
    augmented: int = 8000
    """Heads per augmented model."""
    memory: bool = False
    """Only build models of 2000 and of `--memory-heads` augmented heads, and tell the peak memory."""
    memory_heads: int = 100_000
    figure: Path | None = None
    """PNG of the curves."""


def main(args: Args) -> dict[str, Any]:
    from ...geometry.files import write_json
    from ...geometry.models.ict import load_ict

    torch.set_num_threads(1)
    args.out.parent.mkdir(parents=True, exist_ok=True)
    result: dict[str, Any] = json.loads(args.out.read_text()) if args.out.is_file() else {}
    if args.memory:
        result["memory"] = memory(args)
    else:
        result["error_mm"] = errors(args, face_of(load_ict(args.ict)))
        if args.figure is not None:
            plot(result["error_mm"], args.figure)
    write_json(args.out, result)
    print(json.dumps(result["memory" if args.memory else "error_mm"], indent=1), file=sys.stderr)
    return result


def face_of(model: HeadModel) -> HeadModel:
    """ICT's face alone, from brow to chin and ear to ear: its first vertices."""
    from dataclasses import replace

    count = int(torch.nonzero(model.regions["face"]).max()) + 1
    kept = (model.faces < count).all(1)
    marks = model.faces[model.landmarks["68"].faces].gather(1, model.landmarks["68"].weights.argmax(1, keepdim=True))
    faces = model.faces[kept]
    where = torch.stack([(faces == mark).nonzero()[0] for mark in marks[:, 0]])
    return replace(
        model,
        name="ict face",
        template=model.template[:count],
        shape_basis=model.shape_basis[:count],
        expression_basis=model.expression_basis[:count, :, :1],
        expression_names=model.expression_names[:1],
        faces=faces,
        joint_regressor=model.joint_regressor[:, :count],
        skin_weights=model.skin_weights[:count],
        uvs=None,
        uv_faces=None,
        face_parts=None,
        expression_bounds=None,
        expression_std=None,
        regions={"face": torch.ones(count, dtype=torch.bool)},
        landmarks={"68": LandmarkEmbedding(where[:, 0], torch.eye(3)[where[:, 1]])},
    )


def drawn(model: HeadModel, count: int, seed: int) -> Float[ndarray, "count verts 3"]:
    """Random people of a model."""
    codes = torch.from_numpy(np.random.default_rng(seed).normal(size=(count, model.shapes))).to(model.template)
    return model.shaped(codes, codes.new_zeros(count, 1)).numpy()


def errors(args: Args, face: HeadModel) -> dict[str, Any]:
    """Mean error by number of source heads, way of building and basis size."""
    from ...geometry.models.morphable import AugmentConfig, MorphableConfig, build_morphable

    held = drawn(face, args.held_out, _HELD_OUT_SEED)
    out: dict[str, Any] = {"vertices": len(face.template), "held_out": args.held_out, "draws": args.draws, "models": []}
    for count in args.sources:
        for augmented in (False, True):
            rows, reports, seconds = [], [], []
            for draw in range(args.draws):
                began = time.process_time()
                augment = AugmentConfig(heads=args.augmented, seed=draw) if augmented else None
                config = MorphableConfig(augment, variance=2.0, limit=max(SIZES))
                model, report = build_morphable(drawn(face, count, 100 * count + draw), face, config)
                seconds.append(time.process_time() - began)
                rows.append({k: error_of(model, held, k) for k in SIZES if k <= model.shapes})
                reports.append(report.needed)
            means = {str(k): float(np.mean([row[k] for row in rows if k in row])) for k in rows[0]}
            needed = {key: [report[key] for report in reports] for key in reports[0]}
            entry = {"sources": count, "augmented": augmented, "error_mm": means, "needed": needed}
            out["models"].append(entry | {"cpu_s": float(np.mean(seconds)), "load": os.getloadavg()[0]})
            print(json.dumps(out["models"][-1]), flush=True)
    return out


def error_of(model: HeadModel, heads: Float[ndarray, "count verts 3"], size: int) -> float:
    """Mean distance of heads from their nearest ones in the span of the leading components, mm."""
    mean = model.template.numpy()
    basis = model.shape_basis[..., :size].flatten(0, 1).double().numpy()
    frame = np.linalg.qr(basis)[0]
    total = 0.0
    for head in heads:
        moved = head
        for _ in range(3):  # place and projection by turns
            goal = mean + (frame @ (frame.T @ (moved - mean).ravel())).reshape(-1, 3)
            a, b = moved.mean(0), goal.mean(0)
            u, _, vt = np.linalg.svd((goal - b).T @ (moved - a))
            u[:, 2] *= np.sign(np.linalg.det(u @ vt))
            moved = (moved - a) @ (u @ vt).T + b
        off = (moved - mean).ravel()
        total += float(np.linalg.norm((off - frame @ (frame.T @ off)).reshape(-1, 3), axis=1).mean())
    return 1000 * total / len(heads)


def memory(args: Args) -> dict[str, Any]:
    """Peak memory of building from ever more heads, next to what the whole matrix would take."""
    from ...geometry.models.ict import load_ict
    from ...geometry.models.morphable import AugmentConfig, MorphableConfig, build_morphable

    face = face_of(load_ict(args.ict))
    kept = len(face.template)
    heads = drawn(face, 80, 7)
    rows: list[dict[str, Any]] = []
    for count in (2000, args.memory_heads):
        before, began = _peak_mb(), (time.perf_counter(), time.process_time())
        config = MorphableConfig(AugmentConfig(heads=count), limit=300)
        model, report = build_morphable(heads, face, config, progress=lambda s: print(s, flush=True))
        rows.append(
            {
                "heads": count,
                "vertices": kept,
                "whole_matrix_mb": count * kept * 3 * 4 / 2**20,
                "peak_before_mb": before,
                "peak_mb": _peak_mb(),
                "components": model.shapes,
                "explained": report.explained,
                "needed": report.needed,
                "wall_s": time.perf_counter() - began[0],
                "cpu_s": time.process_time() - began[1],
                "load": os.getloadavg()[0],
            }
        )
        print(json.dumps(rows[-1]), flush=True)
    return {"builds": rows}


def _peak_mb() -> float:
    """Largest resident memory of this process so far, MB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def plot(result: dict[str, Any], path: Path) -> None:
    """Error over basis size."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(6, 3.6), dpi=110)
    colours = {entry["sources"]: f"C{i}" for i, entry in enumerate(result["models"][::2])}
    for entry in result["models"]:
        sizes = [int(k) for k in entry["error_mm"]]
        label = f"{entry['sources']} heads" + (", augmented" if entry["augmented"] else "")
        axes.plot(
            sizes,
            list(entry["error_mm"].values()),
            "-" if entry["augmented"] else "--",
            marker="o",
            markersize=3,
            color=colours[entry["sources"]],
            label=label,
        )
    axes.set(xlabel="components", ylabel="error on held-out heads, mm", xscale="log", ylim=(0, None))
    axes.legend(fontsize=8)
    axes.grid(alpha=0.3)
    figure.tight_layout()
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path)
    pyplot.close(figure)


if __name__ == "__main__":
    main(tyro.cli(Args))
