"""SelfieCrops: what a denoiser is trained on of RGB-D selfies, in memory and in one file.

Upright face crops with depth as nearness, the fitted head's maps, and the expression (`heads/selfie_crops` makes them).
"""

from dataclasses import dataclass
from pathlib import Path

import torch
from jaxtyping import Float, Float16, Int, UInt8
from torch import Tensor

from ..geometry.errors import HeadlabError
from ..geometry.files import write_bytes

_TENSORS = ("person", "images", "near", "maps", "expression", "emotion", "valence_arousal")


@dataclass(frozen=True)
class SelfieCrops:
    """Captures as crops; rows of one person share the number in `person`."""

    person: Int[Tensor, "n"]
    images: UInt8[Tensor, "n 3 size size"]  #: sRGB
    near: Float16[Tensor, "n size size"]  #: `synthetic.pairs.nearness` of what was measured, holes on the head filled
    maps: Float16[Tensor, "n 11 size size"]  #: of the fitted head, as the denoiser takes them
    expression: Float[Tensor, "n expr"]  #: ψ: labelled, else fitted
    emotion: Int[Tensor, "n"]  #: AffectNet's class, -1: not labelled
    valence_arousal: Float[Tensor, "n 2"]  #: NaN: not labelled
    names: tuple[str, ...]  #: PERSON/FRAME
    skipped: tuple[str, ...] = ()  #: captures that could not be used, and why

    def __len__(self) -> int:
        return len(self.person)

    def pairs(self) -> Int[Tensor, "pairs 2"]:
        """(shown, wanted): every two captures of one person, both ways; a lone capture with itself."""
        same = self.person[:, None] == self.person[None]
        lone = same.sum(1) == 1
        off = same & ~torch.eye(len(self), dtype=torch.bool)
        return torch.nonzero(off | torch.diag(lone))


def write_crops(crops: SelfieCrops, path: Path, told: str = "") -> None:
    """Write one safetensors file, atomically.

    Args:
        crops: what to write.
        path: the file.
        told: anything that tells what it was made of; `read_crops` gives it back.
    """
    import json

    from safetensors.torch import save

    meta = {"told": told, "names": json.dumps(crops.names), "skipped": json.dumps(crops.skipped)}
    write_bytes(path, save({name: getattr(crops, name).contiguous() for name in _TENSORS}, metadata=meta))


def read_crops(path: Path) -> tuple[SelfieCrops, str]:
    """What `write_crops` wrote, and `told`.

    Raises:
        HeadlabError: damaged, or something else.
    """
    import json

    from safetensors import safe_open

    try:
        with safe_open(path, framework="pt") as file:
            meta = file.metadata()
            arrays = {name: file.get_tensor(name) for name in _TENSORS}
        names, skipped = (tuple(json.loads(meta[key])) for key in ("names", "skipped"))
        return SelfieCrops(**arrays, names=names, skipped=skipped), meta["told"]
    except Exception as error:
        raise HeadlabError(f"{path} holds no crops of selfies ({error}); delete it") from error
