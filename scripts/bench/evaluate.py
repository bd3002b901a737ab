"""Evaluation itself: its speed and memory on many pictures, and its figures on the real photos.

    python -m headlab.scripts.bench.evaluate build/evaluate.json --data ../shared/data

Scores: 10,000 embeddings with 10,000 others, EER, FMR100, FMR1000 in a fresh process (seconds, peak memory). Sets:
peak memory of Frechet statistics over 2,000 and 20,000 pictures' features. Identity: the photos of `photos/index.txt`
with one face, by the recognition network there. Transfer: `headlab transfer` by both renderers over the photos, before
and after, by `headlab evaluate images`.
"""

import json
import os
import resource
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import tyro

_SCORES = """
import json, resource, time
import numpy as np
from headlab.heads.metrics.verification import count_pairs, verification
rng = np.random.default_rng(0)
people = rng.integers(0, 1000, 10000)
centres = rng.normal(size=(1000, 256))
a, b = ((centres[people] + 1.2 * rng.normal(size=(10000, 256))).astype(np.float32) for _ in range(2))
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
start = time.perf_counter()
rates = verification(count_pairs(a, people, others=b, other_people=people))
seconds = time.perf_counter() - start
after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
print(json.dumps({"seconds": seconds, "peak_mib": after / 1024, "grown_mib": (after - before) / 1024,
    "eer": rates.eer, "fmr100": rates.fmr100, "fmr1000": rates.fmr1000,
    "pairs": rates.genuine_pairs + rates.impostor_pairs}))
"""
_SETS = """
import resource, sys
import numpy as np
from headlab.heads.metrics.distributions import FeatureMoments, frechet_distance
rng, sides = np.random.default_rng(0), (FeatureMoments(), FeatureMoments())
for _ in range(int(sys.argv[1]) // 50):
    for side in sides:
        side.add(rng.normal(size=(50, 512)))
frechet_distance(*sides)
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)
"""
#: Targets of the transfer; each takes the expression of the next.
_PHOTOS = ("p01.jpg", "p03.jpg", "p04.jpg", "p05.jpg", "p06.jpg", "p07.jpg", "p08.jpg", "p02.jpg")


@dataclass(frozen=True)
class Args:
    """Measure the evaluation."""

    out: Annotated[Path, tyro.conf.Positional]
    """JSON file to write."""
    data: Path | None = None
    """Folder with photos/, models/ and face_landmarker.task (see its README)."""
    work: Path = Path("build/evaluate")
    """Folder for edited photos and reports; what is there is not made again."""


def main(args: Args) -> dict[str, Any]:
    result: dict[str, Any] = {"scores": json.loads(_fresh(_SCORES))}
    result["set_memory_mib"] = {count: float(_fresh(_SETS, count)) for count in ("2000", "20000")}
    if args.data is not None:
        result["identity"] = identity(args.data)
        result["transfer"] = {name: transfer(args, name) for name in ("mesh", "diffusion")}
    result["peak_mib"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    args.out.parent.mkdir(parents=True, exist_ok=True)
    args.out.write_text(json.dumps(result, indent=1))
    return result


def identity(data: Path) -> dict[str, Any]:
    """Genuine and impostor scores among the photos with one face; of the video one frame in ten."""
    from ...heads.metrics.chosen import load_networks
    from ...heads.metrics.network_files import NetworkFiles
    from ...heads.metrics.people import evaluate_people

    rows = [line.split("\t") for line in (data / "photos/index.txt").read_text().splitlines()[1:]]
    kept = [(r[0], r[4]) for r in rows if "+" not in r[4] and r[3] != "0" and ("video" not in r[0] or r[0][-5] == "0")]
    table = Path("build/evaluate-people.csv")
    table.parent.mkdir(exist_ok=True)
    table.write_text("file,person\n" + "".join(f"{file},{person}\n" for file, person in kept))
    out = {}
    for name, path in (("recognition", data / "models/identity_mobileface_v2.onnx"), ("headlab", None)):
        report = evaluate_people(data / "photos", load_networks(NetworkFiles(identity=path)), labels=table)
        out[name] = _figures(report)
    return out


def transfer(args: Args, renderer: str) -> dict[str, Any]:
    """Photos before and after one renderer."""
    assert args.data is not None
    from ...heads.metrics.chosen import load_networks
    from ...heads.metrics.images import evaluate_images
    from ...heads.metrics.network_files import NetworkFiles

    before, after = args.work / "before", args.work / renderer
    for folder in (before, after):
        folder.mkdir(parents=True, exist_ok=True)
    for target, source in zip(_PHOTOS, (*_PHOTOS[1:], _PHOTOS[0]), strict=True):
        photo, stem = args.data / "photos" / target, Path(target).stem
        fit = args.work / "fits" / stem
        if not fit.exists():
            _headlab("fit", str(photo), "-o", str(fit))
        if not (before / target).exists():
            os.symlink(photo.resolve(), before / target)
        if not (after / f"{stem}.png").exists():
            other = args.work / "fits" / Path(source).stem
            if not other.exists():
                _headlab("fit", str(args.data / "photos" / source), "-o", str(other))
            out = args.work / f"{renderer}-{stem}"
            words = ("--source", str(other), "--target", str(fit), "--photo", str(photo), "--renderer", renderer)
            _headlab("transfer", *words, "-o", str(out), "--overwrite")
            os.link(out / "edited.png", after / f"{stem}.png")
    files = NetworkFiles(
        identity=args.data / "models/identity_mobileface_v2.onnx",
        emotion=args.data / "models/emotion_fer2013_mini_xception.onnx",
        face_landmarker=args.data / "face_landmarker.task",
    )
    report = evaluate_images(before, after, load_networks(files))
    report.write(args.work / f"report-{renderer}")
    return _figures(report) | {"excluded": {reason: len(names) for reason, names in report.excluded.items()}}


def _figures(report: Any) -> dict[str, Any]:
    return {figure.name: figure.value for figure in report.figures}


def _headlab(*words: str) -> None:
    subprocess.run([sys.executable, "-m", "headlab.scripts.cli", *words], check=True, stdout=subprocess.DEVNULL)


def _fresh(code: str, *words: str) -> str:
    """What a program of its own prints."""
    return subprocess.run([sys.executable, "-c", code, *words], check=True, capture_output=True, text=True).stdout


if __name__ == "__main__":
    print(json.dumps(main(tyro.cli(Args)), indent=1))
