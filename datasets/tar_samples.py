"""Tar files as WebDataset uses them: neighbouring members whose names share a stem are one sample. Imports no torch.

Read from any file object, forwards only, so that pipes and HTTP will do. Written with fixed times and owners: the same
samples give the same bytes.
"""

import io
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

_BLOCK = 512
_MOST = 1 << 31  #: bytes of one member


@runtime_checkable
class Readable(Protocol):
    """A file, wherever it comes from."""

    def read(self, size: int = -1, /) -> bytes: ...


class TruncatedShard(Exception):
    """The file ends within a member, or its headers make no sense."""


@dataclass(frozen=True)
class Sample:
    """One sample of a shard."""

    key: str
    parts: dict[str, bytes]  #: by extension: "jpg", "json", ...

    def picture(self) -> bytes | None:
        """The picture among the parts."""
        return next((self.parts[kind] for kind in PICTURES if kind in self.parts), None)


#: Extensions of pictures, in the order they are looked for.
PICTURES = ("jpg", "jpeg", "png", "webp", "image.jpg", "image.png")


def read_samples(file: Readable) -> Iterator[Sample]:
    """Samples in the file's order.

    Raises:
        TruncatedShard: after the last whole sample, where the file is damaged or cut short.
    """
    key, parts = None, {}
    for name, data in _members(file):
        folder, _, base = name.rpartition("/")
        stem, dot, kind = base.partition(".")
        if not dot or not stem:
            continue
        stem = f"{folder}/{stem}" if folder else stem
        if stem != key:
            if key is not None:
                yield Sample(key, parts)
            key, parts = stem, {}
        parts[kind.lower()] = data
    if key is not None:
        yield Sample(key, parts)


def _members(file: Readable) -> Iterator[tuple[str, bytes]]:
    """(name, contents) of the plain files."""
    name = None
    while True:
        header = _exactly(file, _BLOCK)
        if header == bytes(_BLOCK):
            return
        if sum(header[:148]) + sum(header[156:]) + 256 != _octal(header[148:156]):
            raise TruncatedShard("a header is damaged")
        size = _octal(header[124:136])
        if size > _MOST:
            raise TruncatedShard(f"a member of {size} bytes")
        data = _exactly(file, size)
        _exactly(file, -size % _BLOCK)
        kind = header[156:157]
        if kind == b"x":  # a header for the next member: only its name matters
            name = _pax_name(data) or name
        elif kind == b"L":
            name = data.rstrip(b"\0").decode(errors="replace")
        elif kind in (b"0", b"\0"):
            yield name or _name(header), data
            name = None
        elif kind != b"g":
            name = None


def _exactly(file: Readable, size: int) -> bytes:
    pieces, left = [], size
    while left:
        piece = file.read(left)
        if not piece:
            raise TruncatedShard("it ends too early")
        pieces.append(piece)
        left -= len(piece)
    return pieces[0] if len(pieces) == 1 else b"".join(pieces)


def _octal(field: bytes) -> int:
    if field[0] & 0x80:  # sizes beyond 8 GB, in binary
        return int.from_bytes(field[1:], "big")
    try:
        return int(field.split(b"\0")[0].strip() or b"0", 8)
    except ValueError:
        raise TruncatedShard("a header is damaged") from None


def _name(header: bytes) -> str:
    name = header[:100].split(b"\0")[0].decode(errors="replace")
    prefix = header[345:500].split(b"\0")[0].decode(errors="replace") if header[257:262] == b"ustar" else ""
    return f"{prefix}/{name}" if prefix and header[263:265] == b"00" else name


def _pax_name(data: bytes) -> str | None:
    at = 0
    while at < len(data):
        space = data.find(b" ", at)
        if space < 0 or not data[at:space].isdigit() or int(data[at:space]) < 1:
            return None
        field = data[space + 1 : at + int(data[at:space]) - 1]
        if field.startswith(b"path="):
            return field[5:].decode(errors="replace")
        at += int(data[at:space])
    return None


def tar_bytes(samples: Mapping[str, Mapping[str, bytes]]) -> bytes:
    """A shard.

    Args:
        samples: contents by extension, by key; keys of at most 80 ASCII characters without dots.

    Raises:
        ValueError: a key that does not fit.
    """
    out = io.BytesIO()
    for key, parts in samples.items():
        for kind, data in sorted(parts.items()):
            name = f"{key}.{kind}".encode()
            if len(name) > 99 or "." in key or not name.isascii():
                raise ValueError(f"{key} cannot be the name of a sample")
            out.write(_header(name, len(data)))
            out.write(data)
            out.write(bytes(-len(data) % _BLOCK))
    out.write(bytes(2 * _BLOCK))
    out.write(bytes(-out.tell() % (20 * _BLOCK)))
    return out.getvalue()


def _header(name: bytes, size: int) -> bytes:
    fields = [
        name.ljust(100, b"\0"),
        b"0000444\0",  # mode
        b"0000000\0" * 2,  # owner
        b"%011o\0" % size,
        b"%011o\0" % 0,  # time
        b" " * 8,  # checksum, while it is computed
        b"0",
        bytes(100),
        b"ustar\x0000",
        b"bigdata".ljust(32, b"\0") * 2,
        b"0000000\0" * 2,
        bytes(155 + 12),
    ]
    header = b"".join(fields)
    return header[:148] + b"%06o\0 " % sum(header) + header[156:]
