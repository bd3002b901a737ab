"""PCD, the Point Cloud Library's format: ascii, binary and binary_compressed (LZF); organised where HEIGHT > 1."""

import struct
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from numpy import ndarray
from torch import Tensor

from ..geometry.errors import HeadlabError
from ..geometry.files import write_bytes
from ..geometry.rgbd.cloud import PointCloud

_MOST_POINTS = 50_000_000
_TYPES = {("F", 4): "<f4", ("F", 8): "<f8", ("U", 1): "u1", ("U", 2): "<u2", ("U", 4): "<u4", ("I", 4): "<i4"}
_TYPES |= {("I", 1): "i1", ("I", 2): "<i2", ("U", 8): "<u8", ("I", 8): "<i8"}


def read_pcd(path: Path) -> PointCloud:
    """Points, colours (rgb or rgba) and normals, as stored.

    Raises:
        HeadlabError: not a PCD, damaged, or too large.
    """
    try:
        data = path.read_bytes()
        head, body = _header(data)
        count = int(head["POINTS"][0]) if "POINTS" in head else int(head["WIDTH"][0]) * int(head["HEIGHT"][0])
        if not 0 < count <= _MOST_POINTS:
            raise ValueError(f"{count} points")
        rows = _rows(head, body, count)
        missing = {"x", "y", "z"} - set(rows)
        if missing:
            raise ValueError(f"no field {', '.join(sorted(missing))}")
        points = np.stack([rows[axis].astype(np.float64) for axis in "xyz"], 1)
        normals = None
        if {"normal_x", "normal_y", "normal_z"} <= set(rows):
            normals = torch.from_numpy(np.stack([rows[f"normal_{a}"].astype(np.float64) for a in "xyz"], 1))
        width, height = int(head["WIDTH"][0]), int(head["HEIGHT"][0])
        grid = (height, width) if height > 1 and height * width == count else None
        return PointCloud(torch.from_numpy(points), _colors(rows), normals, grid)
    except (OSError, ValueError, KeyError, IndexError, struct.error) as error:
        reason = " ".join(str(error).split())[:120]
        raise HeadlabError(f"{path} cannot be read as PCD ({reason}); export it again") from error


def write_pcd(path: Path, cloud: PointCloud) -> None:
    """Write as binary PCD, atomically: x, y, z in float32, colour packed into rgb."""
    fields = [("x", "<f4"), ("y", "<f4"), ("z", "<f4")]
    if cloud.colors is not None:
        fields.append(("rgb", "<u4"))
    rows = np.zeros(len(cloud.points), np.dtype(fields))
    for i, axis in enumerate("xyz"):
        rows[axis] = cloud.points[:, i].numpy()
    if cloud.colors is not None:
        r, g, b = (cloud.colors.clamp(0, 1) * 255).round().long().numpy().T
        rows["rgb"] = (r << 16 | g << 8 | b).astype(np.uint32)
    height, width = cloud.grid or (1, len(rows))
    names = [name for name, _ in fields]
    head = [
        "# .PCD v0.7 - Point Cloud Data file format",
        "VERSION 0.7",
        f"FIELDS {' '.join(names)}",
        f"SIZE {' '.join('4' for _ in names)}",
        f"TYPE {' '.join('F' for _ in names)}",  # readers expect the packed colour as a float
        f"COUNT {' '.join('1' for _ in names)}",
        f"WIDTH {width}",
        f"HEIGHT {height}",
        "VIEWPOINT 0 0 0 1 0 0 0",
        f"POINTS {len(rows)}",
        "DATA binary",
    ]
    write_bytes(path, ("\n".join(head) + "\n").encode() + rows.tobytes())


def _header(data: bytes) -> tuple[dict[str, list[str]], bytes]:
    head: dict[str, list[str]] = {}
    position = 0
    while "DATA" not in head:
        end = data.find(b"\n", position)
        if end < 0 or position > 10_000:
            raise ValueError("its header does not end")
        words = data[position:end].decode("ascii", "replace").split()
        position = end + 1
        if words and not words[0].startswith("#"):
            head[words[0].upper()] = words[1:]
    return head, data[position:]


def _rows(head: dict[str, list[str]], body: bytes, count: int) -> dict[str, ndarray]:
    names, sizes, types = head["FIELDS"], [int(s) for s in head["SIZE"]], head["TYPE"]
    counts = [int(c) for c in head.get("COUNT", ["1"] * len(names))]
    kinds = [_TYPES[(t.upper(), s)] for t, s in zip(types, sizes, strict=True)]
    if head["DATA"][0] == "ascii":
        table = np.loadtxt(body.decode("ascii", "replace").splitlines()[:count], dtype=np.float64, ndmin=2)
        if table.shape != (count, sum(counts)):
            raise ValueError(f"{count} points promised, {len(table)} found")
        starts = np.cumsum([0, *counts])
        out: dict[str, ndarray] = {name: table[:, start] for name, start in zip(names, starts, strict=False)}
        for name, kind in zip(names, kinds, strict=True):
            if name in ("rgb", "rgba") and not kind.endswith("f4"):
                out[name] = out[name].astype(np.uint32)
        return out
    if head["DATA"][0] == "binary":
        dtype = np.dtype([(n, k, (c,)) for n, k, c in zip(names, kinds, counts, strict=True)])
        table = np.frombuffer(body, dtype, count)
        return {name: table[name][:, 0] for name in names if dtype[name].shape[0]}
    if head["DATA"][0] != "binary_compressed":
        raise ValueError(f"DATA {head['DATA'][0]} is not known")
    packed, whole = struct.unpack_from("<II", body)
    if whole > 64 * _MOST_POINTS:
        raise ValueError("it is too large")
    raw = lzf_decompress(body[8 : 8 + packed], whole)
    out, start = {}, 0
    for name, kind, width in zip(names, kinds, counts, strict=True):  # field after field
        column = np.frombuffer(raw, kind, count * width, start)
        start += column.nbytes
        out[name] = column.reshape(count, width)[:, 0]
    return out


def lzf_decompress(data: bytes, size: int) -> bytes:
    """Marc Lehmann's LZF: runs of literals, and references of 3 to 264 bytes up to 8 KB back."""
    out, i = bytearray(), 0
    while i < len(data):
        control = data[i]
        i += 1
        if control < 32:
            out += data[i : i + control + 1]
            i += control + 1
            continue
        length = control >> 5
        if length == 7:
            length += data[i]
            i += 1
        start = len(out) - ((control & 31) << 8) - data[i] - 1
        i += 1
        if start < 0:
            raise ValueError("its compressed data is damaged")
        length += 2
        distance = len(out) - start
        piece = bytes(out[start : start + length])
        out += (piece * (length // distance + 1))[:length] if distance < length else piece
        if len(out) > size:
            break
    if len(out) != size:
        raise ValueError("its compressed data is damaged")
    return bytes(out)


def _colors(rows: dict[str, ndarray]) -> Float[Tensor, "n 3"] | None:
    name = next((name for name in ("rgb", "rgba") if name in rows), None)
    if name is None:
        return None
    packed = rows[name]
    if packed.dtype.kind == "f":
        packed = packed.astype(np.float32).view(np.uint32)
    packed = packed.astype(np.uint32)
    levels = np.stack([packed >> 16 & 255, packed >> 8 & 255, packed & 255], 1)
    return torch.from_numpy(levels.astype(np.float32) / 255)
