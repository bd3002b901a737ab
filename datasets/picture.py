"""Write pictures."""

from pathlib import Path

import numpy as np
from jaxtyping import Float
from PIL import Image
from torch import Tensor

from .atomic import replacing


def write_png(path: Path, image: Float[Tensor, "channels height width"]) -> None:
    """Write an 8-bit sRGB PNG, whole or not at all.

    Args:
        path: where to; the folder must exist.
        image: sRGB in 0..1, clipped and rounded; 1 channel (grey), 3 (RGB) or 4 (RGB and alpha, not premultiplied).

    Raises:
        HeadlabError: the file cannot be written.
        ValueError: wrong number of channels, no pixels, or values that are not numbers.
    """
    pixels = image.detach().cpu().float().numpy()
    if pixels.shape[0] not in (1, 3, 4) or pixels.size == 0:
        raise ValueError(f"a picture is (1, 3 or 4, height, width); got {pixels.shape}")
    if not np.isfinite(pixels).all():
        raise ValueError("a picture's values must be numbers; got NaN or infinity")
    rounded = np.ascontiguousarray((pixels.clip(0, 1) * 255 + 0.5).astype(np.uint8).transpose(1, 2, 0))
    picture = Image.fromarray(rounded[..., 0] if rounded.shape[-1] == 1 else rounded)
    with replacing(path) as temporary:
        picture.save(temporary, format="PNG", compress_level=4)
