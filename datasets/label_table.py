"""The labels of a whole data set as columns: what is counted and balanced. Imports no torch.

AffectNet's hundreds of thousands of small files are read without making a record of each.
"""

import csv
import os
from collections.abc import Iterable
from dataclasses import dataclass, field
from itertools import chain, pairwise
from pathlib import Path

import numpy as np
from jaxtyping import Float32, Int, Int8

from .affectnet import affectnet_folder, affectnet_table, numbered, table_columns
from .journal import labels_of
from .kinds import DataSpec
from .npy_scalar import NumberReader
from .records import EXPRESSIONS, USABLE, Fault, FaultReport, Labels, Policy, stopped, usable


@dataclass(frozen=True, eq=False)
class LabelTable:
    """Labels of the usable items of a set, in its order."""

    keys: list[str]
    expression: Int8[np.ndarray, "items"]  #: index into EXPRESSIONS, -1: unknown
    valence: Float32[np.ndarray, "items"]  #: NaN: unknown
    arousal: Float32[np.ndarray, "items"]  #: NaN: unknown
    splits: dict[str, int] = field(default_factory=dict)  #: items per split
    faults: FaultReport = field(default_factory=FaultReport)

    def __len__(self) -> int:
        return len(self.keys)

    def counts(self) -> Int[np.ndarray, "12"]:
        """Items per class of EXPRESSIONS, then those of unknown class."""
        return np.bincount(
            np.where(self.expression < 0, len(EXPRESSIONS), self.expression), minlength=len(EXPRESSIONS) + 1
        )


def label_table(spec: DataSpec, policy: Policy = "skip") -> LabelTable:
    """Labels of a set.

    Args:
        spec: which.
        policy: what bad items do.

    Raises:
        HeadlabError: nothing there; a bad item, where these shall stop it.
    """
    if spec.kind == "affectnet":
        options = dict(spec.options)
        splits = [options["split"]] if "split" in options else ["train", "val"]
        table = _affectnet(Path(spec.path), splits, options.get("classes") != "all", policy)
        if table is not None:
            return table
    if spec.kind == "lmdb":
        from .store_records import LmdbPictures

        size = dict(spec.options).get("size")
        store = LmdbPictures(spec.path, None if size is None else int(size))
        lines = ((str(line.get("key", i)), labels_of(line)) for i, line in enumerate(store.lines()))
        return _columns(lines, FaultReport())  # the pictures themselves are not read
    faults = FaultReport()
    return _columns(((item.key, item.labels) for item in usable(spec.items(), policy, faults)), faults)


def _columns(items: Iterable[tuple[str, Labels]], faults: FaultReport) -> LabelTable:
    keys, rows, splits = [], [], {}
    for key, labels in items:
        keys.append(key)
        rows.append((labels.expression, labels.valence, labels.arousal))
        if labels.split:
            splits[labels.split] = splits.get(labels.split, 0) + 1
    columns = np.array(rows, np.float32).reshape(-1, 3)
    return LabelTable(keys, columns[:, 0].astype(np.int8), columns[:, 1], columns[:, 2], splits, faults)


def _affectnet(root: Path, splits: list[str], only_usable: bool, policy: Policy) -> LabelTable | None:
    """AffectNet's labels by the column; None where it is not there (the reader says why)."""
    faults, parts, counted = FaultReport(), [], {}
    for split in splits:
        folder, table = affectnet_folder(root, split), affectnet_table(root, split)  # type: ignore[arg-type]
        if folder is not None:
            part = _folder_columns(folder)
        elif table is not None:
            part = _table_columns(table)
        else:
            continue
        keys, values, troubles = part
        keep = _check(keys, values, split, policy, faults, troubles)
        if only_usable:
            keep &= ~(values[:, 0] >= USABLE)
        values = values[keep]
        values[(values[:, 1:] == -2).any(1), 1:] = np.nan
        parts.append(([f"{split}/{keys[i]}" for i in np.flatnonzero(keep)], values))
        counted[split] = int(keep.sum())
    if not parts:
        return None
    values = np.concatenate([part[1] for part in parts])
    return LabelTable(
        list(chain.from_iterable(part[0] for part in parts)),
        values[:, 0].astype(np.int8),
        values[:, 1].astype(np.float32),
        values[:, 2].astype(np.float32),
        counted,
        faults,
    )


def _folder_columns(folder: Path) -> tuple[list[str], np.ndarray, dict[int, Fault]]:
    """Names, and expression, valence, arousal of each. Counts pictures, or annotations where there are no pictures."""
    names = os.listdir(folder / "images") if (folder / "images").is_dir() else []
    stems = [name[:-4] for name in names if name[-4:].lower() in (".jpg", ".png")]
    stems += [name[:-5] for name in names if name[-5:].lower() == ".jpeg"]
    if not stems:
        stems = [name[:-8] for name in os.listdir(folder / "annotations") if name.endswith("_exp.npy")]
    troubles: dict[int, Fault] = {}
    stems = numbered(stems)
    if len(set(stems)) != len(stems):
        twice = {a for a, b in pairwise(stems) if a == b}
        stems = list(dict.fromkeys(stems))
        for i, stem in enumerate(stems):
            if stem in twice:
                troubles[i] = Fault(f"{folder.name}/{stem}", "duplicate index", "two files have one number")
    with NumberReader(folder / "annotations") as reader:
        columns = [reader.read_all([f"{stem}_{kind}.npy" for stem in stems]) for kind in ("exp", "val", "aro")]
    return stems, np.stack(columns, 1), troubles


def _table_columns(table: Path) -> tuple[list[str], np.ndarray, dict[int, Fault]]:
    names: list[str] = []
    labels: list[tuple[str, str, str]] = []
    troubles: dict[int, Fault] = {}
    seen: set[str] = set()
    with table.open(newline="", encoding="utf-8", errors="replace") as file:
        rows = csv.reader(file)
        columns = table_columns(table, next(rows, []))
        picture, *others = (columns[name] for name in ("subDirectory_filePath", "expression", "valence", "arousal"))
        for row in rows:
            if not row:
                continue
            try:
                name, label = row[picture], tuple(row[i] for i in others)
            except IndexError:
                name, label = f"line {len(names) + 2}", ("nan",) * 3
            if name in seen:
                troubles[len(names)] = Fault(name, "duplicate index", f"{table.name} names it twice")
            seen.add(name)
            names.append(name)
            labels.append(label)  # type: ignore[arg-type]
    try:
        values = np.array(labels, dtype=np.float64).reshape(-1, 3)
    except ValueError:
        values = np.array([[_float(text) for text in row] for row in labels]).reshape(-1, 3)
    return names, values, troubles


def _float(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return np.nan


def _check(
    keys: list[str], values: np.ndarray, split: str, policy: Policy, faults: FaultReport, troubles: dict[int, Fault]
) -> np.ndarray:
    """Which items are good; the others are counted."""
    expression, va = values[:, 0], values[:, 1:]
    missing = np.isnan(values).any(1)
    with np.errstate(invalid="ignore"):
        wrong = (expression != np.floor(expression)) | (expression < 0) | (expression >= len(EXPRESSIONS))
        wrong |= ((np.abs(va) > 1) & (va != -2)).any(1) & ~(va == -2).any(1)
    wrong &= ~missing
    good = ~(missing | wrong)
    found = {int(i): Fault(f"{split}/{keys[i]}", "missing annotation", "a label is missing or no number")
             for i in np.flatnonzero(missing)}  # fmt: skip
    for i in np.flatnonzero(wrong):
        told = ", ".join(f"{value:g}" for value in values[i])
        found[int(i)] = Fault(f"{split}/{keys[i]}", "label out of range", f"expression, valence, arousal {told}")
    found |= troubles
    for i in sorted(found):
        if policy == "stop":
            raise stopped(found[i])
        good[i] = False
        faults.add(found[i])
    return good
