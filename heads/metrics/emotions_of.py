"""`headlab evaluate emotion`: what a network reads in pictures against what they should show."""

import csv
import math
from collections.abc import Callable
from pathlib import Path

import numpy as np

from ...geometry.errors import HeadlabError
from ...geometry.landmarks.open_detector import open_detector
from ..emotions import category_index
from .agreement import CLASSES, Confusion, agreement
from .chosen import Networks
from .faces import Portrait, read_portraits
from .plots import confusion_table, scatter
from .report import Figure, Report


def evaluate_emotion(
    folder: Path, labels: Path, networks: Networks, *, progress: Callable[[str], None] | None = None
) -> Report:
    """Accuracy, confusion over 8 classes, and CCC, PCC, RMSE, SAGR of valence and arousal.

    Args:
        folder: the pictures.
        labels: CSV with `file` and any of `expression` (a name or AffectNet's number), `valence`, `arousal`.
        networks: what to look with.
        progress: called with a line now and then.

    Raises:
        HeadlabError: the table cannot be used, or no picture of it has a face.
    """
    wanted = _labels(labels, folder)
    report = Report(f"emotion in {folder.name or folder}")
    report.settings = {"folder": str(folder), "labels": str(labels)}
    paths, card = list(wanted), networks.emotion.card
    with open_detector("auto") as detector:
        for i, (path, read) in enumerate(zip(paths, read_portraits(paths, detector), strict=True)):
            shown = path.relative_to(folder).as_posix()
            if not isinstance(read, Portrait):
                report.leave_out("cannot be read", shown)
                continue
            if read.face is None:
                report.leave_out("no face found", shown)
                continue
            found = networks.emotion.read([read])
            row = {"picture": shown, **wanted[path], "read": CLASSES[int(found.category[0])]}
            if found.valence is not None and found.arousal is not None:
                row |= {"read_valence": float(found.valence[0]), "read_arousal": float(found.arousal[0])}
            report.rows.append(row)
            if progress is not None and i % 16 == 15:
                progress(f"{i + 1} of {len(paths)}")
    if not report.rows:
        raise HeadlabError(f"no picture that {labels} names has a face in {folder}")
    named = [row for row in report.rows if "expression" in row]
    if named:
        got, true = ([CLASSES.index(str(row[key])) for row in named] for key in ("read", "expression"))
        table = Confusion.of(np.array(got), np.array(true))
        report.add("expression accuracy", table.accuracy, "", card, len(named))
        report.add("balanced accuracy", table.balanced_accuracy, "", card, len(named), note="mean recall")
        report.figures += [Figure(f"recall of {name}", value, "", card) for name, value in table.recall.items()]
        report.pictures["confusion"] = confusion_table(table.counts, CLASSES, card.name)
    for which in ("valence", "arousal"):
        pairs = [(row[f"read_{which}"], row[which]) for row in report.rows if which in row and f"read_{which}" in row]
        if pairs:
            got, true = np.array(pairs, float).T
            for name, value in agreement(got, true).items():
                report.add(f"{which} {name}", value, "", card, len(pairs))
            report.pictures[which] = scatter(true, got, f"{which}, wanted", f"{which}, read", card.name)
    return report


def _labels(path: Path, folder: Path) -> dict[Path, dict[str, str | float]]:
    try:
        rows = list(csv.DictReader(path.read_text(encoding="utf-8-sig").splitlines()))
    except (OSError, UnicodeDecodeError) as error:
        raise HeadlabError(f"{path} cannot be read ({error}); give a CSV with a column file") from error
    if not rows or "file" not in rows[0] or not {"expression", "valence", "arousal"} & set(rows[0]):
        raise HeadlabError(f"{path} needs a column `file` and one of expression, valence, arousal")
    out: dict[Path, dict[str, str | float]] = {}
    for number, row in enumerate(rows, 2):
        labels: dict[str, str | float] = {}
        if text := (row.get("expression") or "").strip():
            index = int(text) if text.isdigit() else category_index(text)
            if not 0 <= index < len(CLASSES):
                raise HeadlabError(f"{path}, line {number}: expression {index} is none of 0..7")
            labels["expression"] = CLASSES[index]
        for which in ("valence", "arousal"):
            if text := (row.get(which) or "").strip():
                try:
                    value = float(text)
                except ValueError:
                    value = math.nan
                if not -1 <= value <= 1:
                    raise HeadlabError(f"{path}, line {number}: {which} {text!r} is not within -1..1")
                labels[which] = value
        out[folder / row["file"]] = labels
    return out
