"""What a batch works on: folders, patterns, lists and URLs -> items, each with a key and a folder name of its own.

Every file becomes one item, however it was reached: symbolic links are followed and loops of them end, a file named
twice counts once, and what lies in the output folder is left out.
"""

import os
import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from glob import glob, has_magic
from hashlib import sha256
from pathlib import Path
from typing import Literal

from ..geometry.errors import HeadlabError

#: capture: an RGB-D capture; person: photos of one person, fitted together; unreadable: a folder that cannot be listed.
Kind = Literal["photo", "video", "capture", "person", "unreadable"]
PHOTOS = frozenset(
    (".jpg", ".jpeg", ".png", ".webp", ".tif", ".tiff", ".bmp", ".avif", ".jp2", ".gif", ".heic", ".ppm")
)
VIDEOS = frozenset((".mp4", ".mov", ".mkv", ".webm", ".avi", ".m4v", ".mpg", ".mpeg", ".wmv", ".ts"))
CAPTURES = frozenset((".r3d", ".bag"))
LISTS = frozenset((".txt", ".lst", ".list"))
#: Names of sub-folders that together make their folder an RGB-D capture.
_COLOURS, _DEPTHS = frozenset(("color", "colour", "rgb", "image", "images")), frozenset(("depth", "depths"))
#: Bytes of a name; file systems take 255, and temporary names are longer.
_LONGEST = 180
_FORBIDDEN = set('<>:"\\|?*\0')


@dataclass(frozen=True)
class Item:
    """One piece of work."""

    key: str  #: absolute path or URL: the same in every run
    name: str  #: folder below the output folder, parts separated by "/"
    kind: Kind
    paths: tuple[str, ...]  #: what to read; several only for a person


@dataclass(frozen=True)
class Found:
    """What the inputs stand for."""

    items: tuple[Item, ...]
    ignored: dict[str, int] = field(default_factory=dict)  #: suffix -> number of files that are none of ours


@dataclass(frozen=True)
class FindConfig:
    """What counts as an item."""

    frames: bool = False  #: a folder that holds pictures is a video, its pictures are no photos
    hidden: bool = False  #: take names that begin with a dot, too


def find_items(inputs: Sequence[str], out: str, config: FindConfig | None = None) -> Found:
    """List the items of a batch, sorted within each input.

    Args:
        inputs: folders (searched throughout), files, patterns (`**` reaches through folders), lists (.txt: one path per
            line, or NUL between them; "-" reads standard input), URLs that fsspec knows.
        out: the output folder or URL; left out of the search.
        config: what counts.

    Raises:
        HeadlabError: an input does not exist or holds nothing, or is the output folder.
    """
    config = config or FindConfig()
    ignored: dict[str, int] = {}
    found: dict[str, Item] = {}
    used: dict[str, str] = {}
    roots = [os.path.basename(os.path.normpath(text)) for text in inputs if is_url(text) or os.path.isdir(text)]
    for text in inputs:
        crowded = len(inputs) > 1 and (is_url(text) or os.path.isdir(text))
        prefix = os.path.basename(os.path.normpath(text)) if crowded else ""
        if crowded and roots.count(prefix) > 1:
            prefix = f"{prefix}~{_digest(text if is_url(text) else os.path.abspath(text))}"
        before = len(found)
        for path, relative, kind in _listed(text, out, config, ignored):
            key = path if is_url(path) else os.path.realpath(path)
            if key in found:
                before -= 1  # named before: no reason to complain
                continue
            name = folder_name(os.path.join(prefix, relative) if prefix else relative)
            if used.setdefault(name.casefold(), key) != key:
                name = distinguished(name, key)
                used[name.casefold()] = key
            found[key] = Item(key, name, kind, (path if is_url(path) else os.path.abspath(path),))
        if len(found) == before:
            known = ", ".join(
                f"{number} {suffix or 'without suffix'}" for suffix, number in sorted(ignored.items())[:6]
            )
            raise HeadlabError(
                f"{text} holds no photo, video or capture{f' (ignored: {known})' if known else ''}; "
                "name a folder, a pattern, a list or a file that does"
            )
    if not found:
        raise HeadlabError("nothing to do: name a folder, a pattern, a list or files")
    return Found(tuple(found.values()), ignored)


def is_url(text: str) -> bool:
    """Whether this is an address for fsspec rather than a path."""
    scheme, separator, _ = text.partition("://")
    return bool(separator) and scheme.replace("+", "").replace("-", "").replace(":", "").isalnum()


def folder_name(relative: str) -> str:
    """A relative path as the name of a result folder: no dots at the start, no characters that some system forbids.

    A part that had to be changed ends in a hash of what it was, so that different paths keep different names.
    """
    parts = []
    for part in relative.replace(os.sep, "/").split("/"):
        if part in ("", ".", ".."):
            continue
        clean = "".join("_" if c in _FORBIDDEN or ord(c) < 32 or 0xD800 <= ord(c) < 0xE000 else c for c in part)
        clean = clean.rstrip(". ").lstrip(".") or "_"
        if len(clean.encode()) > _LONGEST:
            clean = clean.encode()[: _LONGEST - 12].decode(errors="ignore")
        parts.append(clean if clean == part else f"{clean}~{_digest(part)}")
    return "/".join(parts) or "_"


def distinguished(name: str, key: str) -> str:
    """Another name for an item whose own is taken: always the same for the same key."""
    return f"{name}~{_digest(key)}"


def _digest(text: str) -> str:
    return sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:8]


def kind_of(path: str) -> Kind | None:
    """By the suffix alone; None for other files."""
    suffix = os.path.splitext(path)[1].lower()
    if suffix in PHOTOS:
        return "photo"
    return "video" if suffix in VIDEOS else "capture" if suffix in CAPTURES else None


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link to itself
        return False


def _is_depth(name: str) -> bool:
    """Whether a file is the depth of a frame: 0001_depth.png, as `datasets.rgbd_folder` has it."""
    stem, suffix = os.path.splitext(name.lower())
    return suffix in (".png", ".tif", ".tiff") and stem.rpartition("_")[2] in ("depth", "ldm3d", "rgbd")


def _listed(text: str, out: str, config: FindConfig, ignored: dict[str, int]) -> Iterator[tuple[str, str, Kind]]:
    """(path, path relative to where the search began, kind)."""
    if text == "-":
        yield from _of_list(sys.stdin.buffer.read(), os.getcwd())
    elif is_url(text):
        yield from _of_url(text, out, ignored)
    elif os.path.isdir(text):
        if not is_url(out) and os.path.realpath(text) == os.path.realpath(out):
            raise HeadlabError(f"{text} is both input and output; name another folder with -o")
        yield from _of_folder(text, out, config, ignored)
    elif os.path.exists(text):
        if os.path.splitext(text)[1].lower() in LISTS:
            try:
                data = Path(text).read_bytes()
            except OSError as error:
                raise HeadlabError(
                    f"the list {text} cannot be read ({error.strerror}); check its permissions"
                ) from error
            yield from _of_list(data, os.path.dirname(os.path.abspath(text)))
        else:
            yield text, os.path.basename(text), kind_of(text) or "photo"
    elif has_magic(text):
        fixed = os.path.dirname(text[: min(text.find(c) for c in "*?[" if c in text)])
        seen = Walk(out, config)
        for path in sorted(glob(text, recursive=True)):
            if os.path.isfile(path) and not seen.inside_out(path):
                yield from _if_known(path, os.path.relpath(path, fixed or "."), ignored)
    else:
        raise HeadlabError(f"{text} does not exist; name a folder, a pattern, a list or files")


def _of_list(data: bytes, base: str) -> Iterator[tuple[str, str, Kind]]:
    separator = b"\0" if b"\0" in data else b"\n"
    for line in data.split(separator):
        line = line if separator == b"\0" else line.strip()
        if not line or (separator == b"\n" and line.startswith(b"#")):
            continue
        entry = os.fsdecode(line)
        path = entry if is_url(entry) else os.path.normpath(os.path.join(base, entry))
        # What lies outside the list's folder keeps its whole path: names must not meet.
        relative = path.split("://", 1)[1] if is_url(entry) else os.path.relpath(path, base)
        if relative.startswith(".."):
            relative = os.path.splitdrive(path)[1].lstrip(os.sep)
        folder = not is_url(path) and os.path.isdir(path)
        yield path, relative, kind_of(path) or ("video" if folder else "photo")


def _of_url(text: str, out: str, ignored: dict[str, int]) -> Iterator[tuple[str, str, Kind]]:
    from .batch_storage import file_system

    system, path = file_system(text)
    files: Iterable[str]
    try:
        if has_magic(path):
            files, base = system.glob(path), os.path.dirname(path[: min(path.find(c) for c in "*?[" if c in path)])
        elif system.isdir(path):
            files, base = system.find(path), path
        elif system.exists(path):
            files, base = [path], os.path.dirname(path)
        else:
            raise HeadlabError(f"{text} does not exist; check the address")
    except HeadlabError:
        raise
    except Exception as error:
        raise HeadlabError(f"{text} cannot be listed ({' '.join(str(error).split())}); check the address") from error
    kept_out = file_system(out)[1].rstrip("/") + "/" if is_url(out) else None
    for file in sorted(files):
        if kept_out is None or not file.startswith(kept_out):
            full = system.unstrip_protocol(file)
            for _, relative, kind in _if_known(file, os.path.relpath(file, base or "/"), ignored):
                yield full, relative, kind


def _of_folder(top: str, out: str, config: FindConfig, ignored: dict[str, int]) -> Iterator[tuple[str, str, Kind]]:
    for path, kind in Walk(out, config).files(top):
        relative = os.path.relpath(path, top)
        if kind is not None:
            yield path, relative if relative != "." else os.path.basename(os.path.abspath(top)), kind
        else:
            yield from _if_known(path, relative, ignored)


def _if_known(path: str, relative: str, ignored: dict[str, int]) -> Iterator[tuple[str, str, Kind]]:
    kind = kind_of(path)
    if kind is not None:
        yield path, relative, kind
    else:
        suffix = os.path.splitext(path)[1].lower()
        ignored[suffix] = ignored.get(suffix, 0) + 1


class Walk:
    """A search through folders that enters each but once and never the output."""

    def __init__(self, out: str, config: FindConfig) -> None:
        self._config = config
        self._seen: set[tuple[int, int]] = set()
        self._out = None if is_url(out) else os.path.realpath(out)

    def inside_out(self, path: str) -> bool:
        """Whether a path lies in the output folder."""
        real = os.path.realpath(path)
        return self._out is not None and (real == self._out or real.startswith(self._out + os.sep))

    def files(self, folder: str) -> Iterator[tuple[str, Kind | None]]:
        """Files below a folder; with a kind where the folder they stand for decides it."""
        if self._out is not None and os.path.realpath(folder) == self._out:
            return
        try:
            state = os.stat(folder)
            if (state.st_dev, state.st_ino) in self._seen:
                return
            self._seen.add((state.st_dev, state.st_ino))
            with os.scandir(folder) as listing:
                entries = sorted(listing, key=lambda entry: entry.name)
        except OSError:
            yield folder, "unreadable"
            return
        entries = [entry for entry in entries if self._config.hidden or not entry.name.startswith(".")]
        folders = {entry.name.lower() for entry in entries if _is_folder(entry)}
        if (folders & _COLOURS and folders & _DEPTHS) or any(_is_depth(entry.name) for entry in entries):
            yield folder, "capture"
            return
        if self._config.frames and any(kind_of(entry.name) == "photo" for entry in entries):
            yield folder, "video"
            entries = [entry for entry in entries if kind_of(entry.name) != "photo"]
        for entry in entries:
            if _is_folder(entry):
                yield from self.files(entry.path)
            else:
                yield entry.path, None
