"""What a photo's EXIF data say that matters here: which way is up, and the focal length."""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from PIL import ExifTags, Image

_Base, _IFD = ExifTags.Base, ExifTags.IFD

#: Diagonal of the 36 x 24 mm film that "35 mm equivalent" focal lengths refer to, mm (CIPA DCG-001).
_FILM_DIAGONAL = math.hypot(36, 24)
#: Millimetres per unit of FocalPlaneResolutionUnit.
_UNITS = {2: 25.4, 3: 10.0, 4: 1.0, 5: 1e-3}
#: Focal lengths beyond these multiples of the longer side are typing errors or telescopes.
_SHORTEST, _LONGEST = 0.2, 50.0


def read_exif(image: Image.Image) -> dict[int, Any]:
    """The EXIF tags of an opened image, by number; empty where there are none or they are damaged."""
    try:
        exif = image.getexif()
        return {**exif, **exif.get_ifd(_IFD.Exif)}
    except Exception:  # Pillow raises whatever a damaged block happens to trip; the pixels may still be good
        return {}


def oriented(pixels: np.ndarray, tags: Mapping[int, Any]) -> np.ndarray:
    """The stored pixels (height, width, ...) as they should be seen."""
    match tags.get(_Base.Orientation):
        case 2:
            return pixels[:, ::-1]
        case 3:
            return pixels[::-1, ::-1]
        case 4:
            return pixels[::-1]
        case 5:
            return pixels.swapaxes(0, 1)
        case 6:
            return pixels[::-1].swapaxes(0, 1)
        case 7:
            return pixels[::-1, ::-1].swapaxes(0, 1)
        case 8:
            return pixels.swapaxes(0, 1)[::-1]
        case _:
            return pixels


def focal_pixels(tags: Mapping[int, Any], size: tuple[int, int]) -> float | None:
    """Focal length in pixels of an image that was perhaps resized, but not cropped, since it was taken.

    Args:
        tags: EXIF tags by number.
        size: (width, height) of the pixels as stored, before any turn.

    Returns:
        None where the tags do not tell, contradict themselves, or the picture's shape shows that it was cropped.
    """
    width, height = size
    taken = _number(tags, _Base.ExifImageWidth), _number(tags, _Base.ExifImageHeight)
    if taken[0] and taken[1]:
        then, now = (max(pair) / min(pair) for pair in (taken, size))
        if abs(then / now - 1) > 0.02:
            return None
    equivalent = _number(tags, _Base.FocalLengthIn35mmFilm)
    length, density = _number(tags, _Base.FocalLength), _number(tags, _Base.FocalPlaneXResolution)
    unit = _UNITS.get(int(_number(tags, _Base.FocalPlaneResolutionUnit) or 2))
    if equivalent:
        focal = equivalent * math.hypot(width, height) / _FILM_DIAGONAL
    elif length and density and unit:
        focal = length * density / unit * (max(size) / (max(taken) if taken[0] and taken[1] else max(size)))
    else:
        return None
    return focal if _SHORTEST <= focal / max(size) <= _LONGEST else None


def _number(tags: Mapping[int, Any], tag: int) -> float:
    """A positive finite number, or 0 where the tag is missing or says something else."""
    try:
        value = float(tags.get(tag, 0))
    except (TypeError, ValueError, ZeroDivisionError):
        return 0.0
    return value if math.isfinite(value) and value > 0 else 0.0
