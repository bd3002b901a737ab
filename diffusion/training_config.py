"""How networks are trained. Imports nothing heavy, so that command lines can show it quickly."""

import math
from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class TrainingConfig:
    """How to train, whatever is trained."""

    steps: int = 20_000
    """Optimiser steps."""
    minutes: float = math.inf
    """End earlier; the rate falls with whatever ends first."""
    batch: int = 32
    """Samples at once, in each process. P processes step as one does with P times --training.accumulate."""
    accumulate: int = 1
    """Batches per step."""
    rate: float = 3e-4
    """Largest learning rate."""
    warmup: int = 200
    """Steps in which the rate rises."""
    decay: Literal["constant", "cosine"] = "cosine"
    """Of the rate, to a hundredth."""
    weight_decay: float = 0.01
    """Of AdamW."""
    betas: tuple[float, float] = (0.9, 0.99)
    """Of AdamW."""
    clip: float = 1.0
    """Largest norm of the gradient."""
    average: float = 0.999
    """d of the weights' moving average: target <- d target + (1 - d) source."""
    precision: Literal["no", "bf16", "fp16"] = "no"
    """Mixed precision."""
    seed: int = 0
    """Of everything that is drawn."""
    save_every: int = 500
    """Steps between checkpoints."""
    keep: int = 2
    """Checkpoints that stay."""
    picture_every: int = 1000
    """Steps between validation pictures."""
    log_every: int = 100
    """Steps between lines of the log."""
    trackers: tuple[Literal["tensorboard", "wandb"], ...] = ()
    """Where to log as well."""
    shard: bool = False
    """With several processes: split parameters, gradients and optimiser over them (FSDP), for large networks."""
    cpu: bool = False
    """Use the CPU even where there is a GPU."""
