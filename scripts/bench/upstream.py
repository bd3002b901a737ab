"""A forward of the full-size published networks, as headlab runs them against the same modules run plainly.

    python -m headlab.scripts.bench.upstream build/upstream.json

    plain     parameters in PyTorch's usual layout, attention by its matrix of weights
    headlab   channels last, fused attention

Each runs in processes of its own, by turns; the numbers are medians over processes of a forward's processor time and
wall time (batch 1, after one that does not count), and the process's largest memory. Weights are random.
"""

import json
import os
import resource
import statistics
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import torch
import tyro

NETWORKS = ("diffusionrig256_resnet18", "diffae256", "diffae128")
WAYS = ("plain", "headlab")


@dataclass(frozen=True)
class Args:
    """Measure forwards."""

    out: Annotated[Path, tyro.conf.Positional]
    """JSON file to write."""
    network: str | None = None
    """Run one network and print its numbers (what the processes do)."""
    way: Literal["plain", "headlab"] = "headlab"
    """How it is run."""
    networks: tuple[str, ...] = NETWORKS
    """Which ones."""
    rounds: int = 3
    """Processes per network and way."""
    forwards: int = 1
    """That count, per process."""
    threads: int = 1
    """Of torch."""


def main(args: Args) -> dict[str, Any]:
    if args.network is not None:
        print(json.dumps(measure(args.network, args.way, args.forwards, args.threads)))
        return {}
    runs: dict[str, dict[str, list[dict[str, float]]]] = {n: {way: [] for way in WAYS} for n in args.networks}
    for _ in range(args.rounds):
        for network, ways in runs.items():
            for way in ways:
                words = ["--network", network, "--way", way, "--forwards", str(args.forwards)]
                words += ["--threads", str(args.threads)]
                call = [sys.executable, "-m", "headlab.scripts.bench.upstream", str(args.out), *words]
                done = subprocess.run(call, capture_output=True, text=True, check=True)
                runs[network][way].append(json.loads(done.stdout.splitlines()[-1]))
    result: dict[str, Any] = {"threads": args.threads, "rounds": args.rounds, "load": os.getloadavg()[0]}
    for network, ways in runs.items():
        medians = {way: {k: statistics.median(row[k] for row in rows) for k in rows[0]} for way, rows in ways.items()}
        ratio = {k: medians["headlab"][k] / medians["plain"][k] for k in medians["plain"]}
        result[network] = {**medians, "headlab_over_plain": ratio}
    args.out.parent.mkdir(parents=True, exist_ok=True)
    args.out.write_text(json.dumps(result, indent=1))
    print(json.dumps(result, indent=1))
    return result


def measure(name: str, way: str, forwards: int, threads: int) -> dict[str, float]:
    """Medians of seconds, and megabytes above and with the weights."""
    from ...diffusion.upstream.unet import fuse_attention

    torch.set_num_threads(threads)
    network, inputs = _built(name)
    fuse_attention(network, way == "headlab")
    if way == "headlab":
        network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    processor, wall = [], []
    with torch.no_grad():
        for _ in range(1 + forwards):
            start, started = time.perf_counter(), time.process_time()
            network(**inputs)
            processor.append(time.process_time() - started)
            wall.append(time.perf_counter() - start)
    largest = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return {
        "processor_seconds": statistics.median(processor[1:]),
        "wall_seconds": statistics.median(wall[1:]),
        "peak_megabytes": largest,
        "megabytes_above_loading": largest - before,
    }


def _built(name: str) -> tuple[torch.nn.Module, dict[str, torch.Tensor]]:
    """A network with small random weights, and its inputs."""
    from ...diffusion.upstream.diffae import FFHQ128, FFHQ256, DiffAE
    from ...diffusion.upstream.diffusionrig import DiffusionRig, DiffusionRigConfig

    with torch.device("meta"):
        if name.startswith("diffusionrig"):
            network: torch.nn.Module = DiffusionRig(DiffusionRigConfig(encoder=name.split("_")[1]))  # type: ignore[arg-type]
        else:
            network = DiffAE(FFHQ256 if name.endswith("256") else FFHQ128)
    network.to_empty(device="cpu")
    generator = torch.Generator().manual_seed(0)
    for value in network.state_dict().values():
        if value.is_floating_point():
            value.normal_(0.0, 0.02, generator=generator).abs_()
    size = 128 if name.endswith("128") else 256
    noisy, photo = torch.randn(2, 1, 3, size, size, generator=generator)
    inputs = {"t": torch.tensor([500])}
    if name.startswith("diffusionrig"):
        buffers = torch.randn(1, 9, size, size, generator=generator)
        inputs |= {"noisy": noisy, "buffers": buffers, "photo": photo}
    else:
        inputs |= {"x": noisy, "picture": photo}
    return network.eval(), inputs


if __name__ == "__main__":
    main(tyro.cli(Args))
