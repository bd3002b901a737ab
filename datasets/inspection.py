"""Looking through a data set: counts, duplicates, unreadable items, sizes, and valence against arousal. No torch.

Every picture is decoded once, on several threads. Two pictures are duplicates where their files are equal byte for
byte, and near duplicates where their 8 x 9 grey thumbnails rise and fall alike (difference hash).
"""

import hashlib
from collections import Counter, deque
from collections.abc import Callable, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import cv2
import numpy as np
from PIL import Image

from ..geometry.errors import HeadlabError
from .records import EXPRESSIONS, Fault, FaultReport, PictureRecord, Policy, stopped


@dataclass(eq=False)
class Inspection:
    """What was found."""

    items: int = 0  #: usable
    counts: np.ndarray = field(default_factory=lambda: np.zeros(len(EXPRESSIONS) + 1, np.int64))  #: last: unknown
    sizes: Counter = field(default_factory=Counter)  #: (width, height), pixels
    people: Counter = field(default_factory=Counter)
    splits: Counter = field(default_factory=Counter)
    valence_arousal: list[tuple[float, float, int]] = field(default_factory=list)  #: and class, where both are known
    duplicates: list[list[str]] = field(default_factory=list)  #: keys of equal files
    near_duplicates: list[list[str]] = field(default_factory=list)  #: keys of pictures that look alike, not equal ones
    faults: FaultReport = field(default_factory=FaultReport)

    def told(self) -> dict[str, Any]:
        """As JSON."""
        names = (*EXPRESSIONS, "unknown")
        va = np.array([row[:2] for row in self.valence_arousal]).reshape(-1, 2)
        return {
            "items": self.items,
            "classes": {name: int(n) for name, n in zip(names, self.counts, strict=True) if n},
            "splits": dict(self.splits),
            "people": len(self.people),
            "sizes": {f"{w}x{h}": n for (w, h), n in self.sizes.most_common(50)},
            "valence_arousal": {
                "items": len(va),
                "mean": va.mean(0).round(4).tolist() if len(va) else None,
                "deviation": va.std(0).round(4).tolist() if len(va) else None,
            },
            "duplicates": self.duplicates,
            "near_duplicates": self.near_duplicates,
            "faults": {"counts": dict(self.faults.counts), "named": self.faults.named},
        }


@dataclass(frozen=True)
class _Look:
    size: tuple[int, int]
    digest: bytes
    thumbnail: int | None


def inspect(
    items: Iterable[PictureRecord | Fault],
    *,
    policy: Policy = "skip",
    threads: int = 2,
    callback: Callable[[Inspection], None] = lambda found: None,
) -> Inspection:
    """Look through a set.

    Args:
        items: of a reader.
        policy: what bad items do.
        threads: pictures at once.
        callback: called after each item.

    Raises:
        HeadlabError: a bad item, where these shall stop it.
    """
    found = Inspection()
    files: dict[bytes, list[str]] = {}
    alike: dict[int, list[tuple[str, bytes]]] = {}

    def take(item: PictureRecord | Fault, look: "_Look | Fault") -> None:
        if isinstance(look, Fault):
            if policy == "stop":
                raise stopped(look)
            found.faults.add(look)
        elif isinstance(item, PictureRecord):
            _count(found, item, look)
            files.setdefault(look.digest, []).append(item.key)
            if look.thumbnail is not None:
                alike.setdefault(look.thumbnail, []).append((item.key, look.digest))
        callback(found)

    waiting: deque[tuple[PictureRecord | Fault, Future | None]] = deque()
    with ThreadPoolExecutor(max(1, threads)) as pool:

        def settle() -> None:
            item, future = waiting.popleft()
            if future is not None:
                take(item, future.result())
            elif isinstance(item, Fault):
                take(item, item)

        try:
            for item in items:
                waiting.append((item, None if isinstance(item, Fault) else pool.submit(_look, item)))
                if len(waiting) >= 16 * threads:
                    settle()
            while waiting:
                settle()
        finally:
            for _, future in waiting:
                if future is not None:
                    future.cancel()
    found.duplicates = sorted(keys for keys in files.values() if len(keys) > 1)
    for group in alike.values():
        if len({digest for _, digest in group}) > 1:
            found.near_duplicates.append([key for key, _ in group])
    found.near_duplicates.sort()
    return found


def _look(record: PictureRecord) -> _Look | Fault:
    try:
        data = record.encoded()
        size, picture = record.looked()
    except HeadlabError as error:
        kind = "unreadable" if record.path.exists() else "missing picture"
        return Fault(record.key, kind, str(error))
    digest = hashlib.blake2b(data, digest_size=16).digest()
    return _Look(size, digest, None if picture is None else _difference_hash(picture))


def _difference_hash(picture: Image.Image) -> int:
    """Where an 8 x 9 thumbnail grows brighter to the right, as 64 bits (Krawetz's dHash)."""
    grey = cv2.cvtColor(np.asarray(picture), cv2.COLOR_RGB2GRAY)
    small = cv2.resize(grey, (9, 8), interpolation=cv2.INTER_AREA).astype(np.int16)
    return int.from_bytes(np.packbits(small[:, 1:] > small[:, :-1]).tobytes(), "big")


def _count(found: Inspection, item: PictureRecord, look: _Look) -> None:
    labels = item.labels
    found.items += 1
    found.counts[labels.expression if labels.expression >= 0 else -1] += 1
    found.sizes[look.size] += 1
    if labels.person:
        found.people[labels.person] += 1
    if labels.split:
        found.splits[labels.split] += 1
    if np.isfinite(labels.valence) and np.isfinite(labels.arousal):
        found.valence_arousal.append((float(labels.valence), float(labels.arousal), labels.expression))


def summary(found: Inspection) -> list[str]:
    """Lines for people."""
    from .balance import count_table

    sizes = found.sizes.most_common(6)
    lines = [f"items: {found.items}" + "".join(f", {name} {n}" for name, n in sorted(found.splits.items()))]
    if found.people:
        lines.append(f"people: {len(found.people)}")
    lines.append(
        "sizes: " + ", ".join(f"{w} x {h}: {n}" for (w, h), n in sizes) + (", ..." if len(found.sizes) > 6 else "")
    )
    if found.counts[:-1].sum():
        lines += count_table(found.counts)
    if found.valence_arousal:
        va = np.array([row[:2] for row in found.valence_arousal])
        mean, deviation = va.mean(0), va.std(0)
        lines.append(
            f"valence {mean[0]:+.3f} (deviation {deviation[0]:.3f}), "
            f"arousal {mean[1]:+.3f} (deviation {deviation[1]:.3f}), {len(va)} items"
        )
    for name, groups in (("duplicates", found.duplicates), ("near duplicates", found.near_duplicates)):
        if groups:
            lines.append(f"{name}: {sum(len(group) - 1 for group in groups)} in {len(groups)} groups")
            lines += ["  " + ", ".join(group[:4]) + (" ..." if len(group) > 4 else "") for group in groups[:5]]
    return lines + found.faults.lines()
