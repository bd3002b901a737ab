"""FFHQ (Karras et al., 2019): 70 000 portraits, aligned and as found, with 68 landmarks.

    ffhq-dataset-v2.json                  one entry per number; 255 MB, read as a stream
    images1024x1024/00000/00000.png       aligned
    in-the-wild-images/00000/00000.png    as found
    thumbnails128x128/00000/00000.png     aligned, small

Without the table, the pictures of a folder are read alone. Imports no torch.
"""

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
from jaxtyping import Float

from ..geometry.errors import HeadlabError
from .json_stream import json_members
from .records import Fault, Labels, PictureRecord

View = Literal["aligned", "wild", "thumbnail"]
_PARTS: dict[str, tuple[str, str]] = {
    "aligned": ("image", "images1024x1024"),
    "wild": ("in_the_wild", "in-the-wild-images"),
    "thumbnail": ("thumbnail", "thumbnails128x128"),
}
_SPLITS = {"training": "train", "validation": "val"}
_NUMBER = re.compile(r"(\d+)\.(?:png|jpe?g|webp)", re.I)


@dataclass(frozen=True, eq=False)
class FfhqRecord(PictureRecord):
    """One portrait."""

    number: int  #: 0..69999
    view: View
    split: str = ""  #: "train" (the first 60 000) or "val", where the table tells
    landmarks: Float[np.ndarray, "68 2"] | None = None  #: pixels of this view
    quad: Float[np.ndarray, "4 2"] | None = None  #: corners of the aligned picture in the wild one, pixels
    about: dict[str, Any] = field(default_factory=dict)  #: author, licence, country... as the table has it

    @property
    def labels(self) -> Labels:
        return Labels(split=self.split)

    @property
    def points(self) -> Float[np.ndarray, "points 2"] | None:
        return self.landmarks


def read_ffhq(root: Path | str, view: View = "aligned", split: str | None = None) -> Iterator[FfhqRecord | Fault]:
    """Portraits in the order of the table, or of their numbers where there is none.

    Args:
        root: FFHQ's folder, or one that holds numbered pictures, in subfolders or not.
        view: which picture of each.
        split: "train" or "val"; needs the table.

    Raises:
        HeadlabError: nothing of FFHQ is there.
    """
    root = Path(root)
    table = next(
        (path for path in (root / "ffhq-dataset-v2.json", root / "ffhq-dataset-v1.json") if path.is_file()), None
    )
    if table is not None:
        yield from _from_table(root, table, view, split)
        return
    if split is not None:
        raise HeadlabError(f"{root} has no ffhq-dataset-v2.json, which tells the split; leave out split={split}")
    base = root / _PARTS[view][1]
    if not base.is_dir():
        base = root
    found = False
    for item in _numbered_pictures(base, view):
        found = True
        yield item
    if not found:
        raise HeadlabError(f"{root} holds neither ffhq-dataset-v2.json nor numbered pictures; name FFHQ's folder")


def _from_table(root: Path, table: Path, view: View, split: str | None) -> Iterator[FfhqRecord | Fault]:
    part, _ = _PARTS[view]
    seen: set[int] = set()
    members = json_members(table)
    while True:
        try:
            entry = next(members, None)
        except HeadlabError as error:
            if not seen:
                raise
            yield Fault(table.name, "missing annotation", f"after number {max(seen)}: {error}")
            return
        if entry is None:
            return
        name, value = entry
        key = f"ffhq/{name}"
        try:
            number, piece = int(name), value[part]
            where = _SPLITS.get(value.get("category", ""), "")
            path = Path(piece["file_path"])
            landmarks = _points(piece.get("face_landmarks"), 68)
            quad = _points(piece.get("face_quad"), 4)
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            yield Fault(key, "missing annotation", f"its entry has no {error}")
            continue
        if split is not None and where != split:
            continue
        if number in seen:
            yield Fault(key, "duplicate index", "the table has it twice")
        elif path.is_absolute() or ".." in path.parts:
            yield Fault(key, "missing picture", f"{path} leaves the folder")
        else:
            seen.add(number)
            yield FfhqRecord(
                f"ffhq/{number:05d}", root / path, number, view, where, landmarks, quad, value.get("metadata", {})
            )


def _points(values: Any, count: int) -> np.ndarray | None:
    if values is None:
        return None
    points = np.asarray(values, np.float64)
    if points.size != 2 * count or not np.isfinite(points).all():
        raise ValueError(f"{count} points")
    return points.reshape(count, 2)


def _numbered_pictures(base: Path, view: View) -> Iterator[FfhqRecord | Fault]:
    """Folder by folder (each holds a thousand), so that nothing is listed before it is needed."""
    if not base.is_dir():
        return
    with os.scandir(base) as entries:
        listed = sorted((entry.name, entry.is_dir()) for entry in entries)
    files = [(int(m[1]), base / name) for name, folder in listed if not folder and (m := _NUMBER.fullmatch(name))]
    yield from _each_once(files, view)
    for name, folder in listed:
        if folder and name.isdigit():
            inside = sorted(os.listdir(base / name))
            yield from _each_once([(int(m[1]), base / name / n) for n in inside if (m := _NUMBER.fullmatch(n))], view)


def _each_once(files: list[tuple[int, Path]], view: View) -> Iterator[FfhqRecord | Fault]:
    by_number: dict[int, list[Path]] = {}
    for number, path in files:
        by_number.setdefault(number, []).append(path)
    for number in sorted(by_number):
        paths, key = by_number[number], f"ffhq/{number:05d}"
        if len(paths) > 1:
            yield Fault(key, "duplicate index", f"{' and '.join(path.name for path in paths)} have one number")
        else:
            yield FfhqRecord(key, paths[0], number, view)
