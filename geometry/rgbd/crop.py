"""A person out of the room, a face out of a frame."""

from dataclasses import replace
from typing import cast

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from ..errors import HeadlabError
from ..frame import Frame

#: (left, top, right, bottom), whole pixels.
Window = tuple[int, int, int, int]


def person_mask(
    depth: Float[Tensor, "height width"], seeds: Float[Tensor, "n 2"], *, step: float = 0.03, reach: float = 0.5
) -> Bool[Tensor, "height width"]:
    """The connected surface around some pixels: a person without the room behind.

    Args:
        depth: metres, 0 = none (belongs to nobody).
        seeds: pixels on the person, say the face's landmarks.
        step: larger jumps between neighbouring pixels are edges, metres.
        reach: farther from the seeds' depth than this is not the person, metres.

    Raises:
        HeadlabError: there is no depth at the seeds.
    """
    from scipy.ndimage import label

    height, width = depth.shape
    x, y = seeds[:, 0].long().clamp(0, width - 1), seeds[:, 1].long().clamp(0, height - 1)
    at = depth[y, x]
    if not bool((at > 0).any()):
        raise HeadlabError("there is no depth where the face is; the depth is not registered to the colour, or empty")
    middle = at[at > 0].median()
    inside = (depth > 0) & ((depth - middle).abs() < reach)
    # Pixels beside a jump are cut out before labelling, so that surfaces touch only where they are one.
    broken = torch.zeros_like(inside)
    for axis in (0, 1):
        first, second = depth.narrow(axis, 0, depth.shape[axis] - 1), depth.narrow(axis, 1, depth.shape[axis] - 1)
        jump = (first - second).abs() > step
        farther = jump & (first > second)
        broken.narrow(axis, 0, depth.shape[axis] - 1).logical_or_(farther)
        broken.narrow(axis, 1, depth.shape[axis] - 1).logical_or_(jump & ~farther)
    pieces, _ = cast(tuple[np.ndarray, int], label((inside & ~broken).numpy()))
    labels = torch.from_numpy(pieces)
    chosen = labels[y, x]
    chosen = chosen[chosen > 0]
    if not len(chosen):
        return inside
    kept = labels == chosen.mode().values
    # Give the cut edges back to the surface they border.
    grown = torch.nn.functional.max_pool2d(kept[None, None].float(), 3, 1, 1)[0, 0] > 0
    return (grown & inside & broken) | kept


def face_window(points: Float[Tensor, "n 2"], size: tuple[int, int], *, grow: float = 1.6) -> Window:
    """A square window around landmarks, `grow` times as large as they, cut at the picture's border.

    Args:
        points: pixels.
        size: (height, width) of the picture.
        grow: 1.6 holds the head, 4 head and shoulders.
    """
    low, high = points.amin(0), points.amax(0)
    centre, half = (low + high) / 2, float((high - low).max()) * grow / 2
    left, top = (max(0, round(float(c) - half)) for c in centre)
    right, bottom = (min(n, round(float(c) + half)) for c, n in zip(centre, (size[1], size[0]), strict=True))
    if right - left < 2 or bottom - top < 2:
        raise HeadlabError("the face lies outside the picture; give landmarks in its pixels")
    return left, top, right, bottom


def cropped(frame: Frame, window: Window) -> Frame:
    """The frame's window: picture, depth, mask, camera and landmarks alike."""
    left, top, right, bottom = window

    def cut(x: Tensor | None) -> Tensor | None:
        return None if x is None else x[..., top:bottom, left:right]

    camera = None if frame.camera is None else frame.camera.cropped(left, top, (bottom - top, right - left))
    marks = frame.landmarks
    if marks is not None:
        marks = replace(marks, points=marks.points - marks.points.new_tensor([left, top]))
    return frame.with_(
        image=frame.image[..., top:bottom, left:right],
        depth=cut(frame.depth),
        mask=cut(frame.mask),
        camera=camera,
        landmarks=marks,
    )
