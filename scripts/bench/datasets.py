"""Reading, converting and counting data sets: throughput against DiffAE's reader, and times of whole commands.

    python -m headlab.scripts.bench.datasets scripts/bench/results/datasets.json [--only reading conversion ...]

    reading     pictures of 256 pixels from LMDB and WebDataset: decode, mirror, resize, -1..1, in batches of 32, by
                headlab's loader and by a reader of DiffAE's design (LMDB, Pillow, tensors in worker processes)
    training    how long the default denoiser's step waits for its pictures
    conversion  10 000 generated pictures to LMDB; and once more, killed with SIGKILL and taken up again
    affectnet   `headlab data stats` and `balance` of AffectNet's layouts with its real counts, labels alone

Stages can be run one by one; the file keeps the results of the others. Every result names the load of the machine.
"""

import csv
import io
import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import tyro

Stage = Literal["reading", "training", "conversion", "affectnet"]
STAGES: tuple[Stage, ...] = ("reading", "training", "conversion", "affectnet")

#: Of AffectNet's manual annotation, in its order of classes.
COUNTS = (75374, 134915, 25959, 14590, 6878, 4303, 25382, 4250, 33588, 12145, 82915)
_BATCH = 32


@dataclass(frozen=True)
class Args:
    """Measure data sets."""

    out: Annotated[Path, tyro.conf.Positional]
    """JSON file to write."""
    only: tuple[Stage, ...] = STAGES
    """Stages to run."""
    pictures: int = 10_000
    """Generated pictures to convert."""
    read: int = 4000
    """Pictures read per measurement."""
    scale: float = 1.0
    """Of AffectNet's counts."""
    scratch: Path | None = None
    """Folder for the generated sets (about 5 GB for affectnet); the system's temporary one where not given."""


def main(args: Args) -> dict[str, Any]:
    result = json.loads(args.out.read_text()) if args.out.is_file() else {}
    with tempfile.TemporaryDirectory(dir=args.scratch) as folder:
        stages: dict[str, Callable[[Args, Path], dict[str, Any]]] = {
            "reading": reading,
            "training": training,
            "conversion": conversion,
            "affectnet": affectnet,
        }
        for stage in args.only:
            load = os.getloadavg()[0]
            result[stage] = {
                **stages[stage](args, Path(folder)),
                "load_before": round(load, 2),
                "cores": os.cpu_count(),
            }
            args.out.parent.mkdir(parents=True, exist_ok=True)
            args.out.write_text(json.dumps(result, indent=1))
            print(json.dumps({stage: result[stage]}, indent=1), flush=True)
    return result


# ---------------------------------------------------------------------------------------------- pictures


def generated(count: int, side: int = 256) -> Iterator[np.ndarray]:
    """Pictures with the spectrum of photos: crops of noise whose amplitude falls with the frequency."""
    import cv2

    chance = np.random.default_rng(0)
    bases = []
    for _ in range(40):
        field = np.zeros((400, 400, 3), np.float32)
        for octave in (3, 6, 12, 25, 50, 100, 200):
            noise = chance.standard_normal((octave, octave, 3)).astype(np.float32)
            field += cv2.resize(noise, (400, 400), interpolation=cv2.INTER_CUBIC) * (60 / octave**0.5)
        bases.append(field)
    for i in range(count):
        x, y = chance.integers(0, 400 - side, 2)
        crop = bases[i % len(bases)][y : y + side, x : x + side] * chance.uniform(0.6, 1.4) + chance.uniform(90, 160)
        yield np.clip(crop, 0, 255).astype(np.uint8)


def write_pictures(root: Path, count: int) -> None:
    """As JPEG files, a thousand per folder."""
    from PIL import Image

    for i, pixels in enumerate(generated(count)):
        folder = root / f"{i // 1000:03d}"
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(folder / f"{i:05d}.jpg", quality=95)


def stores(folder: Path, count: int) -> tuple[Path, Path]:
    """The same pictures in an LMDB store (JPEG, quality 100) and in shards."""
    from ...datasets.convert import convert
    from ...datasets.kinds import DataSpec
    from ...datasets.store_targets import LmdbTarget, ShardTarget

    if not (folder / "lmdb").is_dir():
        write_pictures(folder / "small", count)
        convert(DataSpec.parse(f"album:{folder}/small").items(), LmdbTarget(folder / "lmdb"))
        convert(DataSpec.parse(f"lmdb:{folder}/lmdb").items(), ShardTarget(str(folder / "wds"), per_shard=500))
    return folder / "lmdb", folder / "wds"


# ---------------------------------------------------------------------------------------------- reading


def reading(args: Args, folder: Path) -> dict[str, Any]:
    """Pictures per second; each reader twice, by turns, the better one counts."""
    lmdb, wds = stores(folder, min(2000, args.read))
    out: dict[str, Any] = {"pictures": args.read, "batch": _BATCH, "stored": 256}
    for size in (256, 128, 64):
        best: dict[str, dict[str, float]] = {}
        for _ in range(2):
            for name in ("diffae_design_2_workers", "diffae_design_no_workers", "lmdb", "webdataset"):
                words = [
                    "-m",
                    "headlab.scripts.bench.datasets_reader",
                    name,
                    str(wds if name == "webdataset" else lmdb),
                ]
                call = [sys.executable, *words, str(size), str(args.read)]
                done = subprocess.run(call, capture_output=True, text=True, check=True, env=_environment())
                row = json.loads(done.stdout.splitlines()[-1])
                if name not in best or row["per_second"] > best[name]["per_second"]:
                    best[name] = row
        plain = best["diffae_design_2_workers"]
        out[f"to_{size}"] = best | {
            f"{name}_over_diffae_design": {
                "per_second": best[name]["per_second"] / plain["per_second"],
                "per_cpu_second": plain["cpu_ms"] / best[name]["cpu_ms"],
            }
            for name in ("lmdb", "webdataset")
        }
    return out


def _environment() -> dict[str, str]:
    return {**os.environ, "OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "PASSIVE", "OPENBLAS_NUM_THREADS": "1"}


# ---------------------------------------------------------------------------------------------- training


def training(args: Args, folder: Path, steps: int = 8, batch: int = 16) -> dict[str, Any]:
    """The default denoiser's step on stored pictures of 256 pixels, made ahead by the loader: seconds and waits."""
    import torch

    from ...datasets.loader import unit_range
    from ...diffusion.autoencoder import encode
    from ...diffusion.bundle import DEFAULT, load_latent_diffusion
    from ...diffusion.denoiser import Given
    from ...diffusion.training_denoiser import DenoiserTask, DenoiserTaskConfig
    from ...diffusion.training_latents import DenoiserBatch
    from ...diffusion.training_store import StoreLatents, open_store_pictures

    torch.set_num_threads(1)
    lmdb, _ = stores(folder, 2000)
    system = load_latent_diffusion(DEFAULT)
    sizes = system.config.denoiser
    store = open_store_pictures(f"lmdb:{lmdb}", sizes.size, channels=system.vae.config["in_channels"])
    task = DenoiserTask(DenoiserTaskConfig(system.config), system, StoreLatents(store, system.vae, sizes.expressions))
    optimizer = torch.optim.AdamW(task.networks["denoiser"].parameters())
    stream: Any = store.loader.batches(store.order_of_pictures(), batch)
    waits, seconds, generator = [], [], torch.Generator().manual_seed(0)
    for _ in range(steps):
        start = time.perf_counter()
        colour = unit_range(next(stream))
        waits.append(time.perf_counter() - start)
        with torch.no_grad():
            latents = encode(system.vae, store.with_depth(colour, torch.zeros(batch, sizes.size, sizes.size)))
        data = DenoiserBatch(latents, Given(torch.zeros(batch, 11, sizes.size, sizes.size), None, colour), colour)
        torch.stack(list(task.losses("denoiser", task.networks, data, 0, generator).values())).sum().backward()
        optimizer.step()
        optimizer.zero_grad()
        seconds.append(time.perf_counter() - start)
    stream.close()
    start, cpu = time.perf_counter(), time.process_time()
    for i in range(20):
        store.loader.load(np.arange(i * batch, (i + 1) * batch))
    alone, cpu = (time.perf_counter() - start) / 20, (time.process_time() - cpu) / 20
    return {
        "batch": batch,
        "step_seconds": float(np.median(seconds)),
        "wait_seconds_mean_after_first": float(np.mean(waits[1:])),
        "wait_seconds_largest_after_first": float(np.max(waits[1:])),
        "share_of_step_waiting": float(np.mean(waits[1:]) / np.median(seconds)),
        "loader_alone_seconds_per_batch": alone,
        "loader_alone_cpu_seconds_per_batch": cpu,
    }


# ---------------------------------------------------------------------------------------------- conversion


def conversion(args: Args, folder: Path) -> dict[str, Any]:
    """Wall time of `headlab data convert`, with the start of Python; then it is killed in the middle and taken up."""
    from ...datasets.lmdb_diffae import DiffaeLmdb
    from ...datasets.store_records import LmdbPictures

    source = folder / "pictures"
    write_pictures(source, args.pictures)

    def command(target: str) -> list[str]:
        call = [sys.executable, "-m", "headlab.scripts.data", "convert", f"album:{source}", f"lmdb:{folder / target}"]
        return [*call, "--sizes", "256"]

    start, before = time.perf_counter(), resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run(command("whole"), check=True, capture_output=True, env=_environment())
    wall, after = time.perf_counter() - start, resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    killed_at = []
    for share in (0.3, 0.7):
        child = subprocess.Popen(
            command("resumed"), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=_environment()
        )
        while child.poll() is None and _committed(folder / "resumed") < share * args.pictures:
            time.sleep(0.05)
        os.kill(child.pid, signal.SIGKILL)
        child.wait()
        killed_at.append(_committed(folder / "resumed"))
    subprocess.run(command("resumed"), check=True, capture_output=True, env=_environment())
    whole, resumed = DiffaeLmdb(folder / "whole"), DiffaeLmdb(folder / "resumed")
    keys = [line["key"] for line in LmdbPictures(folder / "resumed").lines()]
    wanted = sorted(path.relative_to(source).as_posix() for path in source.rglob("*.jpg"))
    same = sum(whole[i] == resumed[i] for i in range(len(whole)))
    shutil.rmtree(source)
    return {
        "pictures": args.pictures,
        "seconds": wall,
        "cpu_seconds": cpu,
        "per_second": args.pictures / wall,
        "killed_at": killed_at,
        "after_resuming": {
            "pictures": len(resumed),
            "entries": sum(1 for _ in resumed.indices()),
            "lost": len(set(wanted) - set(keys)),
            "doubled": len(keys) - len(set(keys)),
            "equal_to_the_uninterrupted_store": same,
        },
    }


def _committed(folder: Path) -> int:
    """Lines of the list of items, which is at most one part ahead of the store."""
    path = folder / "items.jsonl"
    return path.read_bytes().count(b"\n") if path.is_file() else 0


# ---------------------------------------------------------------------------------------------- AffectNet


def affectnet(args: Args, folder: Path) -> dict[str, Any]:
    """Seconds of the commands, the start of Python included."""
    out: dict[str, Any] = {}
    counts = [max(10, round(count * args.scale)) for count in COUNTS]
    for layout, write in (("table", write_table), ("folders", write_folders)):
        root = folder / f"affectnet-{layout}"
        start = time.perf_counter()
        items = write(root, counts)
        out[layout] = {"items": items, "seconds_to_generate": time.perf_counter() - start}
        spec = f"affectnet:{root}" + ("?classes=all" if layout == "table" else "")
        for name, words in (("stats", []), ("balance", ["--rule", "oversample", "-o", str(folder / "balance.jsonl")])):
            call = [sys.executable, "-m", "headlab.scripts.data", name, spec, *words]
            start, before = time.perf_counter(), resource.getrusage(resource.RUSAGE_CHILDREN)
            done = subprocess.run(call, check=True, capture_output=True, text=True, env=_environment())
            after = resource.getrusage(resource.RUSAGE_CHILDREN)
            out[layout][f"{name}_seconds"] = time.perf_counter() - start
            out[layout][f"{name}_cpu_seconds"] = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
            out[layout][name] = done.stdout.splitlines()
        shutil.rmtree(root)
    return out


def _labels(counts: list[int], chance: np.random.Generator) -> Iterator[tuple[int, float, float]]:
    kinds = chance.permutation(np.repeat(np.arange(len(counts)), counts))
    for kind, (valence, arousal) in zip(kinds.tolist(), chance.uniform(-1, 1, (len(kinds), 2)).tolist(), strict=True):
        yield (kind, -2, -2) if kind >= 9 else (kind, round(valence, 6), round(arousal, 6))


def write_table(root: Path, counts: list[int]) -> int:
    """training.csv and validation.csv with all eleven classes, as long as the real ones; 500 of each for validation."""
    chance = np.random.default_rng(0)
    root.mkdir(parents=True)
    points = ";".join(f"{v:.2f}" for v in chance.uniform(0, 400, 136))
    header = "subDirectory_filePath face_x face_y face_width face_height facial_landmarks expression valence arousal"
    held = [min(500, count // 2) for count in counts]
    total = 0
    for name, part in (("training", [c - h for c, h in zip(counts, held, strict=True)]), ("validation", held)):
        with (root / f"{name}.csv").open("w", newline="") as file:
            rows = csv.writer(file)
            rows.writerow(header.split())
            for i, labels in enumerate(_labels(part, chance)):
                rows.writerow([f"{i % 1000}/{name}{i:032x}.jpg", 10, 12, 300, 300, points, *labels])
                total += 1
    return total


def write_folders(root: Path, counts: list[int]) -> int:
    """train_set and val_set with the eight usable classes: three small files per item, as numpy writes them."""
    chance = np.random.default_rng(0)
    held = [min(500, count // 2) for count in counts[:8]]
    total = 0
    for name, part in (("train_set", [c - h for c, h in zip(counts[:8], held, strict=True)]), ("val_set", held)):
        notes = root / name / "annotations"
        notes.mkdir(parents=True)
        for i, labels in enumerate(_labels(part, chance)):
            for kind, value in zip(("exp", "val", "aro"), labels, strict=True):
                with open(notes / f"{i}_{kind}.npy", "wb") as file:
                    file.write(_npy(str(value)))
            total += 1
    return total


def _npy(text: str) -> bytes:
    buffer = io.BytesIO()
    np.lib.format.write_array(buffer, np.array(text), allow_pickle=False)
    return buffer.getvalue()


if __name__ == "__main__":
    main(tyro.cli(Args))
