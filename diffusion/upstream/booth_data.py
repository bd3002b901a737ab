"""Photos of one identity and pictures of others, in ID-Booth's layout, with identity embeddings that lie ready.

    ROOT/images/ID_1/*.jpg                     photos of a person
    ROOT/ArcFace_embeds/ID_1/ID_1.pt           one embedding for all of them, or one file per photo, in the same order
    PRIOR/images/*.jpg  PRIOR/ArcFace_embeds/  pictures that the base model made of others, likewise

A plain folder of photos serves as well; then embeddings are computed from the photos.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from ...datasets.photo import read_photo
from ...geometry.errors import HeadlabError
from ...geometry.regress.default_crop import UprightSquare
from ...geometry.safe_pickle import load_torch

_PHOTOS = (".jpg", ".jpeg", ".png", ".webp", ".bmp")


@dataclass(frozen=True)
class IdentityPhotos:
    """Pictures with what is known of their faces."""

    pictures: Float[Tensor, "count 3 size size"]  #: -1..1
    squares: tuple[UprightSquare, ...] | None = None  #: where the faces are, for the identity loss; None: everywhere
    embeddings: Float[Tensor, "count dims"] | None = None  #: that lay ready

    @property
    def count(self) -> int:
        return len(self.pictures)


def read_identity(
    folder: Path, size: int = 512, detector: Any = None, limit: int | None = None, lenient: bool = False
) -> IdentityPhotos:
    """Photos of a folder, by name, their shorter side resized and their middle cut out.

    Args:
        folder: of photos: ROOT/images/ID, or any.
        size: side, pixels.
        detector: `LandmarkDetector`, to find the faces; None: they are not looked for.
        limit: read no more than this.
        lenient: a picture without a face counts as a face, in place of an error: for pictures that a model drew.

    Raises:
        HeadlabError: no photos, one that cannot be read, no face in one, or embeddings that do not fit.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise HeadlabError(f"{folder} is no folder; give a folder of photos of one person")
    files = sorted(path for path in folder.iterdir() if path.suffix.lower() in _PHOTOS)[:limit]
    if not files:
        raise HeadlabError(f"{folder} holds no photos ({', '.join(_PHOTOS)}); give a folder of photos of one person")
    pictures = torch.stack([_square(read_photo(path).image, size) for path in files])
    squares = None
    if detector is not None:
        squares = face_squares(pictures, detector, None if lenient else [str(path) for path in files])
    return IdentityPhotos(pictures * 2 - 1, squares, read_embeddings(folder, len(files)))


def read_embeddings(folder: Path, count: int) -> Float[Tensor, "count dims"] | None:
    """Embeddings that lie beside a folder of photos (…/images/… -> …/ArcFace_embeds/…); None where there are none.

    Raises:
        UnsafePickleError: a file would run something.
        HeadlabError: another number of them than photos, or something else in the files.
    """
    place = embeddings_folder(folder)
    files = (
        [] if place is None or not place.is_dir() else sorted(p for p in place.iterdir() if p.suffix in (".pt", ".npy"))
    )
    if not files:
        return None
    rows = torch.cat([_embedding(path) for path in files])
    if len(rows) == 1:
        return rows.expand(count, -1)
    if len(rows) < count:
        raise HeadlabError(
            f"{place} holds {len(rows)} embeddings for {count} photos; give one for all of them, or one each"
        )
    return rows[:count]


def embeddings_folder(folder: Path) -> Path | None:
    """Where the authors keep a folder's embeddings; None where no part of the path is called images."""
    parts = list(folder.absolute().parts)
    for i in reversed(range(len(parts))):
        if parts[i] == "images":
            return Path(*parts[:i], "ArcFace_embeds", *parts[i + 1 :])
    return None


def face_crops(
    pictures: Float[Tensor, "batch 3 size size"], squares: Sequence[UprightSquare] | None, size: int
) -> Float[Tensor, "batch 3 crop crop"]:
    """The faces in pictures (0..1), upright. Differentiable."""
    if squares is None:
        from ..identity import resized

        return resized(pictures, size)
    whole = UprightSquare(
        *(torch.stack([getattr(s, n) for s in squares]).to(pictures) for n in ("centre", "side", "angle"))
    )
    return whole.cut(pictures, size)


def _embedding(path: Path) -> Float[Tensor, "rows dims"]:
    if path.suffix == ".npy":
        try:
            value: Any = torch.from_numpy(np.load(path, allow_pickle=False))
        except (ValueError, EOFError, OSError) as error:
            raise HeadlabError(f"{path} is damaged ({' '.join(str(error).split())[:80]}); compute it again") from error
    else:
        value = load_torch(path)
    if not isinstance(value, Tensor) or not value.is_floating_point() or not bool(value.isfinite().all()):
        raise HeadlabError(f"{path} holds no embedding (a tensor of numbers); compute it again")
    return value.detach().float().reshape(-1, value.shape[-1])


def _square(image: Float[Tensor, "3 height width"], size: int) -> Float[Tensor, "3 size size"]:
    height, width = image.shape[-2:]
    scale = size / min(height, width)
    shape = max(size, round(height * scale)), max(size, round(width * scale))
    grown = torch.nn.functional.interpolate(
        image[None], shape, mode="bilinear", antialias=scale < 1, align_corners=False
    )[0]
    top, left = ((n - size) // 2 for n in shape)
    return grown[:, top : top + size, left : left + size]


def face_squares(
    pictures: Float[Tensor, "count 3 size size"], detector: Any, names: list[str] | None = None
) -> tuple[UprightSquare, ...]:
    """Where the faces are in pictures (0..1); the whole picture where none is found.

    Args:
        pictures: square ones.
        detector: `LandmarkDetector`.
        names: of the pictures: then one without a face is an error.

    Raises:
        HeadlabError: a named picture shows no face.
    """
    out, size = [], pictures.shape[-1]
    for i, picture in enumerate(pictures):
        faces = detector.detect(picture)
        if faces:
            out.append(UprightSquare.from_landmarks(faces[0].points))
        elif names is not None:
            raise HeadlabError(
                f"{names[i]}: no face found in its middle square; leave it out, or cut it about the face"
            )
        else:
            half = torch.tensor([size / 2, size / 2])
            out.append(UprightSquare(half, torch.tensor(float(size)), torch.tensor(0.0)))
    return tuple(out)
