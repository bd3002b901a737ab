"""Faces with labels for classifiers: AffectNet, CelebA-HQ, folders by class, or pictures listed in a CSV file.

    labelled_faces("affectnet:/data/AffectNet?split=train", size=256)       # 8 expressions, one each
    labelled_faces("celeba-hq:/data/CelebAMask-HQ", size=256)               # 40 attributes, many each
    labelled_faces("my/labels.csv", size=256)     # file,label  or  file,Beard,Hat,...  with 1 and 0 (or -1)

DiffAE's encoders know FFHQ's crops: where a set tells landmarks, faces are cut out so.
"""

import csv
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from PIL import Image
from torch import Tensor

from ...datasets.ffhq_align import align_ffhq
from ...datasets.kinds import DataSpec
from ...datasets.lmdb_diffae import resized_square
from ...datasets.records import EXPRESSIONS, USABLE, FaultReport, PictureRecord, Policy, usable
from ...geometry.errors import HeadlabError


@dataclass(eq=False)
class LabelledFaces:
    """Pictures by number, and their labels; see `diffae_training.Photos`."""

    records: Sequence[PictureRecord]
    labels: Int[Tensor, "count"] | Int[Tensor, "count classes"]  #: a class each, or 1 and 0 for every name
    names: tuple[str, ...]
    size: int  #: side, pixels
    aligned: bool = False  #: they are FFHQ's crops already
    report: FaultReport = field(default_factory=FaultReport)  #: what could not be used

    @property
    def count(self) -> int:
        return len(self.records)

    @property
    def single(self) -> bool:
        """Whether a picture has one class."""
        return self.labels.ndim == 1

    def load(self, indices: Int[Tensor, "batch"]) -> Float[Tensor, "batch 3 height width"]:
        """Pictures, -1..1.

        Raises:
            HeadlabError: one cannot be read.
        """
        return torch.stack([self._one(self.records[int(index)]) for index in indices])

    def _one(self, record: PictureRecord) -> Float[Tensor, "3 height width"]:
        picture, points = record.picture(), None if self.aligned else record.points
        cut = align_ffhq(picture, points, self.size) if points is not None else resized_square(picture, self.size)
        return _tensor(cut)

    def counts(self) -> dict[str, int]:
        """Pictures of each class."""
        of = torch.bincount(self.labels, minlength=len(self.names)) if self.single else (self.labels > 0).sum(0)
        return dict(zip(self.names, of.tolist(), strict=True))


def labelled_faces(text: str, size: int, *, aligned: bool = False, policy: Policy = "skip") -> LabelledFaces:
    """A labelled set.

    Args:
        text: KIND:PATH as `datasets.kinds` takes it, or the path of a CSV file.
        size: side of the pictures.
        aligned: they are FFHQ's crops already, although landmarks are known.
        policy: what unusable items do.

    Raises:
        HeadlabError: no such set, no labels in it, or a bad item where these shall stop it.
    """
    if text.lower().endswith(".csv"):
        return _of_table(Path(text), size, aligned)
    spec, report = DataSpec.parse(text), FaultReport()
    records: list[Any] = []
    rows: list[Any] = []
    names: tuple[str, ...] = EXPRESSIONS[:USABLE]
    for record in usable(spec.items(), policy, report):
        attributes = getattr(record, "attributes", None)
        if attributes is not None:
            names = tuple(getattr(record, "names", ()))
            rows.append(np.asarray(attributes, np.int64))
        elif 0 <= record.labels.expression < USABLE:
            rows.append(record.labels.expression)
        else:
            continue
        records.append(record)
    if not records:
        raise HeadlabError(
            f"{text} holds no labelled pictures; name AffectNet, CelebA-HQ, classes:FOLDER or a CSV file"
        )
    return LabelledFaces(records, torch.from_numpy(np.array(rows, np.int64)), names, size, aligned, report)


def _of_table(path: Path, size: int, aligned: bool) -> LabelledFaces:
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            head, *rows = [row for row in csv.reader(file) if row]
    except (OSError, UnicodeDecodeError, ValueError) as error:
        raise HeadlabError(f"{path} cannot be read as a table ({' '.join(str(error).split())[:100]})") from error
    if len(head) < 2 or not rows or any(len(row) != len(head) for row in rows):
        raise HeadlabError(
            f"{path} is no table of labels: its first line names the columns (file,label or file,NAME,NAME,...), "
            "and every other line has as many"
        )
    records = [_Listed(row[0], _inside(path, row[0])) for row in rows]
    if len(head) == 2 and not {row[1] for row in rows} <= {"-1", "0", "1"}:
        names = tuple(sorted({row[1] for row in rows}, key=_expressions_first))
        labels = torch.tensor([names.index(row[1]) for row in rows])
        return LabelledFaces(records, labels, names, size, aligned)
    if any(value not in ("-1", "0", "1") for row in rows for value in row[1:]):
        raise HeadlabError(f"{path}: labels of several columns are 1 (yes) and 0 or -1 (no)")
    many = torch.tensor([[int(value) > 0 for value in row[1:]] for row in rows]).long()
    return LabelledFaces(records, many, tuple(head[1:]), size, aligned)


class _Listed(PictureRecord):
    """A picture of a table."""


def _inside(table: Path, name: str) -> Path:
    path = Path(name)
    if path.is_absolute() or ".." in path.parts:
        raise HeadlabError(f"{table}: {name} leads out of the table's folder; give paths relative to it")
    if not (table.parent / path).is_file():
        raise HeadlabError(f"{table}: {name} is not there; give paths relative to the table")
    return table.parent / path


def _expressions_first(name: str) -> tuple[int, str]:
    lowered = [known.lower() for known in EXPRESSIONS]
    return (lowered.index(name.lower()) if name.lower() in lowered else len(lowered), name)


def _tensor(picture: Image.Image) -> Float[Tensor, "3 height width"]:
    return torch.from_numpy(np.array(picture.convert("RGB"))).permute(2, 0, 1).float() / 127.5 - 1
