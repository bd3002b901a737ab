"""Linear albedo models in FLAME's texture space: FLAME_texture.npz and FLAME_albedo_from_BFM.npz.

    albedo = mean + basis · code, channels reversed from the files' BGR to RGB, every second pixel, not clamped

That is what DECA computes (512 -> 256 by nearest neighbour).
"""

import zipfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from ..errors import HeadlabError

#: Rows of a basis read at a time: 64 MB of the 1.2 GB in a real file.
_CHUNK = 1 << 15


@dataclass(frozen=True)
class FlameTexture:
    """Albedo as a linear function of a code. RGB, 0..1 (may leave that range); row 0 is at v = 1."""

    mean: Float[Tensor, "3 height width"]
    basis: Float[Tensor, "3 height width components"]

    def albedo(self, code: Float[Tensor, "*batch components"]) -> Float[Tensor, "*batch 3 height width"]:
        """The albedo of a code; a short code stands for the leading components."""
        size = code.shape[-1]
        return self.mean + (code @ self.basis[..., :size].reshape(-1, size).mT).unflatten(-1, self.mean.shape)

    def to(self, device: torch.device | str | None = None, dtype: torch.dtype | None = None) -> "FlameTexture":
        return FlameTexture(self.mean.to(device, dtype), self.basis.to(device, dtype))


def load_flame_texture(path: Path, components: int = 50, stride: int = 2) -> FlameTexture:
    """Read either texture file.

    Args:
        path: FLAME_texture.npz (`mean`, `tex_dir`, 0..255) or FLAME_albedo_from_BFM.npz (`MU`, `PC`, 0..1).
        components: how many to keep; only they are held in memory.
        stride: take every stride-th pixel, beginning with the first; 2 is DECA's.

    Raises:
        HeadlabError: the file is missing, damaged, or something else.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            names = {name.removesuffix(".npy") for name in archive.namelist()}
            if {"MU", "PC"} <= names:
                mean, basis, scale = _read(archive, "MU", 1), _read(archive, "PC", components), 1.0
            elif {"mean", "tex_dir"} <= names:
                mean, basis, scale = _read(archive, "mean", 1), _read(archive, "tex_dir", components), 1 / 255
            else:
                raise ValueError(f"it holds {', '.join(sorted(names)[:5])}, not MU and PC or mean and tex_dir")
        side = round((len(mean) / 3) ** 0.5)
        if len(mean) != side * side * 3 or len(basis) != len(mean):
            raise ValueError(f"mean of {len(mean)} and basis of {len(basis)} values are no square RGB picture")
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
        raise HeadlabError(f"{path} is no FLAME texture model: {error}") from error

    def picture(values: np.ndarray) -> Tensor:
        rgb = values.reshape(side, side, 3, -1)[::stride, ::stride, ::-1].transpose(2, 0, 1, 3)
        return torch.from_numpy(np.ascontiguousarray(rgb)) * scale

    return FlameTexture(picture(mean).squeeze(-1), picture(basis))


def _read(archive: zipfile.ZipFile, name: str, columns: int) -> Float[np.ndarray, "values columns"]:
    """One array of an npz as float32, picture values by leading columns, without holding all of it."""
    with archive.open(f"{name}.npy") as file:
        version = np.lib.format.read_magic(file)
        header = np.lib.format.read_array_header_1_0 if version[0] == 1 else np.lib.format.read_array_header_2_0
        shape, fortran, dtype = header(file)
        if dtype.kind not in "fiu" or not shape or max(shape) > 1 << 22:
            raise ValueError(f"{name} has type {dtype} and shape {shape}")
        total = shape[-1] if name in ("PC", "tex_dir") else 1
        rows = int(np.prod(shape)) // total
        if fortran:
            data = np.frombuffer(file.read(), dtype).reshape(shape, order="F").reshape(rows, total)
            return data[:, :columns].astype(np.float32)
        out = np.empty((rows, min(columns, total)), np.float32)
        for start in range(0, rows, _CHUNK):
            size = min(_CHUNK, rows - start)
            data = file.read(size * total * dtype.itemsize)
            out[start : start + size] = np.frombuffer(data, dtype).reshape(size, total)[:, :columns]
        return out
