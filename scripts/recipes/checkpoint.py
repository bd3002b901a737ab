"""Trained weights on disk."""

from collections.abc import Mapping
from pathlib import Path

from safetensors.torch import save
from torch import Tensor

from ...geometry.files import write_bytes


def save_checkpoint(path: Path, state: dict[str, Tensor], facts: Mapping[str, int | str]) -> None:
    """Half precision, with what is known about the training in the header."""

    def stored(name: str, value: Tensor) -> Tensor:
        return (value.half() if value.is_floating_point() and name != "probe" else value).contiguous().cpu()

    half = {name: stored(name, value) for name, value in state.items()}
    write_bytes(path, save(half, {name: str(value) for name, value in facts.items()}))
