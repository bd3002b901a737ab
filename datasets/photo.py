"""Read photos: any ordinary image file -> float RGB the right way up, with alpha and focal length if it has them."""

import io
import struct
import threading
import warnings
from pathlib import Path
from typing import BinaryIO

import cv2
import numpy as np
import torch
from jaxtyping import Float
from PIL import Image, ImageCms, UnidentifiedImageError
from PIL.PngImagePlugin import PngImageFile
from PIL.TiffImagePlugin import TiffImageFile

from ..geometry.errors import HeadlabError
from ..geometry.frame import Frame
from ..geometry.landmarks.quiet import quiet
from .exif import focal_pixels, oriented, read_exif

#: Image formats that are tried; others Pillow knows run other programs or are not photos.
_FORMATS = ("JPEG", "MPO", "PNG", "WEBP", "TIFF", "BMP", "GIF", "PPM", "JPEG2000", "AVIF")
_READS = "JPEG, PNG, WebP, TIFF or BMP"
#: Raw camera files are TIFF inside and would be taken for their thumbnail.
_RAW = {".arw", ".cr2", ".cr3", ".dng", ".nef", ".orf", ".pef", ".raf", ".rw2", ".srw"}
_HEIC = {b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1"}
#: What shows through transparent parts.
_BACKGROUND = 1.0

_lock = threading.Lock()

Pixels = Float[np.ndarray, "height width channels"]  #: float32, 0..1; 3 channels, or 4 with alpha


def read_photo(path: Path | str, *, max_megapixels: float | int = 100) -> Frame:
    """Read a photo as float32 sRGB in 0..1, turned upright by its EXIF data.

    Colours of an embedded ICC profile (CMYK, Display P3, Adobe RGB...) are converted to sRGB; a damaged profile
    counts as none. Transparent parts are laid on white, and alpha becomes the frame's mask. 16 bits per channel are
    kept, unless an ICC profile must be applied, which is done in 8. Of several pictures in a file the first is read.

    Args:
        path: JPEG, PNG, WebP, TIFF, BMP or the like.
        max_megapixels: larger pictures are refused before they are decoded.

    Returns:
        A frame with image, mask (None where opaque), focal length in pixels (None where unknown), and source.

    Raises:
        HeadlabError: no such file, not an image, a kind that cannot be read here, damaged, HDR, or too large.
    """
    path = Path(path)
    _check_file(path)
    with warnings.catch_warnings(), path.open("rb") as file:
        warnings.simplefilter("ignore")
        image = _opened(path, file)
        width, height = image.size
        if width * height > max_megapixels * 1e6:
            raise HeadlabError(
                f"{path} has {width} x {height} pixels, more than {max_megapixels:g} megapixels; "
                "make it smaller, or raise the limit"
            )
        try:
            sixteen = _has_sixteen_bits(image)  # before anything else, as reading EXIF may decode the pixels
            tags = read_exif(image)
            image.load()
            if sixteen:
                pixels = oriented(_sixteen_bit(path), tags)
            else:
                pixels = oriented(_decoded(path, image), read_exif(image))  # Pillow has turned TIFFs, and says so
        except HeadlabError:
            raise
        except Exception as error:  # a damaged file makes decoders raise nearly anything
            reason = " ".join(str(error).split())[:120] or type(error).__name__
            raise HeadlabError(f"{path} is damaged ({reason}); get a whole copy of it") from error
    planes = torch.from_numpy(np.ascontiguousarray(pixels.transpose(2, 0, 1)))
    colour, mask = planes[:3], planes[3] if planes.shape[0] == 4 else None
    if mask is not None and bool((mask == 1).all()):
        mask = None
    if mask is not None:
        colour = colour * mask + _BACKGROUND * (1 - mask)
    return Frame(colour, mask=mask, focal=focal_pixels(tags, (width, height)), source=path)


def _check_file(path: Path) -> None:
    try:
        if not path.exists():
            raise HeadlabError(f"{path} does not exist; check the name")
        if path.is_dir():
            raise HeadlabError(f"{path} is a folder; name a photo in it")
        if path.stat().st_size == 0:
            raise HeadlabError(f"{path} is empty (0 bytes); get a whole copy of it")
    except OSError as error:
        raise HeadlabError(f"{path} cannot be read ({error.strerror}); check the name and its permissions") from error


def _opened(path: Path, file: BinaryIO) -> Image.Image:
    """The picture with its header read."""
    if path.suffix.lower() in _RAW:
        raise HeadlabError(f"{path} is a raw camera file, which is not read here; develop it to JPEG or PNG")
    with _lock:  # Pillow's own guard against huge pictures is one global number; ours names the size
        limit, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None
        try:
            Image.init()
            return Image.open(file, formats=[name for name in _FORMATS if name in Image.OPEN])
        except UnidentifiedImageError:
            file.seek(0)
            raise HeadlabError(_what_it_is(path, file.read(32))) from None
        except Exception as error:
            raise HeadlabError(f"{path} is damaged (its header makes no sense); get a whole copy of it") from error
        finally:
            Image.MAX_IMAGE_PIXELS = limit


def _what_it_is(path: Path, head: bytes) -> str:
    if head[4:8] == b"ftyp":
        if head[8:12] in _HEIC:
            return f"{path} is a HEIC photo, which is not read here; export it as JPEG or PNG"
        return f"{path} is a video or a kind of image that is not read here; give a {_READS} photo"
    if not head.strip(b"\0"):
        return f"{path} holds only zeros, as after a broken copy; get a whole copy of it"
    return f"{path} is not an image, or its start is damaged; give a {_READS} photo"


def _has_sixteen_bits(image: Image.Image) -> bool:
    """Whether the file holds 16-bit colour that Pillow would cut to 8 (it keeps 16-bit grey)."""
    if image.mode not in ("RGB", "RGBA", "LA") or _profile(image) is not None:
        return False
    if isinstance(image, TiffImageFile):
        associated = 1 in tuple(image.tag_v2.get(338, ()))  # colours multiplied by alpha: left to Pillow
        return set(image.tag_v2.get(258, ())) == {16} and not associated
    return isinstance(image, PngImageFile) and bool(image.tile) and str(image.tile[0][3]).endswith(";16B")


def _sixteen_bit(path: Path) -> Pixels:
    data = path.read_bytes()
    if data[:4] in (b"II*\0", b"MM\0*"):
        data = _untagged(data)
    with quiet():
        stored = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    if stored is None or stored.dtype != np.uint16 or stored.ndim != 3:
        raise HeadlabError(f"{path} holds a kind of 16-bit colour that is not read here; save it as 16-bit PNG")
    order = cv2.COLOR_BGR2RGB if stored.shape[2] == 3 else cv2.COLOR_BGRA2RGBA
    return cv2.cvtColor(stored, order) / np.float32(65535)


def _untagged(tiff: bytes) -> bytes:
    """The TIFF file with its orientation set to upright: OpenCV fails on turned ones."""
    order = "<" if tiff[:2] == b"II" else ">"
    (directory,) = struct.unpack_from(order + "I", tiff, 4)
    (count,) = struct.unpack_from(order + "H", tiff, directory)
    changed = bytearray(tiff)
    for entry in range(directory + 2, directory + 2 + 12 * count, 12):
        if struct.unpack_from(order + "HHI", tiff, entry) == (274, 3, 1):
            struct.pack_into(order + "H", changed, entry + 8, 1)
    return bytes(changed)


def _decoded(path: Path, image: Image.Image) -> Pixels:
    if image.mode[0] in "IF":
        return _deep_grey(path, image)
    if "transparency" in image.info or image.mode in ("RGBA", "LA", "PA", "RGBa"):
        image = image.convert("RGBA")
        alpha = image.getchannel("A")
        image = image.convert("RGB")
    else:
        alpha = None
    colour = _to_srgb(image)
    if alpha is not None:
        colour.putalpha(alpha)
    pixels = np.asarray(colour).astype(np.float32)
    pixels /= 255
    return pixels


def _deep_grey(path: Path, image: Image.Image) -> Pixels:
    """Grey of 16 or 32 bits, or floating point."""
    grey = np.asarray(image)
    if grey.dtype.kind != "f":
        grey = grey / np.float32(65535)
    if not (grey.min() >= 0 and grey.max() <= 1):  # also catches NaN
        raise HeadlabError(
            f"{path} holds values outside the range of 16 bits, or of 0..1; tone-map it to an ordinary {_READS} file"
        )
    return np.repeat(grey.astype(np.float32)[..., None], 3, -1)


def _profile(image: Image.Image) -> ImageCms.ImageCmsProfile | None:
    """The embedded colour profile, unless it is sRGB or damaged."""
    stored = image.info.get("icc_profile")
    if not stored:
        return None
    try:
        profile = ImageCms.ImageCmsProfile(io.BytesIO(stored))
        return None if "sRGB" in ImageCms.getProfileDescription(profile) else profile
    except (ImageCms.PyCMSError, OSError, TypeError, ValueError):
        return None


def _to_srgb(image: Image.Image) -> Image.Image:
    """8-bit colours of any kind -> RGB in sRGB."""
    profile = _profile(image)
    if image.mode == "LAB":
        profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("LAB"))
    elif image.mode not in ("L", "CMYK"):
        image = image.convert("RGB")
    if profile is not None:
        srgb = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB"))
        try:
            converted = ImageCms.profileToProfile(image, profile, srgb, outputMode="RGB")
            return image.convert("RGB") if converted is None else converted
        except ImageCms.PyCMSError:  # a profile for another kind of colours than these
            pass
    return image.convert("RGB")
