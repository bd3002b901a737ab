"""The training loop, on accelerate: one CPU, one GPU or many, for whatever a `Task` trains.

    Task (networks, losses, pictures) ──> steps ──> checkpoints/step-… (everything: to go on exactly where it stopped)
                                                ──> weights/ (moving averages: for use), log.jsonl, pictures/*.png

Which samples a step sees and which noise it draws follow from the seed and the step's number alone, and the state of
torch's own generators is kept; so a run that was killed goes on to the same losses as one that was not.
"""

import json
import math
import os
import shutil
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from jaxtyping import Float, Int
from torch import Tensor, nn

from ..geometry.errors import HeadlabError
from ..geometry.files import write_json, write_png
from .training_config import TrainingConfig as TrainingConfig
from .training_ema import Averages
from .training_parallel import (
    ShardedState,
    average_buffers,
    average_gradients,
    averaged,
    shard,
    unsplit_copy,
    whole,
)
from .training_record import describe_run


@runtime_checkable  # beartype checks the arguments of `train` by it
class Task(Protocol):
    """What is trained. All randomness comes from the generators that are passed in, or from torch's own.

    A task may have an `order` (datasets.order.Order): which samples the batches hold, in place of plain shuffling.
    """

    networks: dict[str, nn.Module]  #: trained, and averaged
    players: dict[str, tuple[str, ...]]  #: optimisers by name, in the order of their turns: networks each one moves
    count: int  #: samples there are

    def load(self, indices: Int[Tensor, "batch"], device: torch.device) -> Any:
        """These samples."""
        ...

    def losses(
        self, player: str, networks: dict[str, nn.Module], batch: Any, step: int, generator: torch.Generator
    ) -> dict[str, Tensor]:
        """Terms of a player's loss, weighted; the loss is their sum. Names with a leading _ are only logged."""
        ...

    def pictures(self, networks: dict[str, nn.Module]) -> Float[Tensor, "3 height width"] | None:
        """What the averaged networks can do, 0..1."""
        ...

    def export(self, networks: dict[str, nn.Module], folder: Path) -> None:
        """Write the averaged networks for use."""
        ...


@dataclass
class Progress:
    """Where a run is; saved with it."""

    step: int = 0
    seconds: float = 0.0

    def state_dict(self) -> dict[str, Any]:
        return {"step": self.step, "seconds": self.seconds}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.step, self.seconds = int(state["step"]), float(state["seconds"])


def train(
    task: Task, config: TrainingConfig, folder: Path, told: Any = None, callback: Callable[[dict], None] | None = None
) -> dict[str, nn.Module]:
    """Train, or go on training what the folder holds.

    Args:
        task: what to train.
        config: how.
        folder: of the run; checkpoints found there are taken up.
        told: configuration of the task, saved with the run.
        callback: gets every step's losses.

    Returns:
        The averaged networks.

    Raises:
        HeadlabError: the loss is not finite (the last good checkpoint stays), memory runs out, or the folder holds a
            run of other networks.
    """
    if task.count < 1 or config.batch < 1 or config.accumulate < 1 or config.steps < 1:
        raise HeadlabError("training needs samples, and a batch, accumulate and steps of at least 1")
    # torch's own generators belong to the run while it lasts, and to the caller again afterwards.
    with torch.random.fork_rng(devices=range(torch.cuda.device_count())):
        run = _Run(task, config, folder, told)
        run.resume()
        try:
            with _explained(config):
                run.go(callback)
                return run.whole_averages()
        finally:
            run.loader.shutdown(cancel_futures=True)
            run.accelerator.end_training()


class _Run:
    """One run's accelerator, optimisers and state."""

    def __init__(self, task: Task, config: TrainingConfig, folder: Path, told: Any):
        self.task, self.config, self.folder = task, config, folder
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise HeadlabError(f"cannot make the folder {folder}: {error.strerror}; choose another") from error
        AcceleratorState._reset_state()  # this process may have trained before, in another precision
        self.accelerator = Accelerator(
            mixed_precision=config.precision, cpu=config.cpu, log_with=_trackers(config), project_dir=str(folder)
        )
        torch.manual_seed(config.seed)
        device = self.accelerator.device
        self.split = config.shard and self.accelerator.num_processes > 1
        self.empty = {name: unsplit_copy(net) for name, net in task.networks.items()} if self.split else {}
        self.networks = {name: self._prepared(network) for name, network in task.networks.items()}
        self.averages = Averages(self.empty or task.networks, config.average)
        for network in self.averages.networks.values():
            network.to(device)
            if self.split:
                shard(network, config.precision)
        self.progress = Progress()
        self.optimizers = {
            player: self._prepared_optimizer(
                torch.optim.AdamW(
                    [p for name in names for p in task.networks[name].parameters() if p.requires_grad],
                    lr=config.rate,
                    betas=config.betas,
                    weight_decay=config.weight_decay,
                )
            )
            for player, names in task.players.items()
        }
        averages: Any = ShardedState(self.averages.networks) if self.split else self.averages
        self.accelerator.register_for_checkpointing(averages, self.progress)
        if self.split:
            self.accelerator.register_for_checkpointing(ShardedState(self.networks, self.optimizers, task.players))
        self.loader = ThreadPoolExecutor(1, "samples")
        self.ahead: dict[int, Future] = {}
        if self.accelerator.is_main_process:
            write_json(folder / "config.json", describe_run(config, told))
        if config.trackers:
            self.accelerator.init_trackers(folder.name)

    def _prepared(self, network: nn.Module) -> nn.Module:
        """On its device, in the run's precision; not wrapped for data parallelism (`training_parallel`)."""
        if self.split:
            return shard(network.to(self.accelerator.device), self.config.precision)
        return self.accelerator.prepare_model(network, evaluation_mode=True)

    def _prepared_optimizer(self, optimizer: torch.optim.Optimizer) -> Any:
        return optimizer if self.split else self.accelerator.prepare_optimizer(optimizer)

    def whole_averages(self) -> dict[str, nn.Module]:
        """The averaged networks, put together where they were split. All processes must call this."""
        if not self.split:
            return self.averages.networks
        return {name: whole(network, self.empty[name]) for name, network in self.averages.networks.items()}

    # ------------------------------------------------------------------------------------------ steps

    def go(self, callback: Callable[[dict], None] | None) -> None:
        """Until the steps or the minutes end."""
        cfg, sums, counted = self.config, {}, 0
        started, before = time.monotonic(), self.progress.seconds
        while (done := self._done()) < 1:
            terms = self._step(done)
            self.progress.step += 1
            step = self.progress.step
            # Every process goes by the same numbers, so that all stop at the same step.
            told = {name: float(value) for name, value in terms.items()}
            told = averaged({"seconds": before + time.monotonic() - started, **told}, self.accelerator.device)
            self.progress.seconds = told.pop("seconds")
            row = {"step": step, **told}
            self._check(row)
            if callback is not None:
                callback(row)
            for name, value in row.items():
                sums[name] = sums.get(name, 0.0) + value
            counted += 1
            last = self._done() >= 1
            if step % cfg.log_every == 0 or last:
                means = {name: value / counted for name, value in sums.items() if name != "step"}
                self._log({"step": step, "seconds": round(self.progress.seconds, 1), **means})
                sums, counted = {}, 0
            if step % cfg.picture_every == 0 or last:
                self._picture()
            if step % cfg.save_every == 0 or last:
                self.save()

    def _done(self) -> float:
        """Share of the run that lies behind."""
        return max(self.progress.step / self.config.steps, self.progress.seconds / 60 / self.config.minutes)

    def _step(self, done: float) -> dict[str, Tensor]:
        """One step of every player; the means of its terms."""
        cfg, step, terms = self.config, self.progress.step, {}
        rate = cfg.rate * min(1.0, (step + 1) / max(1, cfg.warmup))
        if cfg.decay == "cosine":
            rate *= 0.505 + 0.495 * math.cos(math.pi * min(done, 1.0))
        batches = [self._batch(micro) for micro in range(cfg.accumulate)]
        for turn, (player, names) in enumerate(self.task.players.items()):
            optimizer = self.optimizers[player]
            for group in optimizer.param_groups:
                group["lr"] = rate
            moving = [self.networks[name] for name in names]
            for batch, generator, place in batches:
                torch.manual_seed(_mixed(cfg.seed + turn + 1, place))  # dropout: by the batch, whichever process has it
                losses = self.task.losses(player, self.networks, batch, step, generator)
                loss = sum(value for name, value in losses.items() if name[0] != "_")
                if isinstance(loss, Tensor) and loss.requires_grad:
                    self.accelerator.backward(loss / cfg.accumulate)
                for name, value in losses.items():
                    terms[name] = terms.get(name, 0.0) + value.detach() / cfg.accumulate
            parameters = [p for net in moving for p in net.parameters()]
            if not self.split:
                average_gradients(parameters)
                self.accelerator.unscale_gradients(optimizer)
            torch.nn.utils.clip_grad_norm_(parameters, cfg.clip)
            optimizer.step()
            for network in self.networks.values():
                network.zero_grad(set_to_none=True)
        average_buffers(self.networks.values())
        self.averages.update({name: self.accelerator.unwrap_model(net) for name, net in self.networks.items()})
        return terms

    def _batch(self, micro: int) -> tuple[Any, torch.Generator, int]:
        """Samples, a generator for their noise, and their place among the run's batches."""
        accelerator, cfg = self.accelerator, self.config
        place = (self.progress.step * cfg.accumulate + micro) * accelerator.num_processes + accelerator.process_index
        coming = self.ahead.pop(place, None) or self.loader.submit(self._load, place)
        self.indices, batch = coming.result()
        after = place + accelerator.num_processes
        if after not in self.ahead:
            self.ahead = {after: self.loader.submit(self._load, after)}  # while this batch is used
        return batch, torch.Generator(accelerator.device).manual_seed(_mixed(cfg.seed, place)), place

    def _load(self, place: int) -> tuple[Tensor, Any]:
        order = getattr(self.task, "order", None)
        if order is None:
            indices = samples_of(self.task.count, self.config.batch, place, self.config.seed)
        else:
            indices = torch.from_numpy(order.batch(place, self.config.batch))
        with torch.no_grad():
            return indices, self.task.load(indices, self.accelerator.device)

    def _check(self, row: dict[str, Any]) -> None:
        bad = [name for name, value in row.items() if not math.isfinite(value)]
        if bad:
            kept = _newest(self.folder)
            samples = ", ".join(map(str, self.indices[:8].tolist())) + (" ..." if len(self.indices) > 8 else "")
            raise HeadlabError(
                f"the loss ({', '.join(bad)}) is no finite number at step {row['step']:.0f}, "
                f"batch of samples {samples}; "
                f"{f'the last good checkpoint {kept} is kept' if kept else 'there is no checkpoint yet'}; "
                "look at these samples, or go on with a lower --training.rate or --training.precision no"
            )

    # ------------------------------------------------------------------------------------------ records

    def _log(self, row: dict[str, Any]) -> None:
        if self.config.trackers:
            self.accelerator.log({k: v for k, v in row.items() if k != "step"}, step=int(row["step"]))
        if self.accelerator.is_main_process:
            with (self.folder / "log.jsonl").open("a") as file:
                file.write(json.dumps({k: round(v, 6) for k, v in row.items()}) + "\n")

    def _picture(self) -> None:
        networks = self.whole_averages()
        if self.accelerator.is_main_process:
            with torch.no_grad():
                picture = self.task.pictures(networks)
            if picture is not None:
                (self.folder / "pictures").mkdir(exist_ok=True)
                write_png(self.folder / "pictures" / f"step-{self.progress.step:06d}.png", picture)

    def save(self) -> None:
        """Checkpoint and averaged weights: written aside, then renamed, so that a kill leaves whole ones."""
        place = self.folder / "checkpoints"
        place.mkdir(exist_ok=True)
        aside = place / ".unfinished"
        if self.accelerator.is_main_process and aside.exists():
            shutil.rmtree(aside)
        self.accelerator.wait_for_everyone()
        self.accelerator.save_state(str(aside))
        self.accelerator.wait_for_everyone()
        networks = self.whole_averages()
        if self.accelerator.is_main_process:
            final = place / f"step-{self.progress.step:07d}"
            if final.exists():
                shutil.rmtree(final)
            os.replace(aside, final)
            for old in _checkpoints(self.folder)[: -self.config.keep]:
                shutil.rmtree(old)
            self.task.export(networks, self.folder / "weights")

    def resume(self) -> None:
        """Take up the newest checkpoint, if there is one.

        Raises:
            HeadlabError: it is of other networks.
        """
        newest = _newest(self.folder)
        if newest is None:
            return
        try:
            self.accelerator.load_state(str(newest))
        except Exception as error:
            raise HeadlabError(
                f"{newest} does not belong to these networks ({' '.join(str(error).split())[:160]}); "
                "train with the configuration in config.json beside it, or choose an empty folder"
            ) from error


def samples_of(count: int, batch: int, place: int, seed: int) -> Int[Tensor, "batch"]:
    """Samples of the place-th batch of a run: every epoch is another shuffle, and follows from its number alone."""
    position = torch.arange(place * batch, (place + 1) * batch)
    epochs = position // count
    orders = {int(e): _shuffled(count, seed, int(e)) for e in epochs.unique()}
    return torch.stack([orders[int(e)][int(p) % count] for e, p in zip(epochs, position, strict=True)])


_shuffles: dict[tuple[int, int, int], Tensor] = {}


def _shuffled(count: int, seed: int, epoch: int) -> Tensor:
    key = (count, seed, epoch)
    if key not in _shuffles:
        while len(_shuffles) >= 4:
            _shuffles.pop(next(iter(_shuffles)))
        _shuffles[key] = torch.randperm(count, generator=torch.Generator().manual_seed(_mixed(seed, -1 - epoch)))
    return _shuffles[key]


def _mixed(seed: int, place: int) -> int:
    """A seed for one place of a run: far from those of its neighbours."""
    return (seed * 0x9E3779B97F4A7C15 + (place + (1 << 40)) * 0xBF58476D1CE4E5B9) % (1 << 63)


def _checkpoints(folder: Path) -> list[Path]:
    return sorted((folder / "checkpoints").glob("step-*"))


def _newest(folder: Path) -> Path | None:
    found = _checkpoints(folder)
    return found[-1] if found else None


def _trackers(config: TrainingConfig) -> Any:
    """Raises HeadlabError where one is not installed."""
    from importlib.util import find_spec

    for name in config.trackers:
        if find_spec(name) is None:
            raise HeadlabError(f"{name} is not installed; pip install {name}, or leave it out of --training.trackers")
    return list(config.trackers) or None


@contextmanager
def _explained(config: TrainingConfig) -> Iterator[None]:
    """Out of memory, as something a user can mend."""
    try:
        yield
    except RuntimeError as error:  # torch.OutOfMemoryError is one
        text = str(error)
        if not isinstance(error, torch.OutOfMemoryError) and "can't allocate memory" not in text:
            raise
        half = max(1, config.batch // 2)
        raise HeadlabError(
            f"out of memory with batches of {config.batch}; go on with --training.batch {half} "
            f"--training.accumulate {2 * config.accumulate}, --training.precision bf16 or smaller networks"
        ) from error
