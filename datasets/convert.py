"""From any data set to a store: decode, align, resize, encode, on several threads, in the source's order.

    records ──> worker threads (Pillow, outside Python's lock for the long parts) ──> Target, in order

Stopping it in any way and starting it again leaves every item of the source in the store once, or named as a fault.
"""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import chain
from typing import Literal

from ..geometry.errors import HeadlabError
from .attached_fit import moved
from .ffhq_align import align_ffhq, ffhq_matrix, square_matrix
from .journal import Line, fault_line
from .lmdb_diffae import DiffaeLayout, encode_diffae
from .picture_codec import SIZES
from .records import Fault, FaultReport, PictureRecord, Policy, stopped
from .store_targets import Target

Alignment = Literal["none", "ffhq"]


@dataclass(frozen=True)
class ConvertConfig:
    """How pictures become a store."""

    align: Alignment = "none"
    """ffhq: cut out the face by its landmarks, as FFHQ does; none: the middle square."""
    quality: int = 100
    """Of the JPEG files."""
    bad: Policy = "skip"
    """Bad items: name, count and leave out, or stop."""
    threads: int = 2
    """Pictures at once."""


@dataclass(frozen=True)
class Stored:
    """An item as a store keeps it."""

    line: Line  #: for the list of items
    pictures: dict[int, bytes]  #: encoded, by size


@dataclass
class ConvertReport:
    """What a conversion did."""

    written: int = 0  #: pictures, in this run
    before: int = 0  #: items of the source that were done in earlier runs
    faults: FaultReport = field(default_factory=FaultReport)  #: of this run


def convert(
    items: Iterable[PictureRecord | Fault],
    target: Target,
    config: ConvertConfig | None = None,
    callback: Callable[[ConvertReport], None] = lambda report: None,
) -> ConvertReport:
    """Write a data set into a store, or go on with one that was begun.

    Args:
        items: of a reader; always the same order.
        target: the store.
        config: how.
        callback: called after each item.

    Raises:
        HeadlabError: a bad item, where these shall stop it; the source has changed since the store was begun; the
            store is full, or the disk. What was written stays.
    """
    config = config or ConvertConfig()
    bad = [size for size in target.sizes if not 1 <= size <= 4096]
    if bad or not target.sizes:
        raise HeadlabError(
            f"pictures of side {bad or 'none'} cannot be stored; training takes {SIZES[0]} to {SIZES[1]}"
        )
    report = ConvertReport(before=target.done)
    finished = False
    try:
        source = _continued(iter(items), target)
        for result in _encoded(source, target.sizes, config):
            if isinstance(result, Fault):
                if config.bad == "stop":
                    raise stopped(result)
                report.faults.add(result)
                target.add(fault_line(result), {})
            else:
                target.add(result.line, result.pictures)
                report.written += 1
            callback(report)
        finished = True
    finally:
        target.close(finished)
    return report


def _continued(items: Iterator[PictureRecord | Fault], target: Target) -> Iterator[PictureRecord | Fault]:
    """What is not done yet."""
    last = None
    for number in range(target.done):
        last = next(items, None)
        if last is None:
            raise HeadlabError(f"the store was made from {target.done} items, the source has {number}; it has changed")
    if last is not None and target.last_key is not None and last.key != target.last_key:
        raise HeadlabError(
            f"item {target.done} of the source is {last.key}, the store was begun with {target.last_key} there; "
            "the source has changed: choose an empty folder"
        )
    return items


def _encoded(
    items: Iterator[PictureRecord | Fault], sizes: tuple[int, ...], config: ConvertConfig
) -> Iterator[Stored | Fault]:
    """What became of the items, in order; a few are under way at once."""
    waiting: deque[Fault | Future[Stored | Fault]] = deque()
    with ThreadPoolExecutor(max(1, config.threads)) as pool:
        try:
            for item in chain(items, [None] * (8 * config.threads)):
                if isinstance(item, Fault):
                    waiting.append(item)
                elif item is not None:
                    waiting.append(pool.submit(_pictures, item, sizes, config))
                if waiting and (item is None or len(waiting) >= 8 * config.threads):
                    first = waiting.popleft()
                    yield first if isinstance(first, Fault) else first.result()
        finally:
            for rest in waiting:
                if isinstance(rest, Future):
                    rest.cancel()


def _pictures(record: PictureRecord, sizes: tuple[int, ...], config: ConvertConfig) -> Stored | Fault:
    """A record as it is stored."""
    try:
        picture = record.picture()
    except HeadlabError as error:
        kind = "unreadable" if record.path.exists() else "missing picture"
        return Fault(record.key, kind, str(error))
    matrix = square_matrix(picture.size, sizes[0])
    if config.align == "ffhq":
        if record.points is None:
            return Fault(record.key, "missing annotation", "it has no landmarks to align by")
        try:
            matrix = ffhq_matrix(record.points, sizes[0])
            picture = align_ffhq(picture, record.points, max(sizes))
        except HeadlabError as error:
            return Fault(record.key, "label out of range", str(error))
    encoded = {size: encode_diffae(picture, DiffaeLayout(size, quality=config.quality)) for size in sizes}
    return Stored({"key": record.key, **moved(record.told(), matrix, sizes[0])}, encoded)
