"""How fields are trained. Imports nothing heavy, so that command lines can show it quickly."""

import math
from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class LoopConfig:
    """What every field's training has. The released recipe's numbers; its epochs are here counted in steps."""

    steps: int = 15000
    """Optimiser steps."""
    minutes: float = math.inf
    """End after so many minutes of processor time; the rate falls with whatever ends first."""
    batch: int = 32
    """Heads, or posed heads, per step."""
    rate: float = 5e-4
    """Largest learning rate of the network (AdamW)."""
    latent_rate: float = 1e-3
    """Of the latents (Adam on the rows that a batch touches)."""
    warmup: int = 0
    """Steps in which both rates rise."""
    decay: Literal["halved", "cosine"] = "halved"
    """Of both rates: halved at intervals, as released, or a cosine to a hundredth, which suits short runs."""
    halve_every: int = 5000
    """Steps."""
    weight_decay: float = 0.01
    """Of the network."""
    clip: float = 0.1
    """Largest norm of the network's gradient."""
    latent_clip: float = 0.1
    """Of the latents'."""
    seed: int = 0
    """Of everything that is drawn; a step's draws follow from it and the step's number alone."""
    save_every: int = 500
    """Steps between checkpoints."""
    keep: int = 1
    """Checkpoints that stay."""
    log_every: int = 50
    """Steps between lines of the log."""

    def rate_factor(self, step: int, done: float) -> float:
        """What both rates are multiplied by.

        Args:
            step: steps taken.
            done: share of the training that is over, 0..1.
        """
        rise = min(1.0, (step + 1) / max(1, self.warmup))
        if self.decay == "cosine":
            return rise * (0.505 + 0.495 * math.cos(math.pi * min(done, 1.0)))
        return rise * 0.5 ** (step // self.halve_every)
