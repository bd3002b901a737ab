"""Fits of `headlab fit` kept with the pictures of a data set."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float
from PIL import Image

from ..datasets.attached_fit import fit_told
from ..datasets.records import Fault, Labels, PictureRecord
from ..geometry.errors import HeadlabError
from .head_fit import HeadFit


@dataclass(frozen=True, eq=False)
class FittedRecord(PictureRecord):
    """A record with a fit of its picture."""

    record: PictureRecord
    fit: dict[str, Any]  #: `datasets.attached_fit.fit_told`

    @property
    def labels(self) -> Labels:
        return self.record.labels

    @property
    def points(self) -> Float[np.ndarray, "points 2"] | None:
        return self.record.points

    def encoded(self) -> bytes:
        return self.record.encoded()

    def picture(self) -> Image.Image:
        picture = self.record.picture()
        height, width = self.fit["size"]
        if picture.size != (width, height):
            raise HeadlabError(f"{self.key} has {picture.width} x {picture.height} pixels, its fit {width} x {height}")
        return picture

    def told(self) -> dict[str, Any]:
        return self.record.told() | {"fit": self.fit}


def with_fits(items: Iterable[PictureRecord | Fault], folder: Path) -> Iterator[PictureRecord | Fault]:
    """The same items; those that have a fit carry it, the others come as they are.

    Args:
        items: of a reader.
        folder: where KEY/head.npz lies, KEY without the picture's suffix, for instance train/12/head.npz.

    Raises:
        HeadlabError: no such folder.
    """
    if not folder.is_dir():
        raise HeadlabError(f"{folder} is no folder; name the one that holds KEY/head.npz")
    for item in items:
        if isinstance(item, Fault):
            yield item
            continue
        path = next((p for p in _places(folder, item) if p.is_file()), None)
        if path is None:
            yield item
            continue
        try:
            yield FittedRecord(item.key, item.path, item, _told(path, item))
        except HeadlabError as error:
            yield Fault(item.key, "missing annotation", str(error))


def _places(folder: Path, item: PictureRecord) -> list[Path]:
    key = Path(item.key)
    parts = [part for part in key.parts if part not in ("..", "/")]
    names = [key.stem, *([item.path.name] if item.path is not None else [])]  # `headlab batch` keeps the suffix
    folders = [place for name in names for place in (folder.joinpath(*parts[:-1], name), folder / name)]
    return [place / "head.npz" for place in folders]


def _told(path: Path, item: PictureRecord) -> dict[str, Any]:
    """The fit of an item's picture among those of a file."""
    head = HeadFit.load(path)
    names = [Path(source).name for source in head.sources]
    if len(names) > 1 and item.path.name not in names:
        raise HeadlabError(f"{path} is a fit of {', '.join(names[:3])}, not of {item.path.name}")
    index = names.index(item.path.name) if item.path.name in names else 0
    return fit_told(head.model, head.codes[index], head.cameras[index])
