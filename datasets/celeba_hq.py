"""CelebA-HQ (Karras et al., 2018) as CelebAMask-HQ gives it out: 30 000 portraits, 40 attributes, head pose.

    CelebA-HQ-img/0.jpg ...
    CelebAMask-HQ-attribute-anno.txt    count; 40 names; "0.jpg  -1 1 ..." per picture
    CelebAMask-HQ-pose-anno.txt         count; "Yaw Pitch Raw"; "0.jpg 4.18 -14.9 0.1" per picture, degrees
    CelebA-HQ-to-CelebA-mapping.txt     "idx orig_idx orig_file" and a line per picture (tells the split)

Imports no torch.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path

import numpy as np
from jaxtyping import Int8

from ..geometry.errors import HeadlabError
from .records import Fault, Labels, PictureRecord

_ATTRIBUTES, _POSE = "CelebAMask-HQ-attribute-anno.txt", "CelebAMask-HQ-pose-anno.txt"
_MAPPING, _PICTURES = "CelebA-HQ-to-CelebA-mapping.txt", "CelebA-HQ-img"
#: First numbers of CelebA's files that are validation and test (list_eval_partition.txt).
_VALIDATION, _TEST = 162_771, 182_638
COUNT = 40


@dataclass(frozen=True, eq=False)
class CelebaHqRecord(PictureRecord):
    """One portrait."""

    number: int
    attributes: Int8[np.ndarray, "40"]  #: 1: has it, 0: has it not
    names: tuple[str, ...]  #: of the attributes
    pose: tuple[float, float, float] | None = None  #: yaw, pitch, roll, degrees
    original: str = ""  #: CelebA's file
    split: str = ""  #: CelebA's: "train", "val", "test", where the mapping tells

    @property
    def labels(self) -> Labels:
        return Labels(split=self.split)

    def told(self) -> dict:
        told = super().told() | {"attributes": [n for n, v in zip(self.names, self.attributes, strict=True) if v]}
        return told if self.pose is None else told | {"pose": list(self.pose)}


def read_celeba_hq(root: Path | str, split: str | None = None) -> Iterator[CelebaHqRecord | Fault]:
    """Portraits in the order of the table of attributes; all three tables are read side by side, line by line.

    Args:
        root: folder of CelebAMask-HQ.
        split: "train", "val" or "test"; needs the mapping.

    Raises:
        HeadlabError: the table of attributes is missing or is another file.
    """
    root = Path(root)
    table = root / _ATTRIBUTES
    if not table.is_file():
        raise HeadlabError(f"{root} has no {_ATTRIBUTES}; name the folder of CelebAMask-HQ")
    if split is not None and not (root / _MAPPING).is_file():
        raise HeadlabError(f"{root} has no {_MAPPING}, which tells the split; leave out split={split}")
    with table.open(encoding="utf-8") as file:
        next(file, "")
        names = tuple(next(file, "").split())
        if len(names) != COUNT:
            raise HeadlabError(f"{table} names {len(names)} attributes in place of {COUNT}; it is another file")
        rows = zip_longest(file, _lines(root / _POSE, 2), _lines(root / _MAPPING, 1))
        seen: set[str] = set()
        for line, (said, pose, mapped) in enumerate(rows, 3):
            name, *values = said.split() if said else [""]
            if not name:
                if pose or mapped:
                    yield Fault(f"celeba/line {line}", "missing annotation", f"{_ATTRIBUTES} ends before the others")
                    return
                continue
            item = _record(root, name, values, pose, mapped, names)
            if name in seen:
                yield Fault(item.key, "duplicate index", f"{_ATTRIBUTES} line {line} names it again")
            elif isinstance(item, Fault) or split is None or item.split == split:
                yield item
            seen.add(name)


def _record(root, name, values, pose, mapped, names) -> CelebaHqRecord | Fault:
    stem = Path(name).stem
    key = f"celeba/{stem}"
    if not stem.isdigit() or Path(name).name != name:
        return Fault(key, "missing annotation", f"{name} is no numbered picture")
    if len(values) != COUNT:
        return Fault(key, "missing annotation", f"{len(values)} attributes in place of {COUNT}")
    if not set(values) <= {"-1", "1", "0"}:
        return Fault(key, "label out of range", "an attribute is neither -1 nor 1")
    angles = None
    if pose is not None:
        words = pose.split()
        try:
            angles = tuple(float(v) for v in words[1:4])
        except ValueError:
            angles = ()
        if words[:1] != [name] or len(angles) != 3:
            return Fault(key, "missing annotation", f"{_POSE} has no pose in its place")
        if not all(math.isfinite(a) and abs(a) <= 180 for a in angles):
            return Fault(key, "label out of range", f"pose {angles} is not in degrees")
    original, split = "", ""
    if mapped is not None:
        words = mapped.split()
        if len(words) != 3 or words[0] != stem or not Path(words[2]).stem.isdigit():
            return Fault(key, "missing annotation", f"{_MAPPING} does not tell its origin")
        original, place = words[2], int(Path(words[2]).stem)
        split = "train" if place < _VALIDATION else "val" if place < _TEST else "test"
    attributes = np.array([value == "1" for value in values], np.int8)
    return CelebaHqRecord(key, root / _PICTURES / name, int(stem), attributes, names, angles, original, split)


def _lines(path: Path, skip: int) -> Iterator[str]:
    """Lines after the first few; none where there is no such file."""
    if path.is_file():
        with path.open(encoding="utf-8") as file:
            for number, line in enumerate(file):
                if number >= skip:
                    yield line
