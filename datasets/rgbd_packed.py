"""Depth in picture channels: LDM3D's packing (0, high byte, low byte) and a fourth channel of 16 bits. Millimetres.

`diffusion.depth_packing` packs relative depth 0..1 for the networks; here the 16 bits are counts of a millimetre.
"""

import io
from pathlib import Path

import cv2
import numpy as np
import torch
from jaxtyping import Float, UInt16
from PIL import Image
from torch import Tensor

from ..geometry.errors import HeadlabError
from ..geometry.files import write_bytes


def millimetres(depth: Float[Tensor, "height width"]) -> UInt16[np.ndarray, "height width"]:
    """Metres -> counts; beyond 65.535 m is none."""
    levels = (depth.detach().cpu().double() * 1000).round()
    return torch.where((levels > 0) & (levels < 65536), levels, 0.0).numpy().astype(np.uint16)


def write_packed(path: Path, depth: Float[Tensor, "height width"]) -> None:
    """Write LDM3D's three channels as an 8-bit PNG, atomically: red 0, green d >> 8, blue d & 255."""
    counts = millimetres(depth)
    channels = np.stack([np.zeros_like(counts), counts >> 8, counts & 255], -1).astype(np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(channels).save(buffer, "PNG")
    write_bytes(path, buffer.getvalue())


def read_packed(path: Path) -> Float[Tensor, "height width"]:
    """Inverse of `write_packed`, metres.

    Raises:
        HeadlabError: not such a picture.
    """
    stored = _read(path)
    if stored.dtype != np.uint8 or stored.ndim != 3 or stored.shape[2] != 3 or stored[..., 2].any():
        raise HeadlabError(f"{path} is no packed depth; expected an 8-bit PNG whose red channel is 0 (LDM3D's packing)")
    counts = stored[..., 1].astype(np.float32) * 256 + stored[..., 0]
    return torch.from_numpy(counts / 1000)


def write_four_channels(
    path: Path, image: Float[Tensor, "3 height width"], depth: Float[Tensor, "height width"]
) -> None:
    """Write colour and depth as one 16-bit RGBA PNG, atomically; alpha holds millimetres."""
    levels = (image.detach().cpu().clamp(0, 1) * 65535).round().permute(1, 2, 0).numpy().astype(np.uint16)
    stacked = np.concatenate([levels[..., ::-1], millimetres(depth)[..., None]], -1)
    done, data = cv2.imencode(".png", stacked)
    assert done
    write_bytes(path, data.tobytes())


def read_four_channels(path: Path) -> tuple[Float[Tensor, "3 height width"], Float[Tensor, "height width"]]:
    """Inverse of `write_four_channels`.

    Raises:
        HeadlabError: not such a picture.
    """
    stored = _read(path)
    if stored.dtype != np.uint16 or stored.ndim != 3 or stored.shape[2] != 4:
        raise HeadlabError(f"{path} is no RGB-D picture; expected a 16-bit RGBA PNG with millimetres in alpha")
    image = torch.from_numpy(stored[..., 2::-1].astype(np.float32) / 65535).permute(2, 0, 1).contiguous()
    return image, torch.from_numpy(stored[..., 3].astype(np.float32) / 1000)


def _read(path: Path) -> np.ndarray:
    try:
        data = np.frombuffer(path.read_bytes(), np.uint8)
    except OSError as error:
        raise HeadlabError(f"{path} cannot be read ({error.strerror})") from error
    stored = cv2.imdecode(data, cv2.IMREAD_UNCHANGED) if len(data) else None
    if stored is None:
        raise HeadlabError(f"{path} is no picture, or damaged; get a whole copy of it")
    return stored
