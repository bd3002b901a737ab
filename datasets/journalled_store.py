"""An LMDB store beside the list of its items: what a conversion writes, part by part, and takes up again."""

from collections.abc import Callable, Mapping
from pathlib import Path

from .journal import Journal, Line
from .lmdb_store import LmdbWriter

ITEMS = "items.jsonl"


class JournalledStore:
    """Pictures by number and a line for every item, written in whole parts."""

    def __init__(
        self,
        folder: Path,
        part: int,
        *,
        most_bytes: int | None = None,
        check: Callable[[LmdbWriter, int], None] = lambda writer, pictures: None,
    ):
        """Args:
            folder: of the store; one that was begun is taken up.
            part: items per transaction.
            most_bytes: size that the store may reach.
            check: looks at what is there (the writer, the number of pictures) before it is taken up.

        Raises:
            HeadlabError: the folder cannot be written, or holds another store.
        """
        self.part = part
        self.writer = LmdbWriter(folder, most_bytes=most_bytes)
        try:
            self.journal = Journal(folder / ITEMS)
            self.pictures = int(self.writer.get(b"length") or 0)
            check(self.writer, self.pictures)
            self.done = self.journal.keep(self.pictures)
            self.last_key: str | None = None
            for line in self.journal.lines():
                self.last_key = line["key"]
        except BaseException:
            self.writer.close()
            raise
        self._lines: list[Line] = []
        self._values: dict[bytes, bytes] = {}

    def put(self, line: Line, values: Mapping[bytes, bytes]) -> None:
        """The next item; with values it is a picture, and its line gets the picture's number."""
        if values:
            line = {**line, "index": self.pictures}
            self._values |= values
            self.pictures += 1
        self._lines.append(line)
        if len(self._lines) >= self.part:
            self._commit()

    def _commit(self) -> None:
        # The list first: lines that the store does not bear out are cut off when it is taken up again.
        self.journal.append(self._lines)
        self.writer.commit(self._values, {b"length": str(self.pictures).encode()})
        self._lines, self._values = [], {}

    def close(self, finished: bool) -> None:
        """Write what is waiting, where the conversion has come to its end."""
        try:
            if finished:
                self._commit()
        finally:
            self.writer.close()
