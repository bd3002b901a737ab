"""Photo albums and plain folders of pictures: a folder of photos, or a folder of folders, one per person or class.

Imports no torch.
"""

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from ..geometry.errors import HeadlabError
from .records import EXPRESSIONS, Fault, Labels, PictureRecord

#: File names that count as photos.
SUFFIXES = {".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff"}
_CLASSES = {name.lower(): i for i, name in enumerate(EXPRESSIONS)}


@dataclass(frozen=True, eq=False)
class AlbumRecord(PictureRecord):
    """One photo of an album."""

    person: str  #: name of the folder it lies in; "" where the albums' folder itself holds photos
    expression: int = -1  #: where folders are called by expressions ("Happy", or AffectNet's numbers)

    @property
    def labels(self) -> Labels:
        return Labels(self.expression, person="" if self.expression >= 0 else self.person)


def natural(name: str) -> list[tuple[int, str]]:
    """Order of names by the numbers in them."""
    return [(int(part), "") if part.isdigit() else (-1, part.lower()) for part in re.split(r"(\d+)", name)]


def read_albums(root: Path | str, *, classes: bool = False) -> Iterator[AlbumRecord | Fault]:
    """Photos, folder by folder, in the order of their names.

    Args:
        root: one album, or a folder of albums.
        classes: the folders are expressions, by name or by AffectNet's number, and not people.

    Raises:
        HeadlabError: no such folder, or no photo in it.
    """
    root = Path(root)
    if not root.is_dir():
        raise HeadlabError(f"{root} is no folder; name an album, or a folder of albums")
    found = False
    for item in _walk(root, root, classes):
        found = True
        yield item
    if not found:
        raise HeadlabError(f"{root} holds no photos ({', '.join(sorted(SUFFIXES))})")


def _walk(root: Path, folder: Path, classes: bool) -> Iterator[AlbumRecord | Fault]:
    with os.scandir(folder) as entries:
        listed = sorted(
            ((e.name, e.is_dir()) for e in entries if not e.name.startswith(".")), key=lambda e: natural(e[0])
        )
    person = folder.relative_to(root).parts[0] if folder != root else ""
    expression = class_of(folder.name) if classes else -1
    for name, is_folder in listed:
        path = folder / name
        if is_folder:
            yield from _walk(root, path, classes)
        elif path.suffix.lower() in SUFFIXES:
            key = path.relative_to(root).as_posix()
            if classes and expression < 0:
                yield Fault(key, "missing annotation", f"folder {folder.name} is called by no expression")
            else:
                yield AlbumRecord(key, path, person, expression)


def class_of(name: str) -> int:
    """Index into EXPRESSIONS of a folder's name, -1 where it is none."""
    if name.isdigit():
        return int(name) if int(name) < len(EXPRESSIONS) else -1
    return _CLASSES.get(name.lower(), -1)
