"""Pairs on disk: numbered safetensors files, written so that an interrupted run can go on."""

from collections.abc import Iterator
from pathlib import Path

import torch
from safetensors.torch import load_file, save

from ...geometry.camera import FRONTAL, Camera
from ...geometry.code import HeadCode
from ...geometry.errors import HeadlabError
from ...geometry.files import write_bytes
from .pairs import TENSORS, EditPairBatch, EditPairs


def pairs_path(folder: Path, number: int) -> Path:
    """Shard k holds the pairs k * shard .. (k + 1) * shard - 1."""
    return folder / f"pairs-{number:06d}.safetensors"


def write_pairs(pairs: EditPairs, folder: Path, shards: range, *, shard: int = 512, batch: int = 16) -> Iterator[Path]:
    """Write the shards that are missing and yield all paths in order. Several processes may share out the numbers.

    Args:
        pairs: the generator.
        folder: created where missing.
        shards: shard numbers.
        shard: pairs per shard.
        batch: pairs per rasterisation.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for number in shards:
        path = pairs_path(folder, number)
        if not path.is_file():
            start = number * shard
            steps = range(start, start + shard, batch)
            parts = [_pack(pairs.batch(range(i, min(i + batch, start + shard)))) for i in steps]
            write_bytes(path, save({key: torch.cat([part[key] for part in parts]) for key in parts[0]}))
        yield path


def read_pairs(path: Path) -> EditPairBatch:
    """Read what `write_pairs` wrote; pictures and maps stay as compact as they are on disk.

    Raises:
        HeadlabError: the file is damaged or something else.
    """
    try:
        arrays = load_file(path)
        count, _, _, height, width = arrays["images"].shape
        codes = HeadCode(**{k.removeprefix("code."): v.float() for k, v in arrays.items() if k.startswith("code.")})
        pose = torch.tensor(FRONTAL).expand(count, 3, 3), torch.zeros(count, 3)
        camera = Camera(arrays["camera.K"], *pose, (int(height), int(width)))
        return EditPairBatch(**{name: arrays[name] for name in TENSORS}, codes=codes, camera=camera)
    except Exception as error:
        raise HeadlabError(f"{path} is no shard of pairs ({error}); write it again") from error


def _pack(batch: EditPairBatch) -> dict[str, torch.Tensor]:
    arrays = {name: getattr(batch, name).contiguous() for name in TENSORS}
    arrays |= {f"code.{name}": value.contiguous() for name, value in batch.codes.arrays().items()}
    return arrays | {"camera.K": batch.camera.K.contiguous()}
