"""`headlab evaluate meshes`: predicted meshes against true ones, as they are."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import tyro

#: Millimetres of the units meshes come in; "nphm" is 250 mm, the fields' own.
UNITS = {"m": 1000.0, "cm": 10.0, "mm": 1.0, "nphm": 250.0}

_ENDINGS = (".ply", ".obj", ".glb", ".stl", ".off")


@dataclass(frozen=True)
class EvaluateMeshes:
    """Compare a mesh with the true one, or a folder of them by name: Chamfer distance, normals, F-score."""

    predicted: Annotated[Path, tyro.conf.Positional]
    """Mesh or folder of meshes."""
    true: Annotated[Path, tyro.conf.Positional]
    """Mesh, or folder of meshes of the same names."""
    out: Annotated[Path | None, tyro.conf.arg(aliases=["-o"])] = None
    """JSON file for the measures of every pair."""
    unit: Literal["m", "cm", "mm", "nphm"] = "m"
    """Of both."""
    thresholds: tuple[float, ...] = (1.0, 1.5)
    """Of the F-score, millimetres."""
    samples: int = 20000
    """Points drawn on each surface."""
    outer: bool = False
    """Compare only what can be seen from outside."""

    def run(self) -> None:
        result = evaluate_meshes(self)
        for name, row in result["pairs"].items():
            print(name.ljust(30) + "  ".join(f"{key} {_number(value)}" for key, value in row.items()))
        if len(result["pairs"]) > 1:
            print("mean".ljust(30) + "  ".join(f"{key} {_number(value)}" for key, value in result["mean"].items()))
        for name, error in result["failures"].items():
            print(f"failed: {name}: {error}")
        if result["failures"]:
            raise SystemExit(2)


def evaluate_meshes(args: EvaluateMeshes) -> dict[str, Any]:
    """Measures of every pair and their means; a pair that cannot be read is reported, the others go on.

    Raises:
        HeadlabError: there is nothing to compare.
    """
    import torch

    from ..datasets.surface_file import read_surface
    from ..geometry.errors import HeadlabError
    from ..geometry.files import write_json
    from ..heads.metrics.surface_score import MILLIMETRES, HeadSurface, mean_rows, score_surface

    scale = UNITS[args.unit] / MILLIMETRES
    pairs, scores, failures = {}, [], {}
    for name, ours, theirs in _pairs(args):
        try:
            surfaces = []
            for path in (ours, theirs):
                vertices, faces = read_surface(path)
                surface = HeadSurface(vertices * scale, faces)
                surfaces.append(surface.outer() if args.outer else surface)
            draws = torch.Generator().manual_seed(0)
            score = score_surface(surfaces[0], surfaces[1], draws, args.samples, lowest=None)
        except HeadlabError as error:
            failures[name] = str(error)
            continue
        scores.append(score)
        pairs[name] = score["head"].row(args.thresholds)
    if not pairs:
        reason = next(iter(failures.values()), "no mesh of the one has its name in the other")
        raise HeadlabError(f"nothing to compare in {args.predicted} and {args.true}: {reason}")
    result = {"unit": "mm", "pairs": pairs, "mean": mean_rows(scores, args.thresholds)["head"], "failures": failures}
    if args.out is not None:
        write_json(args.out, result)
    return result


def _pairs(args: EvaluateMeshes) -> list[tuple[str, Path, Path]]:
    from ..geometry.errors import HeadlabError, MissingAssetError

    for path in (args.predicted, args.true):
        if not path.exists():
            raise MissingAssetError(f"{path} is not there; give a mesh or a folder of meshes")
    if args.predicted.is_dir() != args.true.is_dir():
        raise HeadlabError(f"{args.predicted} and {args.true}: give two meshes or two folders")
    if args.predicted.is_file():
        return [(args.predicted.name, args.predicted, args.true)]
    found = sorted(path for path in args.predicted.iterdir() if path.suffix.lower() in _ENDINGS)
    return [(path.name, path, args.true / path.name) for path in found if (args.true / path.name).is_file()]


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.4f}"
