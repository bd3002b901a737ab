"""Synthetic samples on disk: numbered safetensors files, written so that an interrupted run can go on."""

from collections.abc import Iterator
from pathlib import Path

import torch
from safetensors.torch import load_file, save

from ...geometry.camera import FRONTAL, Camera
from ...geometry.code import HeadCode
from ...geometry.errors import HeadlabError
from ...geometry.files import write_bytes
from .batch import SyntheticBatch, SyntheticMaps
from .generator import SyntheticHeads

_CODE = ("shape", "expression", "rotation", "neck", "jaw", "eyes", "translation", "albedo", "light")
_PLAIN = ("index", "person", "images", "landmarks", "emotion", "valence_arousal", "distance")


def shard_path(folder: Path, number: int) -> Path:
    """Shard k holds the samples k * shard .. (k + 1) * shard - 1."""
    return folder / f"synthetic-{number:06d}.safetensors"


def write_shards(
    heads: SyntheticHeads, folder: Path, shards: range, *, shard: int = 1024, batch: int = 64
) -> Iterator[Path]:
    """Write the shards that are missing and yield all paths in order. Several processes may share out the numbers.

    Args:
        heads: the generator.
        folder: created where missing.
        shards: shard numbers.
        shard: samples per shard.
        batch: samples per rasterisation.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for number in shards:
        path = shard_path(folder, number)
        if not path.is_file():
            start = number * shard
            parts = [
                _pack(heads.batch(range(begin, min(begin + batch, start + shard))))
                for begin in range(start, start + shard, batch)
            ]
            write_bytes(path, save({key: torch.cat([part[key] for part in parts]) for key in parts[0]}))
        yield path


def read_shard(path: Path) -> SyntheticBatch:
    """Read what `write_shards` wrote.

    Raises:
        HeadlabError: the file is damaged or something else.
    """
    try:
        arrays = load_file(path)
        images = arrays["images"]
        count, _, height, width = images.shape
        codes = HeadCode(**{name: arrays[f"code.{name}"].float() for name in _CODE})
        camera = Camera(
            arrays["camera.K"],
            torch.tensor(FRONTAL).expand(count, 3, 3),
            torch.zeros(count, 3),
            (int(height), int(width)),
        )
        maps = None
        if "maps.mask" in arrays:
            mask = arrays["maps.mask"].float()
            maps = SyntheticMaps(
                mask,
                arrays["maps.normal"].float(),
                arrays["maps.albedo"].float() / 255,
                arrays["maps.depth"],
            )
        plain = {name: arrays[name] for name in _PLAIN}
        return SyntheticBatch(**plain, codes=codes, camera=camera, maps=maps)
    except HeadlabError:
        raise
    except Exception as error:
        raise HeadlabError(f"{path} is no shard of synthetic heads ({error}); write it again") from error


def _pack(batch: SyntheticBatch) -> dict[str, torch.Tensor]:
    arrays = {name: getattr(batch, name).contiguous() for name in _PLAIN}
    arrays |= {f"code.{name}": value.contiguous() for name, value in batch.codes.arrays().items()}
    arrays["camera.K"] = batch.camera.K.contiguous()
    if batch.maps is not None:
        arrays["maps.mask"] = batch.maps.mask.to(torch.uint8)
        arrays["maps.normal"] = batch.maps.normal.half().contiguous()
        arrays["maps.albedo"] = (batch.maps.albedo * 255 + 0.5).to(torch.uint8).contiguous()
        arrays["maps.depth"] = batch.maps.depth.contiguous()
    return arrays
