"""Stores as data sets: LMDB folders and WebDataset shards, read as records or by number.

StoredPictures (by number: training)     LmdbPictures · ShardPictures · FilePictures (any reader's records)
read_lmdb, read_shards (in order)        records again: to inspect, to count, to convert from one store to another
"""

import json
import threading
from collections import OrderedDict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from ..geometry.errors import HeadlabError
from .journal import Journal, Line, labels_of, parsed_lines
from .journalled_store import ITEMS
from .lmdb_diffae import DiffaeLmdb
from .records import Fault, FaultReport, Labels, PictureRecord, Policy, usable
from .remote import exists, joined, open_read, read_all, shard_addresses
from .store_targets import FORMAT, INDEX
from .tar_samples import Sample, TruncatedShard, read_samples


@dataclass(frozen=True, eq=False)
class StoredRecord(PictureRecord):
    """A picture of a store, with what was told of it."""

    data: bytes = b""
    line: Line = field(default_factory=dict)

    @property
    def labels(self) -> Labels:
        return labels_of(self.line)

    def encoded(self) -> bytes:
        return self.data

    def told(self) -> dict[str, Any]:
        return {name: value for name, value in self.line.items() if name not in ("key", "index")}


@runtime_checkable
class StoredPictures(Protocol):
    """Pictures by number, 0 .. count - 1."""

    name: str

    @property
    def counts(self) -> tuple[int, ...]:
        """Pictures per shard; one entry where there are no shards."""
        ...

    def encoded(self, indices: Sequence[int]) -> list[bytes | None]:
        """Image files; None where one is missing."""
        ...

    def lines(self) -> Iterator[Line]:
        """What is told of each picture, in order; empty dictionaries where nothing is."""
        ...


class LmdbPictures:
    """Of a store in DiffAE's layout."""

    def __init__(self, folder: Path | str, size: int | None = None):
        self.store, self.name = DiffaeLmdb(folder, size), str(folder)

    @property
    def counts(self) -> tuple[int, ...]:
        return (len(self.store),)

    def encoded(self, indices: Sequence[int]) -> list[bytes | None]:
        return self.store.get_many(indices)

    def lines(self) -> Iterator[Line]:
        journal = Journal(self.store.path / ITEMS)
        if not journal.path.is_file():
            return iter([{}] * len(self.store))
        return (line for line in journal.lines() if "fault" not in line)


def read_lmdb(folder: Path | str, size: int | None = None) -> Iterator[StoredRecord | Fault]:
    """Records of a store in DiffAE's layout, in order; numbers without a picture are faults.

    Raises:
        HeadlabError: no such store.
    """
    pictures = LmdbPictures(folder, size)
    path = pictures.store.path
    lines = pictures.lines()
    for index in range(len(pictures.store)):
        data, line = pictures.store.get(index), next(lines, {})
        key = str(line.get("key", f"{index:06d}"))
        if data is None:
            yield Fault(key, "missing picture", f"{path} has no {pictures.store.layout.key(index).decode()}")
        else:
            yield StoredRecord(key, path, data, line)


class ShardPictures:
    """Of WebDataset shards that have an index.json. Whole shards are fetched, the last few are kept."""

    def __init__(self, address: str, kept: int = 6):
        """Args:
            address: folder or URL of the shards.
            kept: shards in memory.

        Raises:
            HeadlabError: no index there, or of another kind.
        """
        self.name, self.address = address, address
        if not exists(joined(address, INDEX)):
            raise HeadlabError(
                f"{address} has no {INDEX}, which training by number needs; "
                "`headlab data convert` from it into shards of your own"
            )
        told = json.loads(read_all(joined(address, INDEX)))
        if told.get("format") != FORMAT:
            raise HeadlabError(f"{joined(address, INDEX)} is of another kind ({told.get('format')}); convert again")
        self.shards = [(str(shard["name"]), int(shard["count"])) for shard in told["shards"]]
        self._starts = [0]
        for _, count in self.shards:
            self._starts.append(self._starts[-1] + count)
        self._kept: OrderedDict[int, list[Sample]] = OrderedDict()
        self._room, self._lock = kept, threading.Lock()

    @property
    def counts(self) -> tuple[int, ...]:
        return tuple(count for _, count in self.shards)

    def encoded(self, indices: Sequence[int]) -> list[bytes | None]:
        from bisect import bisect_right

        out = []
        for index in indices:
            shard = bisect_right(self._starts, int(index)) - 1
            samples = self._shard(shard)
            place = int(index) - self._starts[shard]
            out.append(samples[place].picture() if place < len(samples) else None)
        return out

    def _shard(self, number: int) -> list[Sample]:
        with self._lock:
            if number in self._kept:
                self._kept.move_to_end(number)
                return self._kept[number]
            samples: list[Sample] = []
            try:
                with open_read(joined(self.address, self.shards[number][0])) as file:
                    samples.extend(read_samples(file))
            except TruncatedShard:
                pass  # what is missing reads as None, is named by its number, and counted
            self._kept[number] = samples
            while len(self._kept) > self._room:
                self._kept.popitem(last=False)
            return samples

    def lines(self) -> Iterator[Line]:
        for name, _ in self.shards:
            table = joined(self.address, name.removesuffix(".tar") + ".jsonl")
            yield from (line for line in parsed_lines(read_all(table)) if "fault" not in line)


def read_shards(address: str) -> Iterator[StoredRecord | Fault]:
    """Records of WebDataset shards, anybody's, in order, as they arrive.

    Raises:
        HeadlabError: none there.
    """
    for shard in shard_addresses(address):
        yield from read_shard(shard)


def read_shard(shard: str) -> Iterator[StoredRecord | Fault]:
    """Records of one shard; where it is cut short, those before the damage and a fault."""
    last = "its start"
    with open_read(shard) as file:
        try:
            for sample in read_samples(file):
                last = sample.key
                yield _sample_record(shard, sample)
        except TruncatedShard as error:
            yield Fault(shard, "truncated shard", f"{error}, after {last}")


def _sample_record(shard: str, sample: Sample) -> StoredRecord | Fault:
    data = sample.picture()
    if data is None:
        return Fault(sample.key, "missing picture", f"{shard} has {', '.join(sample.parts)} of it only")
    line: Line = {}
    if "json" in sample.parts:
        try:
            line = json.loads(sample.parts["json"])
            labels_of(line)
        except (ValueError, TypeError, AttributeError):
            return Fault(sample.key, "missing annotation", f"its json in {shard} is damaged")
    elif "cls" in sample.parts and sample.parts["cls"].strip().isdigit():
        line = {"expression": int(sample.parts["cls"])}
    return StoredRecord(str(line.get("key", sample.key)), Path(shard), data, line)


class FilePictures:
    """Of any reader whose pictures are files: only names and labels are held."""

    def __init__(
        self,
        items: Iterable[PictureRecord | Fault],
        name: str,
        policy: Policy = "skip",
        report: FaultReport | None = None,
    ):
        """Raises:
        HeadlabError: a fault, where the policy is "stop"; nothing left.
        """
        self.records, self.name = list(usable(items, policy, report)), name
        if not self.records:
            raise HeadlabError(f"{name} holds no usable picture")

    @property
    def counts(self) -> tuple[int, ...]:
        return (len(self.records),)

    def encoded(self, indices: Sequence[int]) -> list[bytes | None]:
        out: list[bytes | None] = []
        for index in indices:
            try:
                out.append(self.records[int(index)].encoded())
            except HeadlabError:
                out.append(None)
        return out

    def lines(self) -> Iterator[Line]:
        return ({"key": record.key, **record.told()} for record in self.records)


def read_rig(folder: Path | str) -> Iterator[StoredRecord | Fault]:
    """Pictures of a store in DiffusionRig's layout, in order, without their maps (`lmdb_diffusionrig` has those)."""
    from .lmdb_diffusionrig import DiffusionRigLmdb

    store = DiffusionRigLmdb(folder)
    for index in range(len(store)):
        data = store.encoded_image(index)
        if data is None:
            yield Fault(f"{index:06d}", "missing picture", f"{folder} has no image_{index:06d}")
        else:
            yield StoredRecord(f"{index:06d}", store.path, data, {})
