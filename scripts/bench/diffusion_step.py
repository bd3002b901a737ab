"""A training step of the default denoiser against the loop of diffusers' training examples: time and memory.

    python -m headlab.scripts.bench.diffusion_step build/diffusion_step.json

Every loop runs in processes of its own, by turns; the numbers are medians over processes of the median processor time
per step, and of the process's largest memory. Loops:

    headlab    `training.train` with L_simple: context, drop-out of conditions, averages of the weights, records
    plain      what diffusers' examples do (accelerate, MSE, clipping, AdamW, EMAModel) with the same networks and data
    unet       the plain loop with the UNet alone: its inputs are there already and need no encoders
"""

import json
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Any

import torch
import tyro

LOOPS = ("headlab", "plain", "unet")


@dataclass(frozen=True)
class Args:
    """Measure training steps."""

    out: Annotated[Path, tyro.conf.Positional]
    """JSON file to write."""
    loop: str | None = None
    """Run one loop and print its numbers (what the processes do)."""
    rounds: int = 3
    """Processes per loop."""
    steps: int = 12
    """Steps per process, of which the first three do not count."""
    batch: int = 16


def main(args: Args) -> dict[str, Any]:
    if args.loop is not None:
        print(json.dumps(measure(args.loop, args.steps, args.batch)))
        return {}
    runs: dict[str, list[dict[str, float]]] = {loop: [] for loop in LOOPS}
    for _ in range(args.rounds):
        for loop in LOOPS:
            words = ["--loop", loop, "--steps", str(args.steps), "--batch", str(args.batch)]
            call = [sys.executable, "-m", "headlab.scripts.bench.diffusion_step", str(args.out), *words]
            done = subprocess.run(call, capture_output=True, text=True, check=True)
            runs[loop].append(json.loads(done.stdout.splitlines()[-1]))
    result: dict[str, Any] = {"batch": args.batch, "threads": 1, "rounds": args.rounds}
    for loop, rows in runs.items():
        result[loop] = {key: statistics.median(row[key] for row in rows) for key in rows[0]}
    for loop in LOOPS[1:]:
        result[f"headlab_over_{loop}"] = {key: result["headlab"][key] / result[loop][key] for key in result[loop]}
    args.out.parent.mkdir(parents=True, exist_ok=True)
    args.out.write_text(json.dumps(result, indent=1))
    print(json.dumps(result, indent=1))
    return result


def measure(loop: str, steps: int, batch: int) -> dict[str, float]:
    """Median seconds of processor time per step, and the largest memory in MB."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    task, times, memory = _task(), [time.process_time()], [0.0]

    def tick(_: Any = None) -> None:
        times.append(time.process_time())
        memory[0] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024

    if loop == "headlab":
        from ...diffusion.training import TrainingConfig, train

        how = TrainingConfig(steps=steps, batch=batch, save_every=10**9, picture_every=10**9, log_every=10**9, cpu=True)
        with tempfile.TemporaryDirectory() as folder:
            # The checkpoint at the end comes after the last tick, and counts in neither number.
            train(task, how, Path(folder), callback=tick)
    else:
        plain(task, steps, batch, tick, unet_alone=loop == "unet")
    each = [b - a for a, b in pairwise(times[3:])]
    return {"seconds": statistics.median(each), "megabytes": memory[0]}


def _task() -> Any:
    """The default denoiser, fresh, with 32 pairs."""
    from ...datasets.synthetic import EditPairs, PairConfig
    from ...diffusion.autoencoder import build_autoencoder
    from ...diffusion.bundle import DiffusionConfig, LatentDiffusion
    from ...diffusion.training_denoiser import DenoiserTask, DenoiserTaskConfig
    from ...diffusion.training_latents import PairLatents
    from ...geometry.models.default import load_default_head

    pairs = EditPairs(load_default_head(), PairConfig(seed=5)).batch(range(32))
    system = LatentDiffusion.build(build_autoencoder(), DiffusionConfig())
    latents = torch.randn(32, 2, 6, 16, 16).half()
    return DenoiserTask(DenoiserTaskConfig(weighting="plain"), system, PairLatents(pairs, latents))


def plain(task: Any, steps: int, batch: int, tick: Any, unet_alone: bool) -> None:
    """The loop of diffusers' examples (train_unconditional.py, train_text_to_image.py), written down anew."""
    from accelerate import Accelerator
    from diffusers.schedulers.scheduling_ddpm import DDPMScheduler
    from diffusers.training_utils import EMAModel

    accelerator = Accelerator(cpu=True)
    scheduler = DDPMScheduler(1000, beta_schedule="squaredcos_cap_v2", prediction_type="v_prediction")
    whole = task.networks["denoiser"]
    network = whole.denoiser.unet if unet_alone else whole
    average = EMAModel(network.parameters())
    optimizer = torch.optim.AdamW(network.parameters(), lr=3e-4)
    network, optimizer = accelerator.prepare(network, optimizer)
    with torch.no_grad():
        ready = whole.denoiser.context(task.data.load(torch.arange(batch)).given)
    for _ in range(steps):
        data = task.data.load(torch.randint(task.count, (batch,)))
        noise = torch.randn_like(data.latents)
        t = torch.randint(0, 1000, (batch,))
        noisy = scheduler.add_noise(data.latents, noise, t)  # type: ignore[arg-type]
        target = scheduler.get_velocity(data.latents, noise, t)  # type: ignore[arg-type]
        if unet_alone:
            x = torch.cat([noisy, ready.local], 1)
            said = network(x, t, ready.tokens, class_labels=ready.embedding).sample
        else:
            said = network(noisy, t, data.given)
        loss = torch.nn.functional.mse_loss(said.float(), target)
        accelerator.backward(loss)
        accelerator.clip_grad_norm_(network.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        average.step(network.parameters())
        loss.item()
        tick()


if __name__ == "__main__":
    main(tyro.cli(Args))
