"""Where to look for faces that a first glance at the whole picture misses, and which of several finds are one face."""

from collections.abc import Iterator

import numpy as np

from .crops import Square
from .face_landmarks import FaceLandmarks

#: Tiles per side of the finer and finer grids laid over the picture.
_GRIDS = (2, 3, 5, 8)
#: How far tiles reach beyond their cell, so that a face on a seam lies whole in one of them.
_OVERLAP = 1.35
#: Smaller tiles hold fewer pixels than the face finders look at.
_SMALLEST_TILE = 192.0
#: Two finds whose boxes share more than this part of their union are one face.
_SAME_FACE = 0.3


def rounds(height: int, width: int) -> Iterator[list[Square]]:
    """Windows to search, round by round: stop at the first round that finds a face.

    First the whole picture on its side and upside down (a photo stored without its EXIF turn), then tiles.

    Args:
        height: of the picture, pixels.
        width: likewise.
    """
    whole = Square(width / 2, height / 2, float(max(height, width)))
    yield [whole.turned(angle) for angle in (np.pi / 2, -np.pi / 2, np.pi)]
    for grid in _GRIDS:
        side = max(height, width) / grid * _OVERLAP
        if side < _SMALLEST_TILE:
            return
        yield [Square(x, y, side) for y in _centres(height, side) for x in _centres(width, side)]


def _centres(length: int, side: float) -> list[float]:
    if length <= side:
        return [length / 2]
    count = int(np.ceil((length - side) / (side * 2 / 3))) + 1
    return np.linspace(side / 2, length - side / 2, count).tolist()


def distinct(faces: list[FaceLandmarks]) -> list[FaceLandmarks]:
    """One find per face, the most trusted; the largest face first."""
    kept: list[FaceLandmarks] = []
    for face in sorted(faces, key=lambda f: -f.confidence):
        if all(overlap(face.box, other.box) <= _SAME_FACE for other in kept):
            kept.append(face)
    return sorted(kept, key=lambda f: -f.size)


Box = tuple[float, float, float, float]


def overlap(a: Box, b: Box) -> float:
    """Intersection of two boxes (left, top, right, bottom) over their union; 0 where they are apart."""
    shared = max(0.0, min(a[2], b[2]) - max(a[0], b[0])) * max(0.0, min(a[3], b[3]) - max(a[1], b[1]))
    area = (a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1])
    return shared / (area - shared) if area > shared else 0.0
