"""The auto-decoder's loop, on accelerate: a network and one latent per sample, learned together.

As the authors train: AdamW for the network, Adam for the rows of the codebook that a batch touches, gradients clipped,
latents longer than 1 shortened when they are looked up.

    folder/config.json, log.jsonl, checkpoints/step-…   (everything: a run that was killed goes on to the same numbers)
"""

import json
import math
import os
import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from ..errors import HeadlabError
from ..files import plain, write_json
from .checkpoints import shortened
from .training_config import LoopConfig

#: About how long a fresh latent is.
_START = 0.1

Terms = dict[str, Float[Tensor, ""]]


@runtime_checkable
class FieldTask(Protocol):
    """What is trained. Randomness comes from the generator that is passed in."""

    network: nn.Module
    count: int  #: samples, each with a latent of its own
    latent: int  #: its length

    def start(self, generator: torch.Generator) -> Float[Tensor, "count latent"]:
        """Latents to start from."""
        ...

    def draw(self, rows: Int[Tensor, "batch"], generator: torch.Generator) -> Any:
        """Points of some samples: a dataclass of tensors."""
        ...

    def loss(
        self, network: nn.Module, latent: Float[Tensor, "batch latent"], batch: Any, generator: torch.Generator
    ) -> tuple[Float[Tensor, ""], Terms]:
        """The loss, and its terms for the log."""
        ...


class AutoDecoder(nn.Module):
    """The network and the codebook; `forward` is the loss, so that it can be spread over devices as one module."""

    def __init__(self, task: FieldTask, generator: torch.Generator) -> None:
        super().__init__()
        self.network = task.network
        self.codes = nn.Embedding(task.count, task.latent, max_norm=1.0, sparse=True)
        self._loss = task.loss
        with torch.no_grad():
            self.codes.weight.copy_(task.start(generator))

    def forward(
        self, rows: Int[Tensor, "batch"], batch: Any, generator: torch.Generator
    ) -> tuple[Float[Tensor, ""], Terms]:
        return self._loss(self.network, self.codes(rows), batch, generator)


@dataclass(frozen=True)
class Trained:
    """What training gives, the network itself aside (it is trained in place)."""

    latents: Float[Tensor, "rows latent"]
    history: list[dict[str, float]]  #: terms and "loss" of every step of this call
    steps: int
    seconds: float  #: of processor time, over all calls


@dataclass
class _Progress:
    """Where a run is; saved with it."""

    step: int = 0
    seconds: float = 0.0

    def state_dict(self) -> dict[str, Any]:
        return {"step": self.step, "seconds": self.seconds}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.step, self.seconds = int(state["step"]), float(state["seconds"])


def train_auto_decoder(
    task: FieldTask,
    config: LoopConfig,
    folder: Path | None = None,
    told: Any = None,
    callback: Callable[[int, dict[str, float]], None] | None = None,
) -> Trained:
    """Train, or go on training what the folder holds, on whatever device accelerate finds.

    Args:
        task: its network is changed in place and left in evaluation mode.
        config: how.
        folder: of the run; nothing is written where absent.
        told: what else belongs into config.json.
        callback: told the step and its terms.

    Raises:
        HeadlabError: numbers that make no training, a loss that is not finite, or a folder of another run.
    """
    from accelerate import Accelerator
    from accelerate.state import AcceleratorState

    if min(config.steps, config.batch, config.save_every, config.log_every) < 1 or task.count < 1:
        raise HeadlabError("training needs samples, and steps, a batch, save_every and log_every of at least 1")
    AcceleratorState._reset_state()  # this process may have trained before
    accelerator = Accelerator()
    task.network.train().requires_grad_(True)
    model = AutoDecoder(task, torch.Generator().manual_seed(config.seed))
    parameters = list(model.network.parameters())
    optimizer = torch.optim.AdamW(parameters, config.rate, weight_decay=config.weight_decay)
    of_codes = torch.optim.SparseAdam(list(model.codes.parameters()), config.latent_rate)
    prepared, optimizer, of_codes = accelerator.prepare(model, optimizer, of_codes)
    progress = _Progress()
    accelerator.register_for_checkpointing(progress)
    record = _Record(accelerator, folder, config, told)
    record.resume()
    history: list[dict[str, float]] = []
    before, started = progress.seconds, time.process_time()
    while (done := max(progress.step / config.steps, progress.seconds / 60 / config.minutes)) < 1:
        step = progress.step
        factor = config.rate_factor(step, done)
        for chosen, rate in ((optimizer, config.rate), (of_codes, config.latent_rate)):
            for group in chosen.param_groups:
                group["lr"] = rate * factor
        place = step * accelerator.num_processes + accelerator.process_index
        generator = torch.Generator().manual_seed(_mixed(config.seed, place))
        rows = samples_of(task.count, config.batch, place, config.seed)
        batch = _on(task.draw(rows, generator), accelerator.device)
        loss, terms = prepared(rows.to(accelerator.device), batch, generator)
        row = {name: float(value.detach()) for name, value in terms.items()} | {"loss": float(loss.detach())}
        if not all(math.isfinite(value) for value in row.values()):
            raise HeadlabError(
                f"the loss is no finite number at step {step}, samples {rows[:6].tolist()}; "
                f"{record.last_good()}; look at these samples, or go on with a lower rate"
            )
        optimizer.zero_grad()
        of_codes.zero_grad()
        accelerator.backward(loss)
        accelerator.clip_grad_norm_(parameters, config.clip)
        _clip_rows(model.codes.weight, config.latent_clip)
        optimizer.step()
        of_codes.step()
        progress.step, progress.seconds = step + 1, before + time.process_time() - started
        history.append(row)
        record.line(progress.step, progress.seconds, history)
        if callback is not None:
            callback(step, row)
        ended = progress.step >= config.steps or progress.seconds / 60 >= config.minutes
        if progress.step % config.save_every == 0 or ended:
            record.save(progress.step)
    model.network.eval().requires_grad_(False)
    model.to("cpu")
    latents = shortened(model.codes.weight.detach().clone())
    return Trained(latents, history, progress.step, progress.seconds)


class _Record:
    """A run's folder."""

    def __init__(self, accelerator: Any, folder: Path | None, config: LoopConfig, told: Any) -> None:
        self.accelerator, self.folder, self.config = accelerator, folder, config
        if folder is None or not accelerator.is_main_process:
            return
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise HeadlabError(f"cannot make the folder {folder}: {error.strerror}; choose another") from error
        write_json(folder / "config.json", {"training": vars(config), "task": plain(told)})

    def line(self, step: int, seconds: float, history: list[dict[str, float]]) -> None:
        """Means of the last steps, now and then."""
        if self.folder is None or step % self.config.log_every or not self.accelerator.is_main_process:
            return
        last = history[-self.config.log_every :]
        means = {name: round(sum(row[name] for row in last) / len(last), 6) for name in last[0]}
        with (self.folder / "log.jsonl").open("a") as file:
            file.write(json.dumps({"step": step, "cpu_s": round(seconds, 1), **means}) + "\n")

    def _checkpoints(self) -> list[Path]:
        return [] if self.folder is None else sorted((self.folder / "checkpoints").glob("step-*"))

    def last_good(self) -> str:
        found = self._checkpoints()
        return f"the last good checkpoint {found[-1]} is kept" if found else "there is no checkpoint yet"

    def save(self, step: int) -> None:
        """Written aside, then renamed, so that a kill leaves a whole one."""
        if self.folder is None:
            return
        place = self.folder / "checkpoints"
        aside = place / ".unfinished"
        if self.accelerator.is_main_process:
            place.mkdir(exist_ok=True)
            shutil.rmtree(aside, ignore_errors=True)
        self.accelerator.wait_for_everyone()
        self.accelerator.save_state(str(aside))
        self.accelerator.wait_for_everyone()
        if self.accelerator.is_main_process:
            final = place / f"step-{step:07d}"
            shutil.rmtree(final, ignore_errors=True)
            os.replace(aside, final)
            for old in self._checkpoints()[: -self.config.keep]:
                shutil.rmtree(old)

    def resume(self) -> None:
        """Raises:
        HeadlabError: the newest checkpoint is of other networks or damaged.
        """
        found = self._checkpoints()
        if not found:
            return
        try:
            self.accelerator.load_state(str(found[-1]))
        except Exception as error:
            raise HeadlabError(
                f"{found[-1]} does not belong to this training ({' '.join(str(error).split())[:160]}); "
                "train with the configuration in config.json beside it, or choose an empty folder"
            ) from error


def random_start(count: int, latent: int, generator: torch.Generator) -> Float[Tensor, "count latent"]:
    """Short random latents, as the authors start."""
    return torch.randn(count, latent, generator=generator) * (_START / math.sqrt(latent))


def samples_of(count: int, batch: int, place: int, seed: int) -> Int[Tensor, "batch"]:
    """Samples of the place-th batch of a run: every epoch is another shuffle, and follows from its number alone."""
    position = torch.arange(place * batch, (place + 1) * batch)
    orders = {
        int(epoch): torch.randperm(count, generator=torch.Generator().manual_seed(_mixed(seed, -1 - int(epoch))))
        for epoch in (position // count).unique()
    }
    return torch.stack([orders[int(at) // count][int(at) % count] for at in position])


def _mixed(seed: int, place: int) -> int:
    """A seed for one place of a run, far from those of its neighbours."""
    return (seed * 0x9E3779B97F4A7C15 + (place + (1 << 40)) * 0xBF58476D1CE4E5B9) % (1 << 63)


def _on(batch: Any, device: torch.device) -> Any:
    return type(batch)(**{name: value.to(device) for name, value in vars(batch).items()})


def _clip_rows(weight: Tensor, limit: float) -> None:
    """Shorten a sparse gradient as a whole, as clip_grad_norm_ does with dense ones."""
    gradient = weight.grad
    assert gradient is not None and gradient.is_sparse
    coalesced = gradient.coalesce()
    length = float(coalesced.values().norm())
    if length > limit:
        weight.grad = coalesced * (limit / (length + 1e-6))
