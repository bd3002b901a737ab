"""A user study as one static page: which of two pictures is better, and which emotion is shown.

The page asks in an order of its own for every visitor, keeps answers in the browser until they are saved as CSV, and
needs no server. `analyse` turns the answers of many visitors into win rates and Bradley-Terry strengths.
"""

import csv
import json
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path

import numpy as np
from jaxtyping import Float
from numpy import ndarray

from ...geometry.errors import HeadlabError
from .agreement import CLASSES, Confusion
from .bootstrap import interval
from .faces import list_pictures
from .plots import confusion_table, ranking
from .report import Missing, Report
from .study_page import page

COLUMNS = ("visitor", "kind", "item", "left", "right", "choice", "seconds")


@dataclass(frozen=True)
class Study:
    """What is asked. Methods are folders; pictures of one name show one item."""

    methods: tuple[str, ...]
    pairs: tuple[tuple[str, str, str], ...]  #: item, method, method
    emotions: tuple[tuple[str, str, str], ...]  #: item, method, wanted class


def make_study(
    folder: Path,
    out: Path,
    *,
    question: str = "Which picture shows the same person more convincingly?",
    reference: str | None = None,
    most: int = 40,
    seed: int = 0,
) -> Study:
    """Write a study's page (`index.html`) and its pictures into an empty folder.

    Args:
        folder: one folder per method; an item's pictures have the same name in each. An item named
            `NAME@EXPRESSION` (an AffectNet class) is also asked about by emotion.
        out: an existing folder.
        question: asked above two pictures.
        reference: method shown above both, as the original; not judged itself.
        most: questions of each kind per visitor; chosen evenly over methods.
        seed: of the choice.

    Raises:
        HeadlabError: fewer than two methods, no common pictures, no such reference.
    """
    from ...datasets.photo import read_photo
    from ...geometry.files import encode_image, write_bytes, write_text

    methods = tuple(sorted(path.name for path in Path(folder).iterdir() if path.is_dir()))
    if reference is not None and reference not in methods:
        raise HeadlabError(f"{folder} has no folder {reference}; its folders are {', '.join(methods)}")
    judged = tuple(method for method in methods if method != reference)
    if len(judged) < 2:
        raise HeadlabError(f"{folder} needs one folder of pictures per method, at least two to compare")
    files = {
        method: {
            path.relative_to(folder / method).with_suffix("").as_posix(): path
            for path in list_pictures(folder / method)
        }
        for method in methods
    }
    items = sorted(set.intersection(*(set(named) for named in files.values())))
    if not items:
        raise HeadlabError(f"the folders of {folder} have no picture of the same name in all of them")
    rng = np.random.default_rng(seed)
    pairs = [(item, *rng.permutation(pair).tolist()) for pair in combinations(judged, 2) for item in items]
    emotions = [
        (item, method, item.rpartition("@")[2].lower())
        for item in items
        for method in judged
        if item.rpartition("@")[2].lower() in CLASSES and "@" in item
    ]
    study = Study(judged, tuple(_some(pairs, most, rng)), tuple(_some(emotions, most, rng)))
    used = {(item, method) for item, a, b in study.pairs for method in (a, b)}
    used |= {(item, method) for item, method, _ in study.emotions}
    if reference is not None:
        used |= {(item, reference) for item, _, _ in study.pairs}
    sources = {}
    (out / "pictures").mkdir(exist_ok=True)
    for number, (item, method) in enumerate(sorted(used)):
        # Numbers for names: a visitor must not read the method off the address.
        name = f"pictures/{number:05d}.jpg"
        write_bytes(out / name, encode_image(read_photo(files[method][item]).image, "JPEG"))
        sources[f"{item}|{method}"] = name
    data = {
        "question": question,
        "classes": CLASSES,
        "pairs": [{"item": i, "left": a, "right": b} for i, a, b in study.pairs],
        "emotions": [{"item": i, "method": m, "wanted": w} for i, m, w in study.emotions],
        "reference": reference,
        "sources": sources,
        "columns": COLUMNS,
    }
    write_text(out / "index.html", page(data))
    write_text(out / "study.json", json.dumps(data, indent=1))
    return study


def analyse(answers: Sequence[Path], *, rounds: int = 500, seed: int = 0) -> Report:
    """Win rates, Bradley-Terry strengths with 95 % intervals, and what emotions were seen.

    Intervals come from drawing visitors anew (bootstrap), so that one busy visitor counts as one.

    Raises:
        HeadlabError: no answers, or a file that is none of a study's.
    """
    rows = [row for path in answers for row in _answers(path)]
    if not rows:
        raise HeadlabError("the files hold no answers; give the CSV files that visitors saved")
    report = Report("user study")
    visitors = sorted({row["visitor"] for row in rows})
    report.settings = {"answers": len(rows), "visitors": len(visitors), "files": [str(path) for path in answers]}
    pairs = [row for row in rows if row["kind"] == "pair" and row["choice"] in ("left", "right", "equal")]
    if pairs:
        _preferences(report, pairs, visitors, rounds, seed)
    else:
        report.missing.append(Missing("preferences", "no pairs were judged", "let visitors judge pairs"))
    seen = [row for row in rows if row["kind"] == "emotion" and row["choice"] in CLASSES]
    for method in sorted({row["left"] for row in seen}):
        own = [row for row in seen if row["left"] == method]
        got, true = ([CLASSES.index(row[key]) for row in own] for key in ("choice", "right"))
        table = Confusion.of(np.array(got), np.array(true))
        report.add(f"{method}: emotion recognised", table.accuracy, "", None, len(own))
        report.pictures[f"emotions seen in {method}"] = confusion_table(table.counts, CLASSES, method)
    report.rows = [dict(row) for row in rows]
    return report


def bradley_terry(wins: Float[ndarray, "n n"], *, rounds: int = 200, prior: float = 0.1) -> Float[ndarray, "n"]:
    """Strengths with P(i over j) = s_i / (s_i + s_j), summing to 1 (Bradley and Terry 1952; Hunter 2004's updates).

    Args:
        wins: (i, j): how often i was preferred to j; a tie is half a win for both.
        rounds: of the iteration.
        prior: wins added to every pair, so that one who always wins has a finite strength.
    """
    n = len(wins)
    wins = wins + prior * (1 - np.eye(n))
    games, strength = wins + wins.T, np.full(n, 1 / n)
    for _ in range(rounds):
        expected = (games / (strength[:, None] + strength[None])).sum(1)
        strength = wins.sum(1) / expected
        strength = strength / strength.sum()
    return strength


def _preferences(report: Report, pairs: list[dict], visitors: list[str], rounds: int, seed: int) -> None:
    methods = sorted({row[side] for row in pairs for side in ("left", "right")})
    per_visitor = np.zeros((len(visitors), len(methods), len(methods)))
    for row in pairs:
        left, right = methods.index(row["left"]), methods.index(row["right"])
        share = {"left": 1.0, "right": 0.0, "equal": 0.5}[row["choice"]]
        at = per_visitor[visitors.index(row["visitor"])]
        at[left, right] += share
        at[right, left] += 1 - share
    wins = per_visitor.sum(0)
    rng = np.random.default_rng(seed)
    drawn = [per_visitor[rng.integers(0, len(visitors), len(visitors))].sum(0) for _ in range(rounds)]
    strengths = np.array([bradley_terry(sample) for sample in drawn])
    own = bradley_terry(wins)
    spans = [tuple(np.quantile(strengths[:, i], (0.025, 0.975)).tolist()) for i in range(len(methods))]
    order = np.argsort(-own)
    for i in order:
        judged = int((wins[i] + wins[:, i]).sum())
        report.add(f"{methods[i]}: Bradley-Terry", float(own[i]), "", None, judged, *spans[i], note="sums to 1")
        outcome = np.array([w for row in pairs for w in _outcomes(row, methods[i])])
        low, high = interval(outcome, lambda rows: rows.mean(-1), seed=seed)
        report.add(f"{methods[i]}: win rate", float(outcome.mean()), "", None, judged, low, high)
    report.pictures["Bradley-Terry strengths"] = ranking(
        [methods[i] for i in order], own[order].tolist(), [spans[i] for i in order], "strength", "preference"
    )


def _outcomes(row: dict, method: str) -> list[float]:
    if row["choice"] == "equal":
        return [0.5] if method in (row["left"], row["right"]) else []
    won = row[row["choice"]]
    return [float(won == method)] if method in (row["left"], row["right"]) else []


def _answers(path: Path) -> list[dict[str, str]]:
    try:
        rows = list(csv.DictReader(Path(path).read_text(encoding="utf-8-sig").splitlines()))
    except (OSError, UnicodeDecodeError) as error:
        raise HeadlabError(f"{path} cannot be read ({error}); give the CSV that the study's page saved") from error
    if rows and not set(COLUMNS) <= set(rows[0]):
        raise HeadlabError(f"{path} is no answer file of a study; its columns are {', '.join(COLUMNS)}")
    return rows


def _some(items: list, most: int, rng: np.random.Generator) -> list:
    """At most so many, in order of a shuffle."""
    return [items[i] for i in rng.permutation(len(items))[:most]]
