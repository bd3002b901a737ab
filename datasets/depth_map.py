"""Read and write depth maps: 16-bit pictures in millimetres, as depth cameras and datasets have them."""

import io
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from PIL import Image
from torch import Tensor

from ..geometry.errors import HeadlabError
from ..geometry.files import write_bytes

_MOST_PIXELS = 100_000_000


def read_depth(path: Path) -> Float[Tensor, "height width"]:
    """Depth in metres, 0 = none.

    Args:
        path: PNG or TIFF with one channel of 16 bits, millimetres, 0 = none.

    Raises:
        HeadlabError: no such file, damaged, too large, or no 16-bit picture of one channel.
    """
    path = Path(path)
    if not path.is_file():
        raise HeadlabError(f"no depth map {path}: there is no such file")
    try:
        with Image.open(path, formats=("PNG", "TIFF")) as image:
            if image.width * image.height > _MOST_PIXELS:
                raise HeadlabError(
                    f"{path} has {image.width} x {image.height} pixels; a depth map may have 100 million"
                )
            if not image.mode.startswith("I"):
                raise HeadlabError(
                    f"{path} is a picture of kind {image.mode}; a depth map has one channel of 16 bits, millimetres"
                )
            levels = np.asarray(image).astype(np.float32)
    except HeadlabError:
        raise
    except Exception as error:
        reason = " ".join(str(error).split())[:120]
        raise HeadlabError(
            f"{path} cannot be read as a depth map ({reason}); expected a PNG or TIFF of 16 bits, millimetres"
        ) from error
    return torch.from_numpy(levels) / 1000


def write_depth(path: Path, depth: Float[Tensor, "height width"]) -> None:
    """Write metres as a 16-bit PNG of millimetres, atomically; beyond 65.535 m is none."""
    levels = (depth.detach().cpu().double() * 1000).round()
    levels = torch.where((levels > 0) & (levels < 65536), levels, 0.0).numpy().astype(np.uint16)
    buffer = io.BytesIO()
    Image.fromarray(levels).save(buffer, "PNG")
    write_bytes(path, buffer.getvalue())
