"""Batches of pictures for training: fetched, decoded, mirrored and resized by threads, the next batch ahead of time.

Decoding and resizing run outside Python's lock, so threads suffice, and no pixel travels between processes.
"""

import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field

import numpy as np
import torch
from jaxtyping import Bool, Float, Int, UInt8
from torch import Tensor

from ..geometry.errors import HeadlabError
from .order import Order, mirrored
from .picture_codec import decode_square
from .records import Fault, FaultReport, Policy
from .store_records import StoredPictures


@dataclass(frozen=True)
class LoaderConfig:
    """How pictures are read."""

    size: int = 64  #: side, pixels
    flip: bool = True  #: mirror half of them
    threads: int = 2
    bad: Policy = "skip"  #: a picture that cannot be read is replaced by the one before it in the batch, or stops


@dataclass(eq=False)
class SquareLoader:
    """Pictures by number, as square uint8 tensors."""

    source: StoredPictures
    config: LoaderConfig = field(default_factory=LoaderConfig)
    report: FaultReport = field(default_factory=FaultReport)  #: what could not be read, counted and named

    def __post_init__(self) -> None:
        self._pool = ThreadPoolExecutor(max(1, self.config.threads), "loader")
        self._lock = threading.Lock()
        self._named: set[int] = set()

    @property
    def count(self) -> int:
        return sum(self.source.counts)

    def load(
        self, indices: Int[np.ndarray, "batch"], flips: Bool[np.ndarray, "batch"] | None = None
    ) -> UInt8[Tensor, "batch 3 size size"]:
        """These pictures.

        Args:
            indices: numbers of pictures.
            flips: which ones are mirrored; none where None.

        Raises:
            HeadlabError: one cannot be read, where the policy is "stop", or none can.
        """
        size, count = self.config.size, len(indices)
        out = np.empty((count, 3, size, size), np.uint8)
        flips = np.zeros(count, bool) if flips is None else flips
        good = np.zeros(count, bool)
        parts = np.array_split(np.arange(count), max(1, min(2 * self.config.threads, count // 4)))

        def work(rows: np.ndarray) -> None:
            for row, data in zip(rows, self.source.encoded(indices[rows].tolist()), strict=True):
                good[row] = data is not None and decode_square(data, out[row], bool(flips[row]))

        list(self._pool.map(work, parts))
        if not good.all():
            self._replace(indices, out, good)
        return torch.from_numpy(out)

    def _replace(self, indices: np.ndarray, out: np.ndarray, good: np.ndarray) -> None:
        for row in np.flatnonzero(~good):
            fault = Fault(f"{self.source.name}#{indices[row]}", "unreadable", "missing or damaged")
            if self.config.bad == "stop":
                raise HeadlabError(f"{fault}; make the store again")
            with self._lock:
                if int(indices[row]) not in self._named:
                    self._named.add(int(indices[row]))
                    self.report.add(fault)
        kept = np.flatnonzero(good)
        if not len(kept):
            raise HeadlabError(f"{self.source.name}: none of {len(good)} pictures can be read; make the store again")
        for row in np.flatnonzero(~good):
            out[row] = out[kept[np.searchsorted(kept, row) - 1]]

    def batches(
        self, order: Order, batch: int, *, start: int = 0, rank: int = 0, ranks: int = 1, ahead: int = 2
    ) -> Iterator[UInt8[Tensor, "batch 3 size size"]]:
        """Endless batches in an order, from the `start`-th on; each is made while the ones before it are used.

        Args:
            order: of the items.
            batch: pictures per batch and rank.
            start: steps that lie behind: a run that was stopped goes on with the batch it would have had.
            rank: of this process.
            ranks: number of processes.
            ahead: batches that are made in advance.
        """
        with ThreadPoolExecutor(max(1, ahead), "batches") as pool:
            waiting: list[Future] = []
            step = start
            try:
                while True:
                    while len(waiting) < max(1, ahead):
                        waiting.append(pool.submit(self._batch, order, batch, step, rank, ranks))
                        step += 1
                    yield waiting.pop(0).result()
            finally:
                for future in waiting:
                    future.cancel()

    def _batch(self, order: Order, batch: int, step: int, rank: int, ranks: int) -> Tensor:
        first = (step * ranks + rank) * batch
        positions = np.arange(first, first + batch)
        flips = mirrored(order.seed, positions) if self.config.flip else None
        return self.load(order[positions], flips)


def unit_range(pictures: UInt8[Tensor, "*batch height width"]) -> Float[Tensor, "*batch height width"]:
    """0..255 -> -1..1, as networks take it."""
    return pictures.to(torch.float32).mul_(2 / 255).sub_(1)


def check_size(size: int, sizes: Sequence[int] = (64, 512)) -> int:
    """A side that training takes.

    Raises:
        HeadlabError: too small or too large.
    """
    if not sizes[0] <= size <= sizes[1]:
        raise HeadlabError(f"pictures of {size} pixels cannot be trained on; choose {sizes[0]} to {sizes[1]}")
    return size
