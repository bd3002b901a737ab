"""Square, upright crops of an image and the way back: what the networks look at."""

from dataclasses import dataclass

import cv2
import numpy as np
from jaxtyping import Float, UInt8
from torch import Tensor

Picture = UInt8[np.ndarray, "_ _ 3"]  #: RGB; sizes differ from call to call
Points = Float[np.ndarray, "_ _"]  #: x, y and, where there are three columns, depth in the scale of x


@dataclass(frozen=True)
class Square:
    """A square window of an image, turned by `roll` so that the face in it stands upright. Pixels, radians."""

    x: float  #: centre
    y: float
    side: float
    roll: float = 0.0  #: clockwise turn of the face in the image

    def grown(self, factor: float) -> "Square":
        return Square(self.x, self.y, self.side * factor, self.roll)

    def shifted(self, x: float, y: float) -> "Square":
        return Square(self.x + x, self.y + y, self.side, self.roll)

    def turned(self, angle: float) -> "Square":
        return Square(self.x, self.y, self.side, self.roll + angle)


def to_bytes(image: Float[Tensor, "3 height width"]) -> Picture:
    """Float RGB in 0..1 -> contiguous 8-bit pixels, rounded.

    Raises:
        ValueError: the image is empty, or its values are not numbers in about 0..1.
    """
    if image.numel() == 0:
        raise ValueError(f"an image has pixels; got shape {tuple(image.shape)}")
    planes = image.detach().cpu().float().numpy()  # not torch: its thread pool costs more than this work
    low, high = float(planes.min()), float(planes.max())
    if not (low >= -0.5 and high <= 1.5):  # also catches NaN; mild overshoot from resampling is clipped
        raise ValueError(f"image values must lie in 0..1; got {low:g}..{high:g}")
    if low < 0:
        planes = np.maximum(planes, 0)  # convertScaleAbs clips above, but mirrors below
    return cv2.merge([cv2.convertScaleAbs(plane, alpha=255) for plane in planes])


def shrink(picture: Picture, longest: int) -> Picture:
    """The picture with its longer side reduced to `longest` pixels, if it is longer; area-averaged."""
    height, width = picture.shape[:2]
    factor = longest / max(height, width)
    if factor >= 1:
        return picture
    size = (max(1, round(width * factor)), max(1, round(height * factor)))
    return cv2.resize(picture, size, interpolation=cv2.INTER_AREA)


def cut(picture: Picture, square: Square, pixels: int) -> Picture:
    """The square as a picture of `pixels` x `pixels`; black outside the image. Averages when it must reduce."""
    left, top, factor = 0, 0, 1
    if square.side > 2 * pixels:  # reduce the neighbourhood first: warpAffine alone would skip pixels
        reach = square.side * 0.75
        height, width = picture.shape[:2]
        left, right = (int(np.clip(v, 0, width)) for v in (square.x - reach, square.x + reach))
        top, bottom = (int(np.clip(v, 0, height)) for v in (square.y - reach, square.y + reach))
        factor = int(square.side // pixels)
        if right - left < factor or bottom - top < factor:
            return np.zeros((pixels, pixels, 3), np.uint8)
        size = ((right - left) // factor, (bottom - top) // factor)
        picture = picture[top : top + size[1] * factor, left : left + size[0] * factor]
        picture = cv2.resize(picture, size, interpolation=cv2.INTER_AREA)
    local = Square((square.x - left) / factor, (square.y - top) / factor, square.side / factor, square.roll)
    matrix = _to_crop(local, pixels)
    matrix[:, 2] += matrix[:, :2] @ [0.5, 0.5] - 0.5  # OpenCV puts pixel centres at whole numbers
    enlarge = local.side < pixels
    return cv2.warpAffine(picture, matrix, (pixels, pixels), flags=cv2.INTER_CUBIC if enlarge else cv2.INTER_LINEAR)


def to_image(points: Points, square: Square, pixels: int) -> Points:
    """Points in a crop made by `cut` -> pixels of the image. A third column, depth, changes scale alike."""
    scale = square.side / pixels
    c, s = np.cos(square.roll), np.sin(square.roll)
    x, y = points[:, 0] - pixels / 2, points[:, 1] - pixels / 2
    flat = np.stack([c * x - s * y, s * x + c * y], 1) * scale + [square.x, square.y]
    return np.concatenate([flat, points[:, 2:] * scale], 1)


def upright(mesh: Points, grow: float) -> Square:
    """The square around a face's 478 points whose sides follow its eye line, `grow` times as large as the face."""
    right, left = mesh[33, :2], mesh[263, :2]
    roll = float(np.arctan2(left[1] - right[1], left[0] - right[0]))
    turn = np.array([[np.cos(roll), np.sin(roll)], [-np.sin(roll), np.cos(roll)]])
    level = mesh[:, :2] @ turn.T
    low, high = level.min(0), level.max(0)
    x, y = turn.T @ ((low + high) / 2)
    return Square(float(x), float(y), float((high - low).max()) * grow, roll)


def _to_crop(square: Square, pixels: int) -> Float[np.ndarray, "2 3"]:
    scale = pixels / square.side
    c, s = scale * np.cos(square.roll), scale * np.sin(square.roll)
    linear = np.array([[c, s], [-s, c]])
    offset = pixels / 2 - linear @ [square.x, square.y]
    return np.concatenate([linear, offset[:, None]], 1)
