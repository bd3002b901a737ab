"""What every reader of this folder yields, in the order of its data set: a typed record per item, or a `Fault`.

    reader ──> PictureRecord | Fault ──> usable() ──> PictureRecord      (faults counted, named, skipped or fatal)

A record knows where its picture is and what was said about it; the picture itself is read when asked for. Bad items
come out in their place instead of being dropped, so whoever reads decides, and can say what was left out.
Imports no torch.
"""

import math
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
from jaxtyping import Float
from PIL import Image

from ..geometry.errors import HeadlabError
from .picture_codec import decode_strict

#: AffectNet's classes, in its order; the first eight are expressions.
EXPRESSIONS = (
    "Neutral",
    "Happy",
    "Sad",
    "Surprise",
    "Fear",
    "Disgust",
    "Anger",
    "Contempt",
    "None",
    "Uncertain",
    "Non-Face",
)
USABLE = 8

#: What can be wrong with an item.
FaultKind = Literal[
    "missing annotation", "label out of range", "missing picture", "unreadable", "duplicate index", "truncated shard"
]
Policy = Literal["skip", "stop"]


@dataclass(frozen=True)
class Labels:
    """What is known of a face, in one form for all data sets."""

    expression: int = -1  #: index into EXPRESSIONS, -1: unknown
    valence: float | int = math.nan  #: -1..1, NaN: unknown
    arousal: float | int = math.nan  #: -1..1, NaN: unknown
    person: str = ""  #: who, where the data set tells
    split: str = ""  #: "train", "val" or "test", where there are such


@dataclass(frozen=True)
class Fault:
    """An item that cannot be used."""

    key: str
    kind: FaultKind
    why: str  #: one line

    def __str__(self) -> str:
        return f"{self.key}: {self.kind} ({self.why})"


@dataclass(frozen=True, eq=False)
class PictureRecord:
    """An item with a picture."""

    key: str  #: unique in its data set, the same in every run
    path: Path  #: of the picture, or of the file that holds it

    def encoded(self) -> bytes:
        """The picture's file.

        Raises:
            HeadlabError: it cannot be read.
        """
        try:
            return self.path.read_bytes()
        except OSError as error:
            raise HeadlabError(f"{self.path} cannot be read ({error.strerror}); get a whole copy of the set") from error

    def picture(self) -> Image.Image:
        """The picture, RGB, upright.

        Raises:
            HeadlabError: it is missing, damaged, cut short or too large.
        """
        return decode_strict(self.encoded(), str(self.path))

    def looked(self) -> tuple[tuple[int, int], Image.Image | None]:
        """(width, height), and the picture, if it is one.

        Raises:
            HeadlabError: as `picture`.
        """
        picture = self.picture()
        return picture.size, picture

    @property
    def labels(self) -> Labels:
        return Labels()

    @property
    def points(self) -> Float[np.ndarray, "points 2"] | None:
        """Landmarks in pixels of the picture: 68 (iBUG's order), or None."""
        return None

    def told(self) -> dict[str, Any]:
        """What stores keep beside the picture, as JSON: labels that are known, and landmarks."""
        labels = self.labels
        told: dict[str, Any] = {}
        if labels.expression >= 0:
            told["expression"] = labels.expression
        for name in ("valence", "arousal"):
            value = getattr(labels, name)
            if math.isfinite(value):
                told[name] = round(float(value), 6)
        for name in ("person", "split"):
            if getattr(labels, name):
                told[name] = getattr(labels, name)
        if self.points is not None:
            told["points"] = np.round(self.points.astype(float), 3).tolist()
        return told


@dataclass
class FaultReport:
    """What was wrong, counted, with the first names of each kind."""

    counts: Counter = field(default_factory=Counter)
    named: dict[str, list[str]] = field(default_factory=dict)
    most_named: int = 20

    def add(self, fault: Fault) -> None:
        self.counts[fault.kind] += 1
        names = self.named.setdefault(fault.kind, [])
        if len(names) < self.most_named:
            names.append(f"{fault.key}: {fault.why}")

    @property
    def total(self) -> int:
        return sum(self.counts.values())

    def lines(self) -> list[str]:
        """For people."""
        out = []
        for kind, count in sorted(self.counts.items()):
            out.append(f"{kind}: {count}")
            out += [f"  {name}" for name in self.named[kind]]
            if count > len(self.named[kind]):
                out.append(f"  ... and {count - len(self.named[kind])} more")
        return out


def stopped(fault: Fault) -> HeadlabError:
    """The error that ends a run where faults shall stop it."""
    return HeadlabError(f"{fault}; mend or remove it, or say --bad skip to go on without such items")


def usable(
    items: Iterable[PictureRecord | Fault], policy: Policy = "skip", report: FaultReport | None = None
) -> Iterator[PictureRecord]:
    """The records of a stream.

    Args:
        items: from a reader.
        policy: "skip" leaves faults out and counts them, "stop" ends at the first.
        report: where faults are counted.

    Raises:
        HeadlabError: a fault, where the policy is "stop".
    """
    for item in items:
        if isinstance(item, Fault):
            if policy == "stop":
                raise stopped(item)
            if report is not None:
                report.add(item)
        else:
            yield item


def in_range(value: float | int, low: float | int = -1.0, high: float | int = 1.0) -> bool:
    """Whether a label lies where it must; NaN does not."""
    return bool(low <= value <= high)
