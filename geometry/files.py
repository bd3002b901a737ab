"""Writing files so that a reader never meets half of one: a temporary name in the same folder, then a rename."""

import json
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from .errors import HeadlabError


@contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """A temporary file beside `path`, which takes its place when the block ends well and vanishes otherwise.

    The temporary name keeps the suffix, since many writers choose the format by it. Any exception, Ctrl-C included,
    removes it.

    Raises:
        HeadlabError: the folder is missing or may not be written, or the disk is full.
    """
    path = Path(path)
    temporary = path.with_name(f".{path.stem}.{secrets.token_hex(6)}{path.suffix}")
    try:
        # O_EXCL with 0o666 rather than tempfile.mkstemp: the finished file shall have the user's usual permissions.
        os.close(os.open(temporary, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666))
        yield temporary
        os.replace(temporary, path)
    except OSError as error:
        # An error about some other file (one being read inside the block) is not ours to explain.
        if error.filename is not None and os.fspath(error.filename) not in (str(temporary), str(path)):
            raise
        reason = error.strerror or str(error)
        remedy = "choose a folder that exists, is writable and has room"
        raise HeadlabError(f"cannot write {path}: {reason}; {remedy}") from error
    finally:
        # Already renamed, or never made, or the folder went away: all the same, nothing of ours is left.
        with _ignore_os_errors():
            temporary.unlink()


@contextmanager
def _ignore_os_errors() -> Iterator[None]:
    try:
        yield
    except OSError:
        pass


def write_bytes(path: Path, data: bytes) -> None:
    """Write `data` atomically."""
    with atomic_path(path) as temporary:
        temporary.write_bytes(data)


def write_text(path: Path, text: str) -> None:
    """Write UTF-8 text atomically, with the line ends it has."""
    write_bytes(path, text.encode("utf-8"))


def write_json(path: Path, value: Any) -> None:
    """Write strict JSON atomically: NaN and infinity become null, arrays and tensors lists, paths strings."""
    write_text(path, json.dumps(plain(value), indent=2, ensure_ascii=False, allow_nan=False) + "\n")


def write_png(path: Path, image: Float[Tensor, "channels height width"]) -> None:
    """Write an image atomically as 8-bit PNG.

    Args:
        image: values 0..1 (clamped); 1, 3 or 4 channels.
    """
    write_bytes(path, encode_image(image, "PNG"))


def encode_image(image: Float[Tensor, "channels height width"], kind: str, quality: int = 95) -> bytes:
    """The bytes of an image file.

    Args:
        image: values 0..1 (clamped).
        kind: "PNG" or "JPEG".
        quality: of the JPEG, 1..100; colour is not subsampled.

    Raises:
        ValueError: wrong number of channels, no pixels, or values that are not numbers.
    """
    from PIL import Image

    if image.shape[0] not in (1, 3, 4) or image.numel() == 0:
        raise ValueError(f"a picture is (1, 3 or 4, height, width); got {tuple(image.shape)}")
    if not bool(torch.isfinite(image).all()):
        raise ValueError("a picture's values must be numbers; got NaN or infinity")
    levels = (image.detach().cpu().clamp(0, 1) * 255).round().to(torch.uint8).permute(1, 2, 0).numpy()
    picture = Image.fromarray(levels[..., 0] if levels.shape[-1] == 1 else levels)
    buffer = BytesIO()
    options = {"quality": quality, "subsampling": 0} if kind == "JPEG" else {}
    picture.save(buffer, kind, **options)
    return buffer.getvalue()


def plain(value: Any) -> Any:
    """`value` made of what JSON knows."""
    if isinstance(value, dict):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple, set, frozenset)):
        return [plain(item) for item in value]
    if isinstance(value, Tensor):
        return plain(value.detach().cpu().numpy())
    if isinstance(value, np.ndarray):
        return plain(value.tolist())
    if isinstance(value, np.generic):
        return plain(value.item())
    if isinstance(value, float):
        return value if np.isfinite(value) else None
    if value is None or isinstance(value, (bool, int, str)):
        return value
    return str(value)
