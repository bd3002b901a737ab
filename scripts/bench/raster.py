"""How fast the rasteriser is, beside every peer that can be imported here.

    python -m headlab.scripts.bench.raster --meshes-file meshes.npz --output scripts/bench/results/raster.json

Scenes: a head of 5k vertices and one of 26k from a file, or lumpy balls of those counts, filling most of a square
picture. Tasks: `forward` (face, weights, depth), `train` (forward, nine attributes, gradients to points and
attributes), and `closest`, the nearest surface points of 100,000 points. Everyone takes turns within one run, a few
calls at a time, so that a machine's other load meets all alike. `best` is the fastest call's wall time, `wall` the
median, `cpu` the median over turns of the process's CPU time per call, `cpu_best` the least of them, all in
milliseconds; ratios divide a peer's figure by ours.
"""

import json
import os
import platform
import statistics
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import tyro
from torch import Tensor

from ...geometry.raster import closest_point, interpolate, rasterize
from ...geometry.raster.native import module_for
from .raster_peers import CHANNELS, PEERS, Call, Scene

BALLS = {"5k": (71, 71), "26k": (161, 162)}
TURN = 0.03  # seconds of calls before the next contender's turn


@dataclass(frozen=True)
class Args:
    """What to measure."""

    output: Path | None = None  #: JSON file to write; printed if absent
    table: Path | None = None  #: Markdown table to write
    meshes_file: Path | None = None  #: npz with v5k, f5k, v26k, f26k (metres, y up, face towards +z); balls if absent
    sizes: tuple[int, ...] = (224, 512, 1024)  #: picture sides, pixels
    batches: tuple[int, ...] = (1, 8)
    meshes: tuple[str, ...] = ("5k", "26k")
    threads: int = 2
    device: str = "cpu"
    seconds: float = 1.0  #: time spent on each figure
    peers: tuple[str, ...] = tuple(PEERS)  #: tried if importable


def ball(mesh: str) -> tuple[Tensor, Tensor]:
    """A lumpy ball with about as many vertices and faces as the head."""
    rows, columns = BALLS[mesh]
    t = torch.linspace(0, torch.pi, rows)[:, None]
    p = torch.arange(columns) * (2 * torch.pi / columns)
    radius = 1 + 0.1 * (5 * t).sin() * (4 * p).cos()
    verts = torch.stack([t.sin() * p.cos(), t.cos().expand(-1, columns), t.sin() * p.sin()], -1) * radius[..., None]
    i = torch.arange(rows - 1)[:, None] * columns
    j, k = torch.arange(columns), (torch.arange(columns) + 1) % columns
    a, b = (i + j).reshape(-1), (i + k).reshape(-1)
    c, d = a + columns, b + columns
    return verts.reshape(-1, 3), torch.cat([torch.stack([a, b, c], -1), torch.stack([b, d, c], -1)]).int()


def make_scene(mesh: str, size: int, batch: int, device: str, meshes_file: Path | None = None) -> Scene:
    """A mesh seen from the front, six of its radii away, as large as fits."""
    if meshes_file is None:
        verts, faces = ball(mesh)
    else:
        with np.load(meshes_file) as data:
            verts, faces = torch.from_numpy(data[f"v{mesh}"]), torch.from_numpy(data[f"f{mesh}"]).int()
    middle = (verts.amin(0) + verts.amax(0)) / 2
    radius = float((verts - middle).abs().max())
    vertices = (verts - middle) / radius * torch.tensor([1.0, -1.0, -1.0]) + torch.tensor([0.0, 0.0, 6.0])
    x, y, z = vertices.unbind(-1)
    focal = 0.48 * size / float(torch.maximum((x / z).abs(), (y / z).abs()).max())
    points = torch.stack([focal * x + size / 2 * z, focal * y + size / 2 * z, z, z], -1).expand(batch, -1, -1)
    return Scene(vertices.to(device), faces.to(device), points.contiguous().to(device), size, focal)


def ours(scene: Scene, task: str) -> Call:
    """The call to measure for headlab."""
    size = (scene.size, scene.size)
    if task == "forward":
        return lambda: rasterize(scene.points, scene.faces, size).face[-1]
    points = scene.points.clone().requires_grad_()
    values = torch.rand(1, points.shape[1], CHANNELS, device=points.device, requires_grad=True)
    grad = torch.rand(points.shape[0], *size, CHANNELS, device=points.device)

    def train() -> object:
        raster = rasterize(points, scene.faces, size)
        return torch.autograd.grad(interpolate(raster, values, scene.faces), (points, values), grad)

    return train


def closest_calls(scene: Scene, noise: float, peers: list[str]) -> dict[str, Call]:
    """Nearest surface points of 100,000 points off the surface by a normal error of `noise` radii."""
    generator = torch.Generator().manual_seed(0)
    corners = scene.vertices[scene.faces.long()[torch.randint(len(scene.faces), (100_000,), generator=generator)]]
    weights = torch.rand(100_000, 3, generator=generator)
    points = ((weights / weights.sum(-1, keepdim=True))[..., None] * corners).sum(1)
    points = points + noise * torch.randn(points.shape, generator=generator)
    calls: dict[str, Call] = {"headlab": lambda: closest_point(scene.vertices, scene.faces, points)}
    if "embree" in peers:
        import open3d as o3d  # type: ignore[import-not-found]

        threads = torch.get_num_threads()
        world = o3d.t.geometry.RaycastingScene(nthreads=threads)
        world.add_triangles(
            o3d.core.Tensor(scene.vertices.numpy()),  # pyright: ignore[reportCallIssue]
            o3d.core.Tensor(scene.faces.numpy().astype("uint32")),  # pyright: ignore[reportCallIssue]
        )
        query = o3d.core.Tensor(points.numpy())  # pyright: ignore[reportCallIssue]
        calls["open3d"] = lambda: world.compute_closest_points(query, nthreads=threads)
    return calls


def measure(calls: dict[str, Call], seconds: float, device: str) -> dict[str, dict[str, float]]:
    """Times per call of each contender, which take turns."""
    walls: dict[str, list[float]] = {name: [] for name in calls}
    cpus: dict[str, list[float]] = {name: [] for name in calls}
    for call in calls.values():  # caches, compilation
        call()
        call()
    end = time.perf_counter() + seconds * len(calls)
    while time.perf_counter() < end or len(cpus["headlab"]) < 3:
        for name, call in calls.items():
            begin, cpu, count = time.perf_counter(), time.process_time(), 0
            last = begin
            while last - begin < TURN:
                call()
                if device == "cuda":
                    torch.cuda.synchronize()
                now = time.perf_counter()
                walls[name].append(now - last)
                last, count = now, count + 1
            cpus[name].append((time.process_time() - cpu) / count)
    rows: dict[str, dict[str, float]] = {}
    for name in calls:
        figures = {
            "best": min(walls[name]),
            "wall": statistics.median(walls[name]),
            "cpu": statistics.median(cpus[name]),
            "cpu_best": min(cpus[name]),
        }
        rows[name] = {key: round(1e3 * value, 4) for key, value in figures.items()}
        rows[name]["calls"] = len(walls[name])
        if name != "headlab":
            for key in figures:
                rows[name][f"ratio_{key}"] = round(rows[name][key] / rows["headlab"][key], 2)
    return rows


def agreement(mine: Tensor, theirs: Any) -> float:
    """Share of the pixels where two face maps agree."""
    theirs = np.asarray(theirs).astype(np.int64)
    theirs = np.where(theirs == 2**32 - 1, -1, theirs)  # Embree's "none"
    return round(float((mine.cpu().numpy() == theirs).mean()), 5)


def importable(name: str) -> bool:
    """Tried in a process of its own: open3d aborts where its system libraries are missing."""
    command = [sys.executable, "-c", f"import {name}"]
    return subprocess.run(command, capture_output=True, check=False).returncode == 0


def machine(device: str) -> dict[str, Any]:
    """What the figures were measured on."""
    info: dict[str, Any] = {
        "processor": platform.processor() or platform.machine(),
        "cores": os.cpu_count(),
        "torch": torch.__version__,
        "simd": module_for(torch.empty(0)).simd,
        "load": os.getloadavg()[0],
    }
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        lines = dict(line.split(":", 1) for line in cpuinfo.read_text().splitlines() if ":" in line)
        lines = {key.strip(): value.strip() for key, value in lines.items()}
        keys = ("model name", "cpu family", "model")
        info["processor"] = ", ".join(f"{key} {lines[key]}" for key in keys if key in lines) or info["processor"]
    if device == "cuda":
        info["gpu"] = torch.cuda.get_device_name()
    return info


def table(rows: list[dict[str, Any]]) -> str:
    """The figures of single pictures and batches in Markdown: best wall ms, and CPU ms in brackets."""
    shown = ["headlab", *[p for p in [*PEERS, "open3d"] if any(p in row for row in rows)]]
    lines = ["| task | mesh | picture | " + " | ".join(shown) + " |", "|---" * (3 + len(shown)) + "|"]
    for row in rows:
        picture = row.get("noise") or f"{row['size']}²" + (f" × {row['batch']}" if row["batch"] > 1 else "")
        cells = [f"{row[p]['best']:.3g} ({row[p]['cpu']:.3g})" if p in row else "" for p in shown]
        lines.append(f"| {row['task']} | {row['mesh']} | {picture} | " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def main(args: Args) -> None:
    """Measure everything and write it."""
    torch.set_num_threads(args.threads)
    peers = [name for name in args.peers if importable(PEERS[name][0])]
    before = machine(args.device)
    rows: list[dict[str, Any]] = []

    def add(row: dict[str, Any], calls: dict[str, Call]) -> None:
        row |= measure(calls, args.seconds, args.device)
        rows.append(row)
        figures = "  ".join(f"{k} {v['best']:.3f}/{v['cpu']:.3f}" for k, v in row.items() if isinstance(v, dict))
        labels = " ".join(str(v) for v in row.values() if isinstance(v, str | int))
        print(f"{labels}: best/cpu ms: {figures}", file=sys.stderr, flush=True)

    for task in ("forward", "train"):
        for mesh in args.meshes:
            for size in args.sizes:
                for batch in args.batches:
                    scene = make_scene(mesh, size, batch, args.device, args.meshes_file)
                    made = {name: PEERS[name][1](scene, task) for name in peers}
                    calls = {"headlab": ours(scene, task)} | {k: v for k, v in made.items() if v is not None}
                    row: dict[str, Any] = {"task": task, "mesh": mesh, "size": size, "batch": batch}
                    if task == "forward":
                        mine = rasterize(scene.points, scene.faces, (size, size)).face[-1]
                        row["covered"] = round(float((mine >= 0).float().mean()), 3)
                        others = {k: v for k, v in calls.items() if k not in ("headlab", "nvdiffrast")}
                        row["agreement"] = ", ".join(f"{k} {agreement(mine, v())}" for k, v in others.items())
                    add(row, calls)
    if args.device == "cpu":
        scene = make_scene("5k", args.sizes[0], 1, "cpu", args.meshes_file)
        for noise, label in ((0.02, "2 mm"), (0.2, "2 cm")):  # a head's radius is 10 cm
            add({"task": "closest", "mesh": "5k", "noise": label}, closest_calls(scene, noise, peers))
    report = {
        "machine": before,
        "load_after": os.getloadavg()[0],
        "threads": args.threads,
        "device": args.device,
        "meshes": "balls" if args.meshes_file is None else args.meshes_file.name,
        "rows": rows,
    }
    text = json.dumps(report, indent=1)
    if args.output is None:
        print(text)
    else:
        args.output.parent.mkdir(parents=True, exist_ok=True)
        args.output.write_text(text + "\n")
    if args.table is not None:
        args.table.write_text(table(rows))


if __name__ == "__main__":
    main(tyro.cli(Args))
