"""Small .npy files by the hundred thousand: AffectNet keeps every label in a file of its own. Imports no torch.

`numpy.load` parses each header anew and takes a tenth of a millisecond; here the bytes are looked up first.
"""

import math
import os
import re
from collections.abc import Sequence

import numpy as np

_HEADER = re.compile(
    rb"'descr':\s*'([<>|=]?[fiubU]\d*)'.*?'fortran_order':\s*(?:False|True).*?'shape':\s*\(([\d,\s]*)\)", re.S
)


def parse_npy(data: bytes) -> np.ndarray:
    """A plain numeric or text array of an .npy file, never a pickle.

    Raises:
        ValueError: no .npy file, of another kind, or cut short.
    """
    if data[:6] != b"\x93NUMPY" or len(data) < 12:
        raise ValueError("no .npy file")
    if data[6] == 1:
        start = 10 + int.from_bytes(data[8:10], "little")
    else:
        start = 12 + int.from_bytes(data[8:12], "little")
    header = _HEADER.search(data[:start])
    if header is None:
        raise ValueError("an .npy file of another kind (no plain numbers)")
    shape = tuple(int(n) for n in header[2].split(b",") if n.strip())
    dtype = np.dtype(header[1].decode())
    count = math.prod(shape)
    if len(data) < start + count * dtype.itemsize:
        raise ValueError("cut short")
    return np.frombuffer(data, dtype, count, start).reshape(shape)


class NumberReader:
    """Numbers of many small .npy files of one folder; the same bytes are parsed once."""

    def __init__(self, folder: str | os.PathLike):
        self._folder = os.open(folder, os.O_RDONLY)
        self._seen: dict[bytes, float] = {}

    def __enter__(self) -> "NumberReader":
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self._folder)

    def read(self, name: str) -> float:
        """One number, stored as such or as text.

        Raises:
            OSError: no such file.
            ValueError: it holds something else.
        """
        file = os.open(name, os.O_RDONLY, dir_fd=self._folder)
        try:
            data = os.read(file, 4096)
        finally:
            os.close(file)
        number = self._seen.get(data)
        if number is None:
            array = parse_npy(data)
            if array.size != 1:
                raise ValueError(f"{array.size} values in place of one")
            number = float(array.reshape(-1)[0])
            if len(self._seen) < 100_000:
                self._seen[data] = number
        return number

    def read_all(self, names: Sequence[str]) -> np.ndarray:
        """float64 (names,); NaN where a file is missing, unreadable or no number."""
        out = np.full(len(names), np.nan)
        read = self.read
        for i, name in enumerate(names):
            try:
                out[i] = read(name)
            except (OSError, ValueError):
                pass
        return out
