"""Pairs of pictures in memory, for training."""

from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Float, Int
from torch import Tensor

from ..datasets.synthetic.pairs import TENSORS, EditPairBatch
from ..datasets.synthetic.pairs_shards import read_pairs
from ..geometry.camera import FRONTAL, Camera
from ..geometry.code import HeadCode
from ..geometry.errors import HeadlabError


def load_pairs(folder: Path, limit: int | None = None) -> EditPairBatch:
    """All pairs of a folder's shards, in order; about 115 kB each at 64 pixels.

    Args:
        folder: that `write_pairs` wrote.
        limit: read no more shards than this.

    Raises:
        HeadlabError: there are none, or of several sizes.
    """
    paths = sorted(Path(folder).glob("pairs-*.safetensors"))[:limit]
    if not paths:
        raise HeadlabError(
            f"{folder} holds no pairs; make some with headlab.scripts.recipes.default_diffusion --generate"
        )
    return join_pairs([read_pairs(path) for path in paths])


def join_pairs(parts: list[EditPairBatch]) -> EditPairBatch:
    """One after the other.

    Raises:
        HeadlabError: of several sizes.
    """
    sizes = {part.camera.size for part in parts}
    if len(sizes) > 1:
        raise HeadlabError(f"these pairs are of several sizes, {sorted(sizes)}; keep one size per folder")
    codes = HeadCode(**{k: torch.cat([getattr(p.codes, k) for p in parts]) for k in parts[0].codes.arrays()})
    count = len(codes.shape)
    K = torch.cat([part.camera.K for part in parts])
    camera = Camera(K, torch.tensor(FRONTAL).expand(count, 3, 3), torch.zeros(count, 3), sizes.pop())
    # The largest arrays are joined one by one, and the parts' copies let go, so that nothing is held twice for long.
    return EditPairBatch(
        **{name: torch.cat([getattr(p, name) for p in parts]) for name in TENSORS}, codes=codes, camera=camera
    )


@runtime_checkable
class Pictures(Protocol):
    """Pictures for an autoencoder, by number."""

    @property
    def count(self) -> int: ...

    def load(self, indices: Int[Tensor, "batch"]) -> Float[Tensor, "batch chan height width"]:
        """-1..1."""
        ...


@dataclass(frozen=True)
class PictureSet:
    """Pictures for an autoencoder: every face of every pair, with the depth of all surfaces or the bare head's."""

    pairs: EditPairBatch
    channels: int = 4  #: 3: RGB, 4: RGB-D, 6: LDM3D

    @property
    def count(self) -> int:
        return 4 * len(self.pairs)

    def load(self, indices: Int[Tensor, "batch"]) -> Float[Tensor, "batch chan height width"]:
        """Pictures -1..1. Index: 4 times the pair, plus 2 for the second face, plus 1 for the bare head's depth."""
        from .depth_packing import packed

        pair, face, bare = indices // 4, indices // 2 % 2, indices % 2
        colour = self.pairs.images[pair, face].float() / 255
        depth = torch.where(bare[:, None, None] == 1, self.pairs.head[pair, face], self.pairs.surface[pair, face])
        if self.channels == 3:
            return colour * 2 - 1
        if self.channels == 6:
            return torch.cat([colour, packed(depth.float())], 1) * 2 - 1
        return torch.cat([colour, depth[:, None].float()], 1) * 2 - 1
