"""How fast the rasteriser is, beside every peer that can be imported here.

    python -m headlab.scripts.bench.raster --output raster.json

Scenes: a lumpy ball with the counts of a FLAME head (5k vertices, 10k faces) and a dense one (26k, 52k) filling most of
a square picture. Tasks: `forward` (face, weights, depth) and `train` (forward, nine attributes, gradients to points and
attributes). Times are medians per call in milliseconds, wall and CPU; `speedup` divides a peer's time by ours.
"""

import json
import os
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import tyro
from torch import Tensor

from ...geometry.raster import interpolate, rasterize
from ...geometry.raster.native import module_for

CHANNELS = 9
MESHES = {"5k": (71, 71), "26k": (161, 162)}


@dataclass(frozen=True)
class Args:
    """What to measure."""

    output: Path | None = None  #: JSON file to write; printed if absent
    sizes: tuple[int, ...] = (224, 512, 1024)  #: picture sides, pixels
    batches: tuple[int, ...] = (1, 8)
    meshes: tuple[str, ...] = ("5k", "26k")
    threads: int = 2
    device: str = "cpu"
    seconds: float = 1.0  #: time spent on each figure
    peers: tuple[str, ...] = ("open3d", "pytorch3d", "nvdiffrast")  #: tried if importable


@dataclass(frozen=True)
class Scene:
    """A batch of meshes before a pinhole camera."""

    vertices: Tensor  #: (V, 3) in camera axes, z forward
    faces: Tensor  #: (F, 3) int32
    points: Tensor  #: (batch, V, 4)
    size: int
    focal: float


def make_scene(mesh: str, size: int, batch: int, device: str) -> Scene:
    """A lumpy ball 2.6 units before the camera."""
    rows, columns = MESHES[mesh]
    t = torch.linspace(0, torch.pi, rows)[:, None]
    p = torch.arange(columns) * (2 * torch.pi / columns)
    radius = 1 + 0.1 * (5 * t).sin() * (4 * p).cos()
    ball = torch.stack([t.sin() * p.cos(), t.cos().expand(-1, columns), t.sin() * p.sin()], -1) * radius[..., None]
    vertices = ball.reshape(-1, 3) + torch.tensor([0.0, 0.0, 2.6])
    i = torch.arange(rows - 1)[:, None] * columns
    j, k = torch.arange(columns), (torch.arange(columns) + 1) % columns
    a, b = (i + j).reshape(-1), (i + k).reshape(-1)
    c, d = a + columns, b + columns
    faces = torch.cat([torch.stack([a, b, c], -1), torch.stack([b, d, c], -1)]).int()
    x, y, z = vertices.unbind(-1)
    focal = 1.1 * size
    points = torch.stack([focal * x + size / 2 * z, focal * y + size / 2 * z, z, z], -1).expand(batch, -1, -1)
    return Scene(vertices.to(device), faces.to(device), points.contiguous().to(device), size, focal)


def measure(call: Callable[[], object], seconds: float, device: str) -> dict[str, float]:
    """Median wall and mean CPU time of a call, ms."""

    def once() -> tuple[float, float]:
        cpu, wall = time.process_time(), time.perf_counter()
        call()
        if device == "cuda":
            torch.cuda.synchronize()
        return time.perf_counter() - wall, time.process_time() - cpu

    once()
    first = max(once()[0], 1e-6)
    times = [once() for _ in range(max(3, min(2000, int(seconds / first))))]
    wall = sorted(t[0] for t in times)
    return {
        "wall_ms": 1e3 * statistics.median(wall),
        "wall_best_ms": 1e3 * wall[0],
        "cpu_ms": 1e3 * statistics.mean(t[1] for t in times),
        "calls": len(times),
    }


def ours(scene: Scene, task: str) -> Callable[[], object]:
    """The call to measure for headlab."""
    size = (scene.size, scene.size)
    if task == "forward":
        return lambda: rasterize(scene.points, scene.faces, size)
    points = scene.points.clone().requires_grad_()
    values = torch.rand(1, points.shape[1], CHANNELS, device=points.device, requires_grad=True)
    grad = torch.rand(points.shape[0], *size, CHANNELS, device=points.device)

    def train() -> object:
        raster = rasterize(points, scene.faces, size)
        return torch.autograd.grad(interpolate(raster, values, scene.faces), (points, values), grad)

    return train


def open3d(scene: Scene, task: str) -> Callable[[], object] | None:
    """Embree rays through the pixel centres; the tree is built anew for each mesh, as a fit must."""
    if task != "forward":
        return None
    import open3d as o3d  # type: ignore[import-not-found]

    v, u = torch.meshgrid(torch.arange(scene.size) + 0.5, torch.arange(scene.size) + 0.5, indexing="ij")
    half = scene.size / 2
    rays = torch.stack([(u - half) / scene.focal, (v - half) / scene.focal, torch.ones_like(u)], -1)
    rays = o3d.core.Tensor(torch.cat([torch.zeros_like(rays), rays], -1).numpy())
    vertices = o3d.core.Tensor(scene.vertices.numpy())
    faces = o3d.core.Tensor(scene.faces.numpy().astype("uint32"))

    def cast() -> None:
        for _ in range(scene.points.shape[0]):
            world = o3d.t.geometry.RaycastingScene(nthreads=torch.get_num_threads())
            world.add_triangles(vertices, faces)
            world.cast_rays(rays)

    return cast


def pytorch3d(scene: Scene, task: str) -> Callable[[], object] | None:
    """Its coarse-to-fine or naive rasteriser, whichever it picks for the device."""
    from pytorch3d.renderer.mesh.rasterize_meshes import rasterize_meshes  # type: ignore[import-not-found]
    from pytorch3d.structures import Meshes  # type: ignore[import-not-found]

    batch, size = scene.points.shape[0], scene.size
    x, y, z = scene.vertices.unbind(-1)
    verts = torch.stack([-2 * scene.focal / size * x / z, -2 * scene.focal / size * y / z, z], -1)
    verts.requires_grad_(task == "train")
    values = torch.rand(len(x), CHANNELS, device=verts.device, requires_grad=True)

    def call() -> object:
        meshes = Meshes([verts] * batch, [scene.faces.long()] * batch)
        face, _, bary, _ = rasterize_meshes(meshes, size, perspective_correct=True)
        if task == "forward":
            return face
        corners = values[scene.faces.long()][(face % len(scene.faces)).clamp(min=0)]
        image = (corners * bary[..., None]).sum(-2) * (face >= 0)[..., None]
        return torch.autograd.grad(image.sum(), (verts, values))

    return call


def nvdiffrast(scene: Scene, task: str) -> Callable[[], object] | None:
    """Its CUDA rasteriser."""
    if scene.points.device.type != "cuda":
        return None
    import nvdiffrast.torch as dr  # type: ignore[import-not-found]

    context = dr.RasterizeCudaContext()
    x, y, z, w = scene.points.unbind(-1)
    clip = torch.stack([2 * x / scene.size - w, 2 * y / scene.size - w, z - 0.1, w], -1).contiguous()
    clip.requires_grad_(task == "train")
    values = torch.rand(1, clip.shape[1], CHANNELS, device=clip.device, requires_grad=True)

    def call() -> object:
        raster, _ = dr.rasterize(context, clip, scene.faces, (scene.size, scene.size))
        if task == "forward":
            return raster
        image, _ = dr.interpolate(values, raster, scene.faces)
        return torch.autograd.grad(image.sum(), (clip, values))

    return call


PEERS: dict[str, Callable[[Scene, str], Callable[[], object] | None]] = {
    "open3d": open3d,
    "pytorch3d": pytorch3d,
    "nvdiffrast": nvdiffrast,
}


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
    }
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        names = [line.split(":", 1)[1].strip() for line in cpuinfo.read_text().splitlines() if "model name" in line]
        info["processor"] = names[0] if names else info["processor"]
    if device == "cuda":
        info["gpu"] = torch.cuda.get_device_name()
    return info


def main(args: Args) -> None:
    """Measure everything and write it."""
    torch.set_num_threads(args.threads)
    peers = [name for name in args.peers if importable(name)]
    rows: list[dict[str, Any]] = []
    for mesh in args.meshes:
        for size in args.sizes:
            for batch in args.batches:
                scene = make_scene(mesh, size, batch, args.device)
                for task in ("forward", "train"):
                    row: dict[str, Any] = {"mesh": mesh, "size": size, "batch": batch, "task": task}
                    row["headlab"] = measure(ours(scene, task), args.seconds, args.device)
                    for peer in peers:
                        call = PEERS[peer](scene, task)
                        if call is not None:
                            row[peer] = measure(call, args.seconds, args.device)
                            row[peer]["speedup_wall"] = row[peer]["wall_ms"] / row["headlab"]["wall_ms"]
                            row[peer]["speedup_cpu"] = row[peer]["cpu_ms"] / row["headlab"]["cpu_ms"]
                    rows.append(row)
                    figures = "  ".join(f"{k} {v['wall_ms']:.3f}" for k, v in row.items() if isinstance(v, dict))
                    print(f"{mesh:>4} {size:5d} x{batch:<3d} {task:8s} wall ms: {figures}", file=sys.stderr)
    report = {"machine": machine(args.device), "threads": args.threads, "device": args.device, "rows": rows}
    text = json.dumps(report, indent=1)
    if args.output is None:
        print(text)
    else:
        args.output.write_text(text + "\n")


if __name__ == "__main__":
    main(tyro.cli(Args))
