"""Bars of `headlab batch`: 1 000 synthetic photos on two cores against one core and against `headlab fit` per file.

    python -m headlab.scripts.bench.batch scripts/bench/results/batch.json

All runs are processes of their own, started as a user starts them; seconds are by the clock, start to end, loading of
models included. The runs of one core are held to it. `headlab fit` gets the same options, one call per photo, with all
cores to itself. Memory is what a worker holds when an item ends; the first tenth of the items is warming up. Also a run
in which workers are killed all the way, and the cost of ten million photos at this rate.
"""

import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import tyro

#: What the command line does; by itself, so that the bench needs no installed script.
_BATCH = "import sys, tyro; from headlab.scripts.batch import Batch; tyro.cli(Batch, args=sys.argv[1:]).run()"
#: Photos of faces turned further than this are left out: the detector would see no face in many, radians.
_TURNED = 0.6


@dataclass(frozen=True)
class Args:
    """Measure a batch."""

    out: Annotated[Path, tyro.conf.Positional]
    """JSON file to write."""
    photos: int = 1000
    """On two cores."""
    one_core: int = 300
    """Photos on one core."""
    everything: int = 100
    """Photos with --files all, as `headlab fit` writes."""
    files: int = 10
    """Photos fitted by calls of `headlab fit`."""
    killed: int = 60
    """Photos of the run whose workers are killed."""
    method: str = "regress"
    texture: int = 512
    """Side of textures, pixels."""
    size: int = 256
    """Side of the synthetic pictures within photos of twice that side."""
    folder: Path | None = None
    """Keeps the photos for another run."""


def main(args: Args) -> dict[str, Any]:
    if len(os.sched_getaffinity(0)) < 2:
        sys.exit("this bench compares one core with two; the machine must have two")
    with tempfile.TemporaryDirectory(prefix="headlab-bench-") as scratch:
        photos = make_photos(args.folder or Path(scratch) / "photos", args)
        cores = sorted(os.sched_getaffinity(0))[:2]
        result: dict[str, Any] = {
            "method": args.method,
            "texture": args.texture,
            "photo_side": 2 * args.size,
            "load_before": os.getloadavg()[0],
        }

        def run(name: str, count: int, use: list[int], files: str, **also: Any) -> Path:
            out = Path(scratch) / name
            result[name] = {"files": files, **batch(args, photos[:count], out, use, files, **also)}
            print(json.dumps({name: result[name]}), file=sys.stderr)
            return out

        two = run("two_cores", args.photos, cores, "small")
        run("one_core", args.one_core, cores[:1], "small")
        shutil.rmtree(Path(scratch) / "one_core")
        run("two_cores_all_files", args.everything, cores, "all")
        shutil.rmtree(Path(scratch) / "two_cores_all_files")
        killed = run("workers_killed", args.killed, cores, "small", killing=True)
        result["killed_run_equal"] = hashes(killed) == {
            key: value for key, value in hashes(two).items() if key in {str(path) for path in photos[: args.killed]}
        }
        result["fit_per_file"] = per_file(args, photos[: args.files], Path(scratch))
    rate = {
        name: result[name]["per_second"] for name in ("two_cores", "one_core", "two_cores_all_files", "fit_per_file")
    }
    cost = result["two_cores"]["cpu_seconds_per_photo"]
    result["two_cores_over_one"] = rate["two_cores"] / rate["one_core"]
    result["over_fit_per_file"] = rate["two_cores_all_files"] / rate["fit_per_file"]
    result["small_over_fit_per_file"] = rate["two_cores"] / rate["fit_per_file"]
    result["ten_million_photos"] = {
        "core_days": 1e7 * cost / 86400,
        "days_on_two_cores": 1e7 / rate["two_cores"] / 86400,
        "result_terabytes": 1e7 * result["two_cores"]["result_bytes_per_photo"] / 1e12,
        "result_terabytes_all_files": 1e7 * result["two_cores_all_files"]["result_bytes_per_photo"] / 1e12,
        "manifest_gigabytes": 1e7 * result["two_cores"]["manifest_bytes_per_photo"] / 1e9,
    }
    args.out.parent.mkdir(parents=True, exist_ok=True)
    args.out.write_text(json.dumps(result, indent=1))
    return result


def make_photos(folder: Path, args: Args) -> list[Path]:
    """Synthetic people, each picture in a larger photo."""
    photos = [folder / f"{i // 100:03d}" / f"photo {i:05d}.jpg" for i in range(args.photos)]
    if all(photo.exists() for photo in photos):
        return photos
    from torch.nn.functional import pad

    from ...datasets.synthetic import SyntheticConfig, SyntheticHeads
    from ...geometry.files import encode_image
    from ...geometry.models.default import load_default_head

    heads = SyntheticHeads(load_default_head(), SyntheticConfig(size=args.size, seed=9, maps=False))
    margin, made, first = args.size // 2, 0, 0
    while made < len(photos):
        batch = heads.batch(range(first, first + 16))
        first += 16
        for image, rotation in zip(batch.images, batch.codes.rotation, strict=True):
            if made < len(photos) and float(rotation.norm()) < _TURNED:
                photo = pad(image[None].float() / 255, (margin,) * 4, mode="replicate")[0]
                photos[made].parent.mkdir(parents=True, exist_ok=True)
                photos[made].write_bytes(encode_image(photo, "JPEG", 90))
                made += 1
    return photos


def batch(
    args: Args, photos: Sequence[Path], out: Path, cores: list[int], files: str, killing: bool = False
) -> dict[str, Any]:
    """One run of `headlab batch`."""
    listed = out.with_suffix(".txt")
    listed.write_text("\n".join(map(str, photos)))
    command = [sys.executable, "-c", _BATCH, str(listed), "-o", str(out), "--workers", str(len(cores))]
    command += ["--method", args.method, "--texture-size", str(args.texture), "--files", files, "--log", "json"]
    before, start = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, text=True, preexec_fn=lambda: os.sched_setaffinity(0, cores)
    )
    assert process.stdout is not None
    events, kills = [], 0
    for line in process.stdout:
        events.append(json.loads(line) | {"at": time.perf_counter() - start})
        # Every so often the worker that reported last dies in the midst of its next items.
        if killing and events[-1]["event"] == "item" and len(events) % 15 == 10:
            threading.Timer(0.1, os.kill, (events[-1]["worker"], signal.SIGKILL)).start()
            kills += 1
    process.wait()
    seconds, after = time.perf_counter() - start, resource.getrusage(resource.RUSAGE_CHILDREN)
    summary = events[-1]
    assert summary["event"] == "summary" and summary["items"] == len(photos), summary
    items = [event for event in events if event["event"] == "item"]
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    tenth = max(1, len(items) // 10)
    steady = (len(items) - tenth) / max(items[-1]["at"] - items[tenth - 1]["at"], 1e-9)
    size = sum(path.stat().st_size for path in out.rglob("*") if path.is_file() and path.parent != out)
    stages: dict[str, list[float]] = {}
    for item in items:
        for stage, took in item["seconds"].items():
            stages.setdefault(stage, []).append(took)
    return {
        "photos": len(photos),
        "done": summary["done"],
        "reasons": summary["reasons"],
        "seconds": seconds,
        "per_second": len(photos) / seconds,
        "per_second_when_warm": steady,
        "cpu_seconds_per_photo": cpu / len(photos),
        "stage_seconds": {stage: float(np.mean(took)) for stage, took in stages.items()},
        "memory": memory(items),
        "result_bytes_per_photo": size / max(summary["done"], 1),
        "manifest_bytes_per_photo": (out / "manifest.jsonl").stat().st_size / len(photos),
        **({"kills": kills} if killing else {}),
    }


def memory(items: list[dict[str, Any]]) -> dict[str, Any]:
    """Of each worker by tenths of the run after the first, megabytes; and the largest change from their mean."""
    workers: dict[int, list[float]] = {}
    for item in items:
        workers.setdefault(item["worker"], []).append(item["worker_mb"])
    tenths = [
        [float(np.mean(part)) for part in np.array_split(np.array(sizes), 10)][1:]
        for sizes in workers.values()
        if len(sizes) >= 40
    ]
    changes = [max(abs(x / np.mean(row) - 1) for x in row) for row in tenths]
    return {
        "mb_by_tenth": [[round(x) for x in row] for row in tenths],
        "largest_change": max(changes, default=None),
        "last_over_first": max((row[-1] / row[0] for row in tenths), default=None),
    }


def hashes(out: Path) -> dict[str, str | None]:
    """Item -> hash of what its head.npz holds."""
    from ...heads.batch_manifest import read_manifest

    return {record["key"]: record.get("hash") for record in read_manifest(str(out))[1]}


def per_file(args: Args, photos: Sequence[Path], scratch: Path) -> dict[str, Any]:
    """`headlab fit`, a call per photo, one after the other."""
    before, start = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    for i, photo in enumerate(photos):
        command = [sys.executable, "-m", "headlab.scripts.cli", "fit", str(photo), "-o", str(scratch / f"fit{i}")]
        command += ["--method", args.method, "--texture-size", str(args.texture)]
        subprocess.run(command, check=False, capture_output=True)
    seconds, after = time.perf_counter() - start, resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    count = len(photos)
    return {"photos": count, "seconds": seconds, "per_second": count / seconds, "cpu_seconds_per_photo": cpu / count}


if __name__ == "__main__":
    print(json.dumps(main(tyro.cli(Args)), indent=1))
