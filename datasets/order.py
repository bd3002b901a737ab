"""In which order items are read: a pure function of (seed, position), so that a run can go on from a number alone.

    epoch e ──> shuffled shards ──> shuffled within windows of a few shards ──> positions ──> ranks take turns

Items of one store are one shard. In sets of many shards neighbours in the order come from few shards, so that each
shard is fetched once per epoch and not once per item. Imports no torch.
"""

from dataclasses import dataclass, field
from functools import lru_cache
from itertools import pairwise

import numpy as np
from jaxtyping import Int


@dataclass(frozen=True)
class Order:
    """Which item comes at which position. Positions go on over epochs; every epoch is another shuffle."""

    counts: tuple[int, ...]  #: items per shard
    seed: int = 0
    shuffle: bool = True
    window: int = 4  #: shards that are shuffled together
    #: How often each item comes in an epoch (balancing); once each where None.
    repeats: Int[np.ndarray, "items"] | None = field(default=None, compare=False)

    @property
    def length(self) -> int:
        """Items in an epoch."""
        return int(self.repeats.sum()) if self.repeats is not None else sum(self.counts)

    def __getitem__(self, positions: Int[np.ndarray, "n"]) -> Int[np.ndarray, "n"]:
        """Items at these positions."""
        positions = np.asarray(positions, np.int64)
        out = np.empty_like(positions)
        epochs = positions // self.length
        for epoch in np.unique(epochs):
            at = epochs == epoch
            out[at] = self.epoch(int(epoch))[positions[at] % self.length]
        return out

    def batch(self, step: int, size: int, rank: int = 0, ranks: int = 1) -> Int[np.ndarray, "size"]:
        """Items of one rank's batch: the ranks' batches of a step are neighbours, as if they were one large batch."""
        first = (step * ranks + rank) * size
        return self[np.arange(first, first + size)]

    def epoch(self, epoch: int) -> Int[np.ndarray, "length"]:
        """The items of a whole epoch, in order."""
        return _epoch(self, None if self.repeats is None else self.repeats.tobytes(), epoch)


@lru_cache(maxsize=6)
def _epoch(order: Order, _told: bytes | None, epoch: int) -> np.ndarray:
    starts = np.cumsum([0, *order.counts])
    shards = [np.arange(a, b) for a, b in pairwise(starts)]
    if order.repeats is not None:
        shards = [np.repeat(shard, order.repeats[shard]) for shard in shards]
    if not order.shuffle:
        return np.concatenate(shards)
    chance = np.random.default_rng([order.seed, epoch])
    turn = chance.permutation(len(shards))
    parts = []
    for first in range(0, len(turn), order.window):
        part = np.concatenate([shards[i] for i in turn[first : first + order.window]])
        parts.append(chance.permutation(part))
    return np.concatenate(parts)


def mirrored(seed: int, positions: Int[np.ndarray, "n"]) -> np.ndarray:
    """Whether the item at each position is mirrored: half of them, by a hash of seed and position."""
    with np.errstate(over="ignore"):
        x = np.asarray(positions, np.uint64) + np.uint64((seed * 0x9E3779B97F4A7C15) % (1 << 64))
        x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return ((x >> np.uint64(63)) & np.uint64(1)).astype(bool)
