"""Picture stores in the layout of Diffusion Autoencoders (Preechakul et al., 2022): read and written, byte-compatible.

    key  b"length"       -> b"70000"                        decimal text
    key  b"256-00000"    -> JPEG, quality 100, 256 x 256     FFHQ, CelebA-HQ: 5 digits
    key  b"256-0000000"  -> WebP, quality 90                 LSUN: 7 digits
    key  b"None-0000000" -> WebP, quality 100, full size     CelebA: 7 digits, the word None

Pictures are written as its authors do: shorter side resized (Lanczos), middle cut out, then encoded by Pillow. Reading
never unpickles anything. Imports no torch.
"""

import io
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from PIL import Image

from ..geometry.errors import HeadlabError
from .lmdb_store import LmdbReader, LmdbWriter

_KEY = re.compile(rb"(\d+|None)-(\d+)")


@dataclass(frozen=True)
class DiffaeLayout:
    """How keys and pictures look."""

    size: int | None = 256  #: side of the pictures, pixels; None: as they come (the key says so too)
    digits: int = 5
    kind: Literal["jpeg", "webp"] = "jpeg"
    quality: int = 100

    def key(self, index: int) -> bytes:
        return f"{self.size}-{index:0{self.digits}d}".encode()


FFHQ = DiffaeLayout()
LSUN = DiffaeLayout(digits=7, kind="webp", quality=90)
CELEBA = DiffaeLayout(None, 7, "webp")


class DiffaeLmdb:
    """Pictures of a store by number.

    `missing` numbers (of files that were skipped, where keys follow the files' numbers) read as None.
    """

    def __init__(self, path: Path | str, size: int | None = None):
        """Args:
            path: folder of the store.
            size: which pictures, where the store holds several sizes; the largest where None.

        Raises:
            HeadlabError: no such store, no pictures in it, or none of that size.
        """
        self.reader = LmdbReader(path)
        self.path, self.count = self.reader.path, self.reader.length()
        found = store_layouts(self.reader)
        if not found:
            raise HeadlabError(
                f"{path} holds no pictures under keys like '256-00000'; it is no store of DiffAE's layout"
            )
        if size is None:
            numbered = [layout for layout in found if layout.size is not None]
            self.layout = (numbered or found)[-1]
        else:
            match = [layout for layout in found if layout.size == size]
            if not match:
                sizes = ", ".join(str(layout.size) for layout in found)
                raise HeadlabError(f"{path} holds pictures of size {sizes}, none of {size}; ask for one of these")
            self.layout = match[0]

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> bytes:
        """The encoded picture.

        Raises:
            HeadlabError: there is none of this number.
        """
        data = self.get(index)
        if data is None:
            raise HeadlabError(f"{self.path} has no picture {index} (key {self.layout.key(index).decode()})")
        return data

    def get(self, index: int) -> bytes | None:
        """The encoded picture, or None."""
        return self.reader.get(self.layout.key(index))

    def get_many(self, indices: Sequence[int]) -> list[bytes | None]:
        return self.reader.get_many([self.layout.key(int(index)) for index in indices])

    def indices(self) -> Iterator[int]:
        """Numbers of the pictures that are there, in order."""
        for key in self.reader.keys(f"{self.layout.size}-".encode()):
            match = _KEY.fullmatch(key)
            if match:
                yield int(match[2])


def store_layouts(reader: LmdbReader) -> list[DiffaeLayout]:
    """The layouts of a store's pictures, by size; `None` last. Looks at one key of each."""
    layouts, after = [], b""
    while True:
        key = next((k for k in reader.keys(start=after) if _KEY.fullmatch(k)), None)
        if key is None:
            break
        match = _KEY.fullmatch(key)
        assert match is not None
        size = None if match[1] == b"None" else int(match[1])
        head = (reader.get(key) or b"")[:12]
        webp = head[:4] == b"RIFF" and head[8:] == b"WEBP"
        layouts.append(DiffaeLayout(size, len(match[2]), "webp" if webp else "jpeg"))
        after = match[1] + b"."  # the character after "-"
    return sorted(layouts, key=lambda layout: (layout.size is None, layout.size or 0))


def encode_diffae(picture: Image.Image, layout: DiffaeLayout = FFHQ) -> bytes:
    """A picture as the store keeps it: shorter side resized (Lanczos), middle cut out, encoded.

    Args:
        picture: RGB, upright.
    """
    picture = picture if picture.mode == "RGB" else picture.convert("RGB")
    if layout.size is not None:
        picture = resized_square(picture, layout.size)
    buffer = io.BytesIO()
    picture.save(buffer, layout.kind, quality=layout.quality)
    return buffer.getvalue()


def resized_square(
    picture: Image.Image, size: int, resample: Image.Resampling = Image.Resampling.LANCZOS
) -> Image.Image:
    """Shorter side to `size` (the longer one truncated), then the middle square, offsets rounded half to even."""
    width, height = picture.size
    if min(width, height) != size:
        if width <= height:
            picture = picture.resize((size, max(size, int(size * height / width))), resample)
        else:
            picture = picture.resize((max(size, int(size * width / height)), size), resample)
    width, height = picture.size
    if (width, height) != (size, size):
        left, top = round((width - size) / 2), round((height - size) / 2)
        picture = picture.crop((left, top, left + size, top + size))
    return picture


def write_diffae(writer: LmdbWriter, pictures: Mapping[int, bytes], layout: DiffaeLayout, length: int) -> None:
    """Commit some pictures together with the store's new length; see `LmdbWriter.commit`.

    Args:
        writer: of the store.
        pictures: encoded, by number.
        layout: of the keys.
        length: number of pictures in the store after this.
    """
    items = {layout.key(index): data for index, data in pictures.items()}
    writer.commit(items, {b"length": str(length).encode()})
