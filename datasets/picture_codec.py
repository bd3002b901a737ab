"""Encoded pictures <-> pixels, fast (training) and strict (conversion, inspection). Imports no torch.

`decode_strict` refuses whatever is cut short or malformed; `decode_square` is what training reads: OpenCV's decoder at
the smallest scale that suffices, then a resize that averages, all outside Python's global lock.
"""

import io
import re
import threading

import cv2
import numpy as np
from jaxtyping import UInt8
from PIL import Image, ImageOps

from ..geometry.errors import HeadlabError

_FORMATS = ("JPEG", "MPO", "PNG", "WEBP", "TIFF", "BMP", "GIF", "PPM")
MOST_MEGAPIXELS = 100
_SCALED = {2: cv2.IMREAD_REDUCED_COLOR_2, 4: cv2.IMREAD_REDUCED_COLOR_4, 8: cv2.IMREAD_REDUCED_COLOR_8}
#: A marker inside a JPEG's entropy-coded data that does not belong there.
_STRAY = re.compile(rb"\xff[\x01-\xbf\xc0-\xcf\xf0-\xfe]")
_lock = threading.Lock()

SIZES = (64, 512)  #: smallest and largest side that training pictures are resized to


def decode_strict(data: bytes, name: str) -> Image.Image:
    """A whole picture, RGB, turned upright by its EXIF data.

    Args:
        data: an image file.
        name: what to call it in messages.

    Raises:
        HeadlabError: empty, no image, damaged, cut short, or too large.
    """
    if not data:
        raise HeadlabError(f"{name} is empty (0 bytes); get a whole copy of it")
    try:
        image = _opened(data)
        if image.width * image.height > MOST_MEGAPIXELS * 1e6:
            raise HeadlabError(f"{name} has {image.width} x {image.height} pixels, too many; make it smaller")
        if image.format == "JPEG":
            _check_jpeg(data)
        image.load()
        return ImageOps.exif_transpose(image).convert("RGB")
    except HeadlabError:
        raise
    except Exception as error:  # a damaged file makes decoders raise nearly anything
        reason = " ".join(str(error).split())[:100] or type(error).__name__
        raise HeadlabError(f"{name} is damaged or no picture ({reason}); get a whole copy of it") from error


def _opened(data: bytes) -> Image.Image:
    with _lock:  # Pillow's own guard against huge pictures is one global number
        limit, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None
        try:
            Image.init()
            return Image.open(io.BytesIO(data), formats=[name for name in _FORMATS if name in Image.OPEN])
        finally:
            Image.MAX_IMAGE_PIXELS = limit


def _check_jpeg(data: bytes) -> None:
    """Decoders fill in what is missing of a JPEG and say nothing; so look at its structure.

    Raises:
        ValueError: cut short, or markers in its data that do not belong there.
    """
    end = data.rfind(b"\xff\xd9")
    if end < 0:
        raise ValueError("cut short: the end marker is missing")
    start = data.rfind(b"\xff\xda", 0, end)
    if start < 0:
        raise ValueError("no picture data")
    stray = _STRAY.search(data, start + 2 + int.from_bytes(data[start + 2 : start + 4], "big"), end)
    if stray:
        raise ValueError(f"corrupt data at byte {stray.start()}")


def picture_size(data: bytes) -> tuple[int, int]:
    """(height, width) as stored, from the header alone.

    Raises:
        HeadlabError: no image.
    """
    try:
        image = _opened(data)
    except Exception as error:
        raise HeadlabError(f"the data is no picture ({type(error).__name__}); get a whole copy") from error
    return image.height, image.width


def decode_square(data: bytes | memoryview, out: UInt8[np.ndarray, "3 size size"], flip: bool = False) -> bool:
    """A picture as training takes it: the middle square, resized with averaging, perhaps mirrored.

    Args:
        data: an image file that was checked when it was stored.
        out: where the picture goes; planes of red, green and blue.
        flip: left and right change places.

    Returns:
        False where it cannot be decoded; `out` is then as it was.
    """
    raw, size = np.frombuffer(data, np.uint8), out.shape[-1]
    if len(raw) < 12:
        return False
    jpeg = raw[0] == 0xFF and raw[1] == 0xD8
    if jpeg and (raw[-2] != 0xFF or raw[-1] != 0xD9) and b"\xff\xd9" not in bytes(raw[-64:]):
        return False  # cut short: OpenCV would fill the rest with grey
    # Scaled decoding keeps whole frequencies of a JPEG: as good as averaging, and most of the work is saved.
    scale = _scale(raw, size) if jpeg else 1
    try:
        pixels = cv2.imdecode(raw, _SCALED.get(scale, cv2.IMREAD_COLOR))
    except cv2.error:
        return False
    if pixels is None:
        return False
    pixels = fitted_square(pixels, size)
    if flip:
        pixels = cv2.flip(pixels, 1)
    cv2.mixChannels([pixels], list(out), [0, 2, 1, 1, 2, 0])
    return True


def fitted_square(pixels: np.ndarray, size: int) -> np.ndarray:
    """The middle square, resized: averaged where it shrinks, bicubic where it grows."""
    height, width = pixels.shape[:2]
    side = min(height, width)
    if height != width:
        top, left = (height - side) // 2, (width - side) // 2
        pixels = pixels[top : top + side, left : left + side]
    if side == size:
        return pixels
    return cv2.resize(pixels, (size, size), interpolation=cv2.INTER_AREA if side > size else cv2.INTER_CUBIC)


def _scale(raw: np.ndarray, size: int) -> int:
    """How much smaller a JPEG may be decoded."""
    side = _jpeg_side(raw)
    for scale in (8, 4, 2):
        if side // scale >= size:
            return scale
    return 1


def _jpeg_side(raw: np.ndarray) -> int:
    """The shorter side of a JPEG, from its frame header; 0 where none is found."""
    at, end = 2, min(len(raw) - 9, 1 << 16)
    while at < end and raw[at] == 0xFF:
        marker = int(raw[at + 1])
        if 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC):
            height = int(raw[at + 5]) << 8 | int(raw[at + 6])
            width = int(raw[at + 7]) << 8 | int(raw[at + 8])
            return min(height, width)
        at += 2 + (int(raw[at + 2]) << 8 | int(raw[at + 3]))
    return 0
