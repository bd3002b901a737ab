"""AffectNet (Mollahosseini et al., 2019): photos with an expression class, valence, arousal and 68 landmarks.

Two layouts are read:

    train_set/images/0.jpg  train_set/annotations/0_{exp,val,aro,lnd}.npy      (val_set likewise) 8 classes, 224 x 224
    training.csv, validation.csv, Manually_Annotated_Images/12/ab….jpg          11 classes, as found in the wild

Numbers in the .npy files are numbers or text. Valence and arousal are -2 where they mean nothing.
"""

import csv
import math
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from jaxtyping import Float

from ..geometry.errors import HeadlabError
from .npy_scalar import NumberReader, parse_npy
from .records import EXPRESSIONS, USABLE, Fault, Labels, PictureRecord, in_range

Split = Literal["train", "val"]
_FOLDERS = {"train": "train_set", "val": "val_set"}
_TABLES = {"train": ("training.csv", "automatically_annotated.csv"), "val": ("validation.csv",)}
_PICTURES = (
    "Manually_Annotated_Images",
    "Manually_Annotated/Manually_Annotated_Images",
    "Manually_Annotated",
    "images",
)
#: Columns that a table has.
_COLUMNS = ("subDirectory_filePath", "expression", "valence", "arousal")
_BOX = ("face_x", "face_y", "face_width", "face_height")
_NOTHING = -2  #: valence and arousal of items that have none


@dataclass(frozen=True, eq=False)
class AffectNetRecord(PictureRecord):
    """One photo of AffectNet."""

    expression: int  #: index into EXPRESSIONS
    valence: float  #: -1..1, NaN where there is none
    arousal: float  #: -1..1, NaN where there is none
    split: Split
    landmarks: Float[np.ndarray, "68 2"] | None = None  #: pixels of the photo
    box: tuple[float, float, float, float] | None = None  #: x, y, width, height of the face, pixels (tables only)

    @property
    def labels(self) -> Labels:
        return Labels(self.expression, self.valence, self.arousal, split=self.split)

    @property
    def points(self) -> Float[np.ndarray, "points 2"] | None:
        return self.landmarks


def read_affectnet(
    root: Path | str, split: Split | None = None, *, only_usable: bool = True, landmarks: bool = True
) -> Iterator[AffectNetRecord | Fault]:
    """Photos in the order of their names (folders) or lines (tables).

    Args:
        root: folder that holds train_set/ and val_set/, or training.csv and validation.csv.
        split: one of them, or both where None.
        only_usable: leave out the classes None, Uncertain and Non-Face.
        landmarks: read them too.

    Raises:
        HeadlabError: neither layout is there.
    """
    root = Path(root)
    splits: tuple[Split, ...] = (split,) if split else ("train", "val")
    for name in splits:
        folder, table = affectnet_folder(root, name), affectnet_table(root, name)
        if folder is not None:
            items = _from_folder(folder, name, landmarks)
        elif table is not None:
            items = _from_table(table, name, landmarks)
        elif split is None and (affectnet_folder(root, "train") or affectnet_table(root, "train")):
            continue  # only training data
        else:
            raise HeadlabError(
                f"{root} holds neither {_FOLDERS[name]}/annotations nor {_TABLES[name][0]}; name AffectNet's folder"
            )
        for item in items:
            if not only_usable or isinstance(item, Fault) or item.expression < USABLE:
                yield item


def affectnet_folder(root: Path, split: Split) -> Path | None:
    """Where a split lies in the layout of folders."""
    folder = root / _FOLDERS[split]
    return folder if (folder / "annotations").is_dir() else None


def affectnet_table(root: Path, split: Split) -> Path | None:
    """The table of a split."""
    places = [base / name for base in (root, root / "Manually_Annotated_file_lists") for name in _TABLES[split]]
    return next((path for path in places if path.is_file()), None)


def numbered(names: list[str]) -> list[str]:
    """In the order of the numbers that they are, others after them."""
    return sorted(names, key=lambda name: (0, int(name), name) if name.isdigit() else (1, 0, name))


def _from_folder(folder: Path, split: Split, landmarks: bool) -> Iterator[AffectNetRecord | Fault]:
    pictures, notes = folder / "images", folder / "annotations"
    files: dict[str, list[str]] = {}
    for name in os.listdir(pictures) if pictures.is_dir() else ():
        stem, dot, kind = name.rpartition(".")
        if dot and kind.lower() in ("jpg", "jpeg", "png") and stem:
            files.setdefault(stem, []).append(name)
    with NumberReader(notes) as reader:
        for stem in numbered(list(files)):
            key = f"{split}/{stem}"
            if len(files[stem]) > 1:
                yield Fault(key, "duplicate index", f"{' and '.join(sorted(files[stem]))} have one number")
                continue
            try:
                expression, valence, arousal = (reader.read(f"{stem}_{name}.npy") for name in ("exp", "val", "aro"))
                points = _landmarks(notes / f"{stem}_lnd.npy") if landmarks else None
            except OSError as error:
                yield Fault(key, "missing annotation", f"{Path(str(error.filename)).name}: {error.strerror}")
                continue
            except ValueError as error:
                yield Fault(key, "missing annotation", f"annotation of {stem} is damaged: {error}")
                continue
            yield _checked(key, pictures / files[stem][0], expression, valence, arousal, split, points, None)


def _landmarks(path: Path) -> Float[np.ndarray, "68 2"] | None:
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        return None
    values = parse_npy(data).astype(np.float32).reshape(-1)
    if values.size != 136:
        raise ValueError(f"{path.name} holds {values.size} numbers in place of 136")
    return values.reshape(68, 2)


def _from_table(table: Path, split: Split, landmarks: bool) -> Iterator[AffectNetRecord | Fault]:
    root = table.parent if table.parent.name != "Manually_Annotated_file_lists" else table.parent.parent
    base = next((root / name for name in _PICTURES if (root / name).is_dir()), root / _PICTURES[0])
    with table.open(newline="", encoding="utf-8", errors="replace") as file:
        rows = csv.reader(file)
        columns = table_columns(table, next(rows, []))
        extra = {
            name: columns.get(name) for name in ("facial_landmarks", "face_x", "face_y", "face_width", "face_height")
        }
        seen: set[str] = set()
        for line, row in enumerate(rows, 2):
            if not row:
                continue
            try:
                name, *labels = (row[columns[c]] for c in _COLUMNS)
                expression, valence, arousal = (float(value) for value in labels)
            except (IndexError, ValueError):
                yield Fault(f"{split}/line {line}", "missing annotation", f"{table.name} line {line} is incomplete")
                continue
            key = f"{split}/{name}"
            if Path(name).is_absolute() or ".." in Path(name).parts:
                yield Fault(key, "missing picture", "its name leaves the folder")
                continue
            if name in seen:
                yield Fault(key, "duplicate index", f"{table.name} line {line} names it again")
                continue
            seen.add(name)
            points, box = None, None
            if landmarks:
                points, box = _row_points(row, extra), _row_box(row, extra)
            yield _checked(key, base / name, expression, valence, arousal, split, points, box)


def table_columns(table: Path, header: list[str]) -> dict[str, int]:
    """Where AffectNet's columns are; automatically annotated tables of some copies have no header.

    Raises:
        HeadlabError: a column is missing.
    """
    columns = {name.strip().lstrip("\ufeff"): i for i, name in enumerate(header)}
    missing = [name for name in _COLUMNS if name not in columns]
    if missing:
        raise HeadlabError(f"{table} has no column {', '.join(missing)}; it is no table of AffectNet")
    return columns


def _row_points(row: list[str], columns: dict[str, int | None]) -> Float[np.ndarray, "68 2"] | None:
    at = columns["facial_landmarks"]
    try:
        values = np.array([float(v) for v in row[at].split(";")], np.float32) if at is not None else np.empty(0)
    except (IndexError, ValueError):
        return None
    return values.reshape(68, 2) if values.size == 136 else None


def _row_box(row: list[str], columns: dict[str, int | None]) -> tuple[float, float, float, float] | None:
    try:
        x, y, w, h = (float(row[i]) for name in _BOX if (i := columns[name]) is not None)
        return x, y, w, h
    except (IndexError, ValueError):
        return None


def _checked(key, path, expression, valence, arousal, split, points, box) -> AffectNetRecord | Fault:
    """A record, or what is wrong with its labels."""
    if not (math.isfinite(expression) and expression == int(expression) and 0 <= expression < len(EXPRESSIONS)):
        return Fault(key, "label out of range", f"expression {expression:g} is not 0..{len(EXPRESSIONS) - 1}")
    if valence == _NOTHING or arousal == _NOTHING:
        valence = arousal = math.nan
    elif not (in_range(valence) and in_range(arousal)):
        return Fault(key, "label out of range", f"valence {valence:g}, arousal {arousal:g} are not in -1..1")
    return AffectNetRecord(key, path, int(expression), valence, arousal, split, points, box)
