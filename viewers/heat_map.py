"""Errors on a surface as colours, with the bar that tells what they mean."""

import math

import cv2
import numpy as np
import torch
from jaxtyping import Float, UInt8
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from ..heads.view.surface import Surface
from .canvas import Picture

#: Dark blue to yellow, growing evenly in lightness, so that it can be read in grey and by the colour-blind: every
#: eighth part of matplotlib's viridis (Smith and van der Walt, CC0).
_STOPS = (
    (68, 1, 84),
    (71, 44, 122),
    (59, 81, 139),
    (44, 113, 142),
    (33, 144, 141),
    (39, 173, 129),
    (92, 200, 99),
    (170, 220, 50),
    (253, 231, 37),
)


def heat_colors(values: Float[Tensor, "*any"], limit: float) -> Float[Tensor, "*any 3"]:
    """Values 0..limit as colours, sRGB 0..1; beyond it the last colour, NaN grey."""
    stops = torch.tensor(_STOPS, dtype=torch.float32) / 255
    known = values.isfinite()
    place = (torch.where(known, values, 0.0) / limit).clamp(0, 1) * (len(stops) - 1)
    below = place.floor().long().clamp(max=len(stops) - 2)
    colors = torch.lerp(stops[below], stops[below + 1], (place - below)[..., None].float())
    return torch.where(known[..., None], colors, torch.tensor(0.6))


def painted(surface: Surface, errors: Float[Tensor, "verts"], limit: float) -> Surface:
    """The surface in the colours of its errors.

    Args:
        surface: a texture it has is left out.
        errors: one per vertex, in the unit of `limit`; NaN: not measured.
        limit: shown in the last colour, and all that is larger.
    """
    return Surface(surface.vertices, surface.faces, heat_colors(errors, limit))


def good_limit(errors: Float[Tensor, "verts"]) -> float:
    """A round limit that 95 of 100 errors keep to: 1, 2 or 5 times a power of ten."""
    known = errors[errors.isfinite()]
    wanted = float(np.quantile(known.numpy(), 0.95)) if len(known) else 1.0
    power = 10.0 ** np.floor(np.log10(max(wanted, 1e-9)))
    return float(next(step * power for step in (1, 2, 5, 10) if step * power >= wanted * 0.999))


def color_bar(height: int, limit: float, unit: str = "mm") -> Picture:
    """An upright bar from 0 to the limit, with five ticks."""
    text = max(11, height // 26)
    margin = text
    font = ImageFont.load_default(size=text)
    labels = [f"{limit * k / 4:.3g}" + (f" {unit}" if k == 4 else "") for k in range(5)]
    thick = max(10, height // 24)
    width = thick + 16 + math.ceil(max(font.getlength(label) for label in labels))
    picture = Image.new("RGB", (width, height), (255, 255, 255))
    pen = ImageDraw.Draw(picture)
    ramp = heat_colors(torch.linspace(limit, 0, height - 2 * margin), limit)
    strip: UInt8[np.ndarray, "rows 1 3"] = (ramp * 255).round().byte().numpy()[:, None]
    picture.paste(Image.fromarray(np.repeat(strip, thick, 1)), (4, margin))
    for k, label in enumerate(labels):
        y = margin + (height - 2 * margin - 1) * (1 - k / 4)
        pen.line([(4 + thick, y), (8 + thick, y)], fill=(40, 40, 44))
        pen.text((11 + thick, y), label, fill=(40, 40, 44), font=font, anchor="lm")
    return np.asarray(picture)


def with_color_bar(picture: Picture, limit: float, unit: str = "mm") -> Picture:
    """The picture and, on its right, what its colours mean."""
    bar = color_bar(picture.shape[0], limit, unit)
    return np.asarray(cv2.hconcat([np.ascontiguousarray(picture), bar]), np.uint8)
