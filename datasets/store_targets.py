"""Where a conversion writes to: an LMDB store in DiffAE's layout, or WebDataset shards. Both can be taken up again.

Items arrive in the source's order and are written in whole parts; after a kill everything up to the last whole part is
there, once, and `done` says with which item of the source to go on.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from ..geometry.errors import HeadlabError
from .journal import Line, encoded_lines, parsed_lines
from .journalled_store import JournalledStore
from .lmdb_diffae import DiffaeLayout
from .lmdb_store import LmdbWriter
from .remote import exists, is_remote, joined, read_all, write_all
from .tar_samples import tar_bytes

INDEX = "index.json"
FORMAT = "headlab-webdataset-1"


@runtime_checkable
class Target(Protocol):
    """A store that is being written."""

    sizes: tuple[int, ...]  #: of the pictures of each item
    done: int  #: items of the source that are in it already, faults too
    pictures: int  #: of these, pictures
    last_key: str | None  #: of the last of these items

    def add(self, line: Line, pictures: Mapping[int, bytes]) -> None:
        """The next item: what is known of it, and its encoded pictures by size (none: a fault)."""
        ...

    def close(self, finished: bool) -> None:
        """Write what is waiting."""
        ...


class LmdbTarget(JournalledStore):
    """A store in DiffAE's layout, with the list of its items (`journal`) beside data.mdb."""

    def __init__(
        self,
        folder: Path,
        sizes: tuple[int, ...] = (256,),
        *,
        quality: int = 100,
        part: int = 256,
        most_bytes: int | None = None,
    ):
        """Args:
            folder: of the store; one that was begun is taken up.
            sizes: sides of the pictures, pixels.
            quality: of the JPEG files.
            part: items per transaction.
            most_bytes: size that the store may reach.

        Raises:
            HeadlabError: the folder holds another store, or cannot be written.
        """
        self.sizes = sizes
        self.layouts = {size: DiffaeLayout(size, quality=quality) for size in sizes}

        def check(writer: LmdbWriter, pictures: int) -> None:
            if pictures and writer.get(self.layouts[sizes[0]].key(0)) is None:
                raise HeadlabError(f"{folder} holds pictures of other sizes than {sizes}; choose an empty folder")

        super().__init__(folder, part, most_bytes=most_bytes, check=check)

    def add(self, line: Line, pictures: Mapping[int, bytes]) -> None:
        self.put(line, {self.layouts[size].key(self.pictures): data for size, data in pictures.items()})


class ShardTarget:
    """WebDataset shards, here or elsewhere: shard-000000.tar with shard-000000.jsonl, and at last index.json."""

    def __init__(self, address: str, sizes: tuple[int, ...] = (256,), *, per_shard: int = 1000):
        """Args:
            address: folder, or s3://... ; shards that are there already are kept.
            sizes: sides of the pictures, pixels; the first is called .jpg, others .128.jpg.
            per_shard: pictures per shard.

        Raises:
            HeadlabError: what is there was written in another way.
        """
        self.address, self.sizes, self.per_shard = address, sizes, per_shard
        if not is_remote(address):
            try:
                Path(address).mkdir(parents=True, exist_ok=True)
            except OSError as error:
                raise HeadlabError(f"{address} cannot be made ({error.strerror}); choose another folder") from error
        self.shards: list[dict[str, Any]] = []
        self.done, self.pictures, self.last_key = 0, 0, None
        while exists(joined(address, self._name(len(self.shards), "tar"))):
            name = self._name(len(self.shards), "jsonl")
            lines = list(parsed_lines(read_all(joined(address, name))))
            count = sum("fault" not in line for line in lines)
            self.shards.append({"name": self._name(len(self.shards), "tar"), "count": count})
            self.done, self.pictures = self.done + len(lines), self.pictures + count
            self.last_key = lines[-1]["key"] if lines else self.last_key
            if count != per_shard:  # the last one of a finished or smaller conversion: made again, with what follows
                self.shards.pop()
                self.done, self.pictures = self.done - len(lines), self.pictures - count
                self.last_key = None
                break
        self._lines: list[Line] = []
        self._samples: dict[str, dict[str, bytes]] = {}

    @staticmethod
    def _name(number: int, kind: str) -> str:
        return f"shard-{number:06d}.{kind}"

    def add(self, line: Line, pictures: Mapping[int, bytes]) -> None:
        if pictures:
            line = {**line, "index": self.pictures}
            parts = {"jpg" if size == self.sizes[0] else f"{size}.jpg": data for size, data in pictures.items()}
            self._samples[f"{self.pictures:09d}"] = {**parts, "json": encoded_lines([line]).rstrip()}
            self.pictures += 1
        self._lines.append(line)
        if len(self._samples) >= self.per_shard:
            self._write()

    def _write(self) -> None:
        number = len(self.shards)
        # The list before the shard: a shard that is there has its list.
        write_all(joined(self.address, self._name(number, "jsonl")), encoded_lines(self._lines))
        write_all(joined(self.address, self._name(number, "tar")), tar_bytes(self._samples))
        self.shards.append({"name": self._name(number, "tar"), "count": len(self._samples)})
        self._lines, self._samples = [], {}

    def close(self, finished: bool) -> None:
        if not finished:
            return
        if self._lines:
            self._write()
        told = {"format": FORMAT, "shards": self.shards, "sizes": list(self.sizes)}
        write_all(joined(self.address, INDEX), json.dumps(told, indent=1).encode())
