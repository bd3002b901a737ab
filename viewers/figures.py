"""Pictures made of pictures: contact sheets, strips, comparisons; with captions. No display or GL needed."""

from collections.abc import Sequence

import cv2
import numpy as np
from PIL import Image, ImageDraw, ImageFont

from ..geometry.errors import HeadlabError
from .canvas import Picture

_PAPER, _INK = (255, 255, 255), (40, 40, 44)
_GAP = 6  # pixels


def captioned(picture: Picture, text: str, *, height: int | None = None) -> Picture:
    """The picture with a line of text below; long texts are shortened."""
    rows, columns = picture.shape[:2]
    height = height or max(16, rows // 14)
    font = ImageFont.load_default(size=round(0.66 * height))
    bar = Image.new("RGB", (columns, height), _PAPER)
    pen = ImageDraw.Draw(bar)
    shown = text
    while pen.textlength(shown, font=font) > columns - 4 and len(shown) > 1:
        text = text[:-1]
        shown = text + "…"
    pen.text((columns / 2, height / 2), shown, fill=_INK, font=font, anchor="mm")
    return np.concatenate([picture, np.asarray(bar)], 0)


def contact_sheet(
    pictures: Sequence[Picture], captions: Sequence[str] | None = None, *, columns: int | None = None
) -> Picture:
    """Pictures in a grid on white, row by row, each in a cell of the largest one's size.

    Args:
        pictures: at least one.
        captions: one for each, below it.
        columns: of the grid; None: about as many as rows, rather more.

    Raises:
        HeadlabError: no pictures.
        ValueError: not as many captions as pictures.
    """
    if not pictures:
        raise HeadlabError("a contact sheet of no pictures cannot be drawn; name at least one head")
    if captions is not None:
        line = max(16, max(picture.shape[0] for picture in pictures) // 14)
        pictures = [captioned(p, text, height=line) for p, text in zip(pictures, captions, strict=True)]
    columns = columns or int(np.ceil(np.sqrt(len(pictures) * 1.4)))
    columns = max(1, min(columns, len(pictures)))
    height, width = (max(picture.shape[axis] for picture in pictures) for axis in (0, 1))
    rows = -(-len(pictures) // columns)
    sheet = np.empty((rows * height + (rows - 1) * _GAP, columns * width + (columns - 1) * _GAP, 3), np.uint8)
    sheet[:] = _PAPER
    for i, picture in enumerate(pictures):
        top, left = i // columns * (height + _GAP), i % columns * (width + _GAP)
        top, left = top + (height - picture.shape[0]) // 2, left + (width - picture.shape[1]) // 2
        sheet[top : top + picture.shape[0], left : left + picture.shape[1]] = picture
    return sheet


def side_by_side(pictures: Sequence[Picture], captions: Sequence[str] | None = None) -> Picture:
    """Pictures in a row, brought to the height of the first: comparisons, before and after."""
    height = pictures[0].shape[0] if pictures else 0
    same = [_with_height(picture, height) for picture in pictures]
    return contact_sheet(same, captions, columns=len(same))


def before_after(before: Sequence[Picture], after: Sequence[Picture]) -> Picture:
    """Two rows: above before, below after.

    Raises:
        HeadlabError: not one picture after for each before.
    """
    if len(before) != len(after):
        raise HeadlabError(f"{len(before)} pictures before and {len(after)} after make no strip; give pairs")
    captions = ["before"] * len(before) + ["after"] * len(after)
    return contact_sheet([*before, *after], captions, columns=len(before))


def _with_height(picture: Picture, height: int) -> Picture:
    if picture.shape[0] == height:
        return picture
    width = max(1, round(picture.shape[1] * height / picture.shape[0]))
    method = cv2.INTER_AREA if height < picture.shape[0] else cv2.INTER_LINEAR
    return np.asarray(cv2.resize(picture, (width, height), interpolation=method), np.uint8)
