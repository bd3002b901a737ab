"""FFHQ's alignment (Karras et al., 2019): an oriented square from eyes and mouth, cut out with its border mended.

Where the square leaves the photo, the photo is mirrored, blurred towards the outside and faded to its median colour,
as FFHQ's own pictures are. Imports no torch.
"""

import math

import cv2
import numpy as np
from jaxtyping import Float
from PIL import Image

from ..geometry.errors import HeadlabError

#: Of 68 landmarks in iBUG's order. "Left" is on the left of the picture.
_LEFT_EYE, _RIGHT_EYE, _LEFT_MOUTH, _RIGHT_MOUTH = slice(36, 42), slice(42, 48), 48, 54
_SUPERSAMPLING = 4


def ffhq_quad(points: Float[np.ndarray, "points 2"]) -> Float[np.ndarray, "4 2"]:
    """Corners of the aligned square in the photo: top left, bottom left, bottom right, top right.

    Args:
        points: 68 landmarks (iBUG) or 478 (MediaPipe), pixels.

    Raises:
        HeadlabError: another number of points, or they lie on one spot.
    """
    points = np.asarray(points, np.float64)
    if len(points) == 68:
        eyes = points[_LEFT_EYE].mean(0), points[_RIGHT_EYE].mean(0)
        mouth = (points[_LEFT_MOUTH] + points[_RIGHT_MOUTH]) / 2
    elif len(points) == 478:
        from ..geometry.landmarks.mesh478 import LEFT_EYE, RIGHT_EYE

        eyes = points[list(RIGHT_EYE)].mean(0), points[list(LEFT_EYE)].mean(0)  # the subject's
        mouth = points[[61, 291]].mean(0)
    else:
        raise HeadlabError(f"alignment takes 68 or 478 landmarks, not {len(points)}")
    middle, across = (eyes[0] + eyes[1]) / 2, eyes[1] - eyes[0]
    down = mouth - middle
    x = across + np.array([down[1], -down[0]])  # both say where the right is
    length = math.hypot(*x)
    if not np.isfinite(points).all() or length < 1e-6:
        raise HeadlabError("these landmarks span no face; detect them again")
    x *= max(2.0 * math.hypot(*across), 1.8 * math.hypot(*down)) / length
    y = np.array([-x[1], x[0]])
    centre = middle + 0.1 * down
    return np.stack([centre - x - y, centre - x + y, centre + x + y, centre + x - y])


def ffhq_matrix(points: Float[np.ndarray, "points 2"], size: int) -> Float[np.ndarray, "2 3"]:
    """Where pixels of the photo lie in the aligned picture: a similarity, both with pixel centres at +0.5.

    Raises:
        HeadlabError: as `ffhq_quad`.
    """
    quad = ffhq_quad(points)
    columns = np.stack([quad[3] - quad[0], quad[1] - quad[0]], 1) / size  # aligned -> photo
    turn = np.linalg.inv(columns)
    # FFHQ lets the corner (-0.5, -0.5) of the first pixel, counted from its centre, fall on the quad's corner plus 0.5.
    return np.concatenate([turn, -(turn @ (quad[0] + 0.5))[:, None]], 1)


def square_matrix(size: tuple[int, int], side: int) -> Float[np.ndarray, "2 3"]:
    """The same for the middle square of a picture of (width, height) pixels, resized to `side`."""
    scale = side / min(size)
    return np.array([[scale, 0, (side - scale * size[0]) / 2], [0, scale, (side - scale * size[1]) / 2]])


def align_ffhq(
    picture: Image.Image, points: Float[np.ndarray, "points 2"], size: int = 256, *, fill: bool = True
) -> Image.Image:
    """Cut out a face as FFHQ's pictures are cut out.

    Args:
        picture: RGB.
        points: 68 or 478 landmarks, pixels.
        size: side of the result, pixels.
        fill: mend what lies outside the photo; black where False.

    Raises:
        HeadlabError: landmarks that span no face, or a face far outside the photo.
    """
    quad = ffhq_quad(points)
    side = math.hypot(*(quad[3] - quad[0]))
    shrink = int(side / size * 0.5)
    if shrink > 1:
        small = round(picture.width / shrink), round(picture.height / shrink)
        picture = picture.resize(small, Image.Resampling.LANCZOS)
        quad, side = quad / shrink, side / shrink
    border = max(round(side * 0.1), 3)
    low, high = np.floor(quad.min(0)).astype(int) - border, np.ceil(quad.max(0)).astype(int) + border
    box = max(low[0], 0), max(low[1], 0), min(high[0], picture.width), min(high[1], picture.height)
    if box[2] - box[0] < 2 or box[3] - box[1] < 2:
        raise HeadlabError("the face lies outside the photo; check the landmarks")
    picture, quad = picture.crop(box), quad - box[:2]
    outside = np.maximum(np.r_[-(low - box[:2]), high - box[2:]], 0)  # left, top, right, bottom
    if fill and outside.max() > border - 4:
        picture, quad = _mended(picture, quad, np.maximum(outside, round(side * 0.3)), side)
    fine = size * _SUPERSAMPLING
    cut = picture.transform((fine, fine), Image.Transform.QUAD, tuple((quad + 0.5).ravel()), Image.Resampling.BILINEAR)
    return cut.resize((size, size), Image.Resampling.LANCZOS)


def _mended(picture: Image.Image, quad: np.ndarray, pad: np.ndarray, side: float) -> tuple[Image.Image, np.ndarray]:
    """The picture continued beyond its edges by `pad` (left, top, right, bottom)."""
    left, top, right, bottom = (int(v) for v in pad)
    levels = np.pad(np.asarray(picture, np.float32), ((top, bottom), (left, right), (0, 0)), "reflect")
    height, width = levels.shape[:2]
    x, y = np.arange(width, dtype=np.float32), np.arange(height, dtype=np.float32)[:, None]
    inside = np.minimum(np.minimum(x / left, (width - 1 - x) / right), np.minimum(y / top, (height - 1 - y) / bottom))
    away = (1 - inside)[..., None]  # above 0 in the border
    blurred = cv2.GaussianBlur(levels, (0, 0), side * 0.02, borderType=cv2.BORDER_REFLECT)
    levels += (blurred - levels) * np.clip(3 * away + 1, 0, 1)
    levels += (np.median(levels, axis=(0, 1)) - levels) * np.clip(away, 0, 1)
    mended = Image.fromarray(np.clip(np.rint(levels), 0, 255).astype(np.uint8))
    return mended, quad + np.array([left, top])
