"""Valence against arousal as a picture: every item a dot in its class's colour, on the unit circle. No torch."""

import io
from collections.abc import Sequence

import numpy as np
from jaxtyping import UInt8
from PIL import Image, ImageDraw, ImageFont

from .records import EXPRESSIONS

#: Of the classes; told apart by people with any colour vision (after Okabe and Ito, 2008).
_COLOURS = (
    (110, 110, 110),
    (230, 159, 0),
    (0, 114, 178),
    (204, 121, 167),
    (120, 60, 160),
    (0, 130, 90),
    (213, 60, 20),
    (86, 180, 233),
    (190, 190, 190),
    (160, 140, 120),
    (90, 80, 70),
)
_UNKNOWN = (150, 150, 150)
_SIDE, _MARGIN, _LEGEND = 640, 60, 230


def draw_valence_arousal(rows: Sequence[tuple[float, float, int]]) -> UInt8[np.ndarray, "height width 3"]:
    """The picture, RGB.

    Args:
        rows: valence and arousal, -1..1, and index into EXPRESSIONS (-1: unknown), per item.
    """
    width, height = _SIDE + 2 * _MARGIN + _LEGEND, _SIDE + 2 * _MARGIN
    canvas = np.full((height, width, 3), 255, np.float32)
    values = np.array([row[:2] for row in rows], np.float64).reshape(-1, 2)
    classes = np.array([row[2] for row in rows], np.int64)
    for kind in np.argsort(-np.bincount(classes + 1, minlength=len(EXPRESSIONS) + 1)) - 1:
        chosen = classes == kind
        if chosen.any():
            _dots(canvas, values[chosen], _COLOURS[kind] if kind >= 0 else _UNKNOWN)
    picture = Image.fromarray(np.clip(canvas, 0, 255).astype(np.uint8))
    draw = ImageDraw.Draw(picture)
    _axes(draw)
    _legend(draw, classes)
    return np.asarray(picture)


def _dots(canvas: np.ndarray, values: np.ndarray, colour: tuple[int, int, int]) -> None:
    """Dots that cover the more, the more lie on one spot; the fewer there are, the larger."""
    count = len(values)
    radius = 3 if count < 2_000 else 2 if count < 20_000 else 1
    strength = 0.75 if count < 2_000 else 0.5 if count < 20_000 else 0.25
    x = np.rint(_MARGIN + (values[:, 0] + 1) / 2 * _SIDE).astype(int)
    y = np.rint(_MARGIN + (1 - values[:, 1]) / 2 * _SIDE).astype(int)
    hits = np.zeros(canvas.shape[:2], np.float32)
    reach = np.arange(-radius, radius + 1)
    for dy in reach:
        for dx in reach:
            if dx * dx + dy * dy <= radius * radius + 1:
                np.add.at(hits, (np.clip(y + dy, 0, len(canvas) - 1), np.clip(x + dx, 0, canvas.shape[1] - 1)), 1)
    cover = (1 - (1 - strength) ** np.minimum(hits, 6))[..., None]
    canvas += cover * (np.array(colour, np.float32) - canvas)


def _axes(draw: ImageDraw.ImageDraw) -> None:
    font = ImageFont.load_default(16)
    low, high, middle = _MARGIN, _MARGIN + _SIDE, _MARGIN + _SIDE // 2
    draw.ellipse((low, low, high, high), outline=(190, 190, 190))
    draw.line((low, middle, high, middle), fill=(190, 190, 190))
    draw.line((middle, low, middle, high), fill=(190, 190, 190))
    draw.rectangle((low, low, high, high), outline=(60, 60, 60))
    for value in (-1.0, -0.5, 0.0, 0.5, 1.0):
        at = _MARGIN + (value + 1) / 2 * _SIDE
        draw.text((at, high + 8), f"{value:g}", (40, 40, 40), font, anchor="mt")
        draw.text((low - 8, 2 * _MARGIN + _SIDE - at), f"{value:g}", (40, 40, 40), font, anchor="rm")
    draw.text((middle, high + 32), "valence", (0, 0, 0), font, anchor="mt")
    draw.text((low, low - 12), "arousal", (0, 0, 0), font, anchor="mb")


def _legend(draw: ImageDraw.ImageDraw, classes: np.ndarray) -> None:
    font = ImageFont.load_default(16)
    left, top = 2 * _MARGIN + _SIDE - 20, _MARGIN
    for kind in (*range(len(EXPRESSIONS)), -1):
        count = int((classes == kind).sum())
        if count:
            colour = _COLOURS[kind] if kind >= 0 else _UNKNOWN
            draw.ellipse((left, top + 3, left + 12, top + 15), fill=colour)
            name = EXPRESSIONS[kind] if kind >= 0 else "unknown"
            draw.text((left + 20, top), f"{name}  {count:,}", (0, 0, 0), font)
            top += 26


def encode_png(pixels: UInt8[np.ndarray, "height width 3"]) -> bytes:
    """As a file."""
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()
