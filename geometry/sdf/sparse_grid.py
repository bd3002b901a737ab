"""A grid of which only the blocks about some cells are stored."""

from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

_SIDE = 8  # vertices of a block
_VOLUME = _SIDE**3


@dataclass(frozen=True)
class SparseGrid:
    """Values of vertices, in blocks of 8³; NaN where unknown. `values` may be written to."""

    slots: Int[Tensor, "bx by bz"]  #: of each block; -1 where it is not stored
    blocks: Int[Tensor, "slots 3"]  #: position of each stored block
    values: Float[Tensor, "stored"]

    @classmethod
    def about(cls, cells: Int[Tensor, "cells 3"], stride: int, resolution: tuple[int, int, int]) -> "SparseGrid":
        """Blocks that hold all vertices of the given cells.

        Args:
            cells: lowest vertices.
            stride: edge length in vertices; at most the side of a block.
            resolution: vertices per axis; cells may reach beyond by less than `stride`.
        """
        counts = [(n - 1 + 2 * stride) // _SIDE + 1 for n in resolution]
        wanted = torch.zeros(*counts, dtype=torch.bool)
        for c in range(8):
            at = (cells + stride * torch.tensor([c & 1, c >> 1 & 1, c >> 2])) // _SIDE
            wanted[at[:, 0], at[:, 1], at[:, 2]] = True
        blocks = wanted.nonzero()
        slots = torch.full(counts, -1, dtype=torch.int32)
        slots[wanted] = torch.arange(len(blocks), dtype=torch.int32)
        return cls(slots, blocks, torch.full((len(blocks) * _VOLUME,), torch.nan))

    def flat(self, index: Int[Tensor, "*batch 3"]) -> Int[Tensor, "*batch"]:
        """Where vertices lie in `values`. Their blocks must be stored."""
        x, y, z = index.unbind(-1)
        slot = self.slots[x // _SIDE, y // _SIDE, z // _SIDE]
        return slot * _VOLUME + ((x % _SIDE) * _SIDE + y % _SIDE).int() * _SIDE + (z % _SIDE).int()

    def corners(self, cells: Int[Tensor, "cells 3"], stride: int) -> Int[Tensor, "cells 8"]:
        """Where the corners (c & 1, c >> 1 & 1, c >> 2) of cells lie in `values`."""
        corner = torch.tensor([[c & 1, c >> 1 & 1, c >> 2] for c in range(8)])
        return self.flat(cells[:, None] + stride * corner)

    def unknown(self, where: Int[Tensor, "*batch"]) -> Int[Tensor, "n"]:
        """Which of some vertices have no value yet, each once."""
        asked = torch.zeros(self.values.shape[0], dtype=torch.bool)
        asked[where.flatten().long()] = True
        return (asked & self.values.isnan()).nonzero().squeeze(1)

    def index(self, where: Int[Tensor, "n"]) -> Int[Tensor, "n 3"]:
        """Vertices from their places in `values`."""
        slot, inner = where // _VOLUME, where % _VOLUME
        local: Any = torch.stack([inner // (_SIDE * _SIDE), inner // _SIDE % _SIDE, inner % _SIDE], -1)
        return self.blocks[slot] * _SIDE + local
