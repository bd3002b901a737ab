"""The list of a store's items: one line of JSON for each item of the source, in its order, pictures and faults alike.

    {"key": "train/12", "index": 12, "expression": 1, "valence": 0.4, ...}
    {"key": "train/13", "fault": "unreadable", "why": "..."}

It is what lets a conversion that was killed go on: as many lines as the store holds pictures are true, and the next
item of the source is the one after them. Imports no torch.
"""

import json
import math
import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from ..geometry.errors import HeadlabError
from .records import Fault, Labels

Line = dict[str, Any]


def fault_line(fault: Fault) -> Line:
    return {"key": fault.key, "fault": fault.kind, "why": fault.why}


def labels_of(line: Line) -> Labels:
    """Labels as `PictureRecord.told` wrote them."""
    return Labels(
        int(line.get("expression", -1)),
        float(line.get("valence", math.nan)),
        float(line.get("arousal", math.nan)),
        str(line.get("person", "")),
        str(line.get("split", "")),
    )


def encoded_lines(lines: Iterable[Line]) -> bytes:
    return b"".join(json.dumps(line, separators=(",", ":"), ensure_ascii=False).encode() + b"\n" for line in lines)


def parsed_lines(data: bytes) -> Iterator[Line]:
    """Whole lines; a last one that was cut short is left out."""
    for line in data.split(b"\n")[:-1]:
        yield json.loads(line)


class Journal:
    """The list of a folder, appended to."""

    def __init__(self, path: Path):
        self.path = path

    def lines(self) -> Iterator[Line]:
        """As they are read; none where there is no file.

        Raises:
            HeadlabError: a line is damaged.
        """
        if not self.path.is_file():
            return
        with self.path.open("rb") as file:
            for number, line in enumerate(file, 1):
                if not line.endswith(b"\n"):
                    return
                try:
                    yield json.loads(line)
                except ValueError as error:
                    raise HeadlabError(f"{self.path} is damaged at line {number}; make the store again") from error

    def keep(self, pictures: int) -> int:
        """Cut the list after so many pictures; what comes later was never committed.

        Returns:
            How many items of the source the list still tells of.

        Raises:
            HeadlabError: it tells of fewer pictures.
        """
        found = items = size = 0
        for line in self.lines() if pictures else ():
            items += 1
            size += len(encoded_lines([line]))
            found += "fault" not in line
            if found == pictures:
                break
        if found < pictures:
            raise HeadlabError(
                f"{self.path} tells of {found} pictures, the store holds {pictures}; "
                "it was not written by headlab or has lost its list: choose an empty folder"
            )
        if self.path.is_file():
            os.truncate(self.path, size)
        return items

    def append(self, lines: Iterable[Line]) -> None:
        """Written through to the disk before this returns.

        Raises:
            HeadlabError: no space left.
        """
        try:
            with self.path.open("ab") as file:
                file.write(encoded_lines(lines))
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:
            raise HeadlabError(
                f"{self.path} cannot be written ({error.strerror}); "
                "make room and run again: it goes on where it stopped"
            ) from error
