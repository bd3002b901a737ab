"""Which frames of a selfie video to use: sharp ones, looking front, left, right and up.

"High-Fidelity 3D Digital Human Head Creation from RGB-D Selfies" (Bao et al. 2021) picks its few views so; here the
head's rotation comes from its landmarks lifted to 3D.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from numpy import ndarray
from torch import Tensor

#: (yaw, pitch) of the views wanted, degrees: front, to the left, to the right, up; then what is between and beyond.
WANTED = ((0, 0), (35, 0), (-35, 0), (0, 22), (20, 0), (-20, 0), (0, -18), (55, 0), (-55, 0), (20, 15), (-20, 15))
NAMES = ("front", "left", "right", "up")


@dataclass(frozen=True)
class ViewPose:
    """How a head is turned and how sharp its picture is."""

    yaw: float  #: degrees, positive: the subject looks to the own left
    pitch: float  #: degrees, positive: up
    sharpness: float  #: see `sharpness`
    trust: float = 1.0  #: 0..1, say the share of the face that has depth


@dataclass(frozen=True)
class View:
    """A frame that was chosen."""

    index: int
    name: str  #: front, left, right, up, or extra


def head_angles(rotation: Float[ndarray, "3 3"]) -> tuple[float, float]:
    """(yaw, pitch) in degrees of a head's rotation in a world with +Y up and +Z towards the camera."""
    forward = rotation[:, 2]
    yaw = np.degrees(np.arctan2(forward[0], forward[2]))
    return float(yaw), float(np.degrees(np.arcsin(np.clip(forward[1], -1, 1))))


def sharpness(image: Float[Tensor, "3 height width"], points: Float[Tensor, "n 2"]) -> float:
    """Strength of fine detail in the face, on its own scale: shake and poor focus lower it.

    The variance of the Laplacian over the variance of the picture, in the landmarks' box (Pech-Pacheco et al. 2000).
    """
    height, width = image.shape[-2:]
    left, top = (max(0, int(v)) for v in points.amin(0).tolist())
    right, bottom = (min(n, int(v) + 1) for v, n in zip(points.amax(0).tolist(), (width, height), strict=True))
    if right - left < 8 or bottom - top < 8:
        return 0.0
    grey = image[:, top:bottom, left:right].mean(0)
    laplacian = grey[1:-1, 2:] + grey[1:-1, :-2] + grey[2:, 1:-1] + grey[:-2, 1:-1] - 4 * grey[1:-1, 1:-1]
    return float(laplacian.var() / grey.var().clamp(min=1e-6))


def select_views(poses: Sequence[ViewPose], count: int = 4, *, spread: float = 12.0) -> list[View]:
    """The best frame for each wanted direction, the front one first.

    A frame's price is its squared distance from the direction over `spread`², plus what it lacks in sharpness
    against the sharpest of the frames that look alike, and in trust. Frames nearly like one already chosen
    (a head that hardly moves) are taken only while no others are left.

    Args:
        poses: of all frames with a face.
        count: frames wanted; fewer where there are fewer.
        spread: degrees that weigh as much as losing all sharpness.
    """
    angles = np.array([[p.yaw, p.pitch] for p in poses])
    sharp = np.array([p.sharpness for p in poses])
    trust = np.array([p.trust for p in poses])
    near = np.linalg.norm(angles[:, None] - angles[None], axis=-1) < 12
    relative = np.array([sharp[i] / max(sharp[near[i]].max(), 1e-12) for i in range(len(poses))])
    lacking = (1 - relative) + 2 * (1 - trust)
    chosen: list[View] = []
    for i in range(min(count, len(poses))):
        wanted = np.array(WANTED[i]) if i < len(WANTED) else None
        left = [k for k in range(len(poses)) if all(view.index != k for view in chosen)]
        if wanted is not None:
            price = ((angles - wanted) ** 2).sum(1) / spread**2 + lacking
        else:
            price = lacking.copy()
        for view in chosen:  # a double of a chosen frame costs as much as 12 degrees
            price += np.exp(-((angles - angles[view.index]) ** 2).sum(1) / 4.0**2)
        best = min(left, key=lambda k: price[k])
        close = wanted is not None and float(np.linalg.norm(angles[best] - wanted)) < 15
        chosen.append(View(best, NAMES[i] if i < len(NAMES) and close else "extra"))
    return chosen


def lift_points(
    points: Float[Tensor, "n 2"], world: Float[Tensor, "height width 3"], depth: Float[Tensor, "height width"]
) -> Float[ndarray, "n 3"]:
    """World points under landmarks: the median depth's pixel of a 3 x 3 window, NaN where there is none.

    Args:
        points: pixels.
        world: what `back_project` gives.
        depth: metres, 0 = none.
    """
    height, width = depth.shape
    out = np.full((len(points), 3), np.nan)
    for i, (x, y) in enumerate(points.long().tolist()):
        if not (1 <= x < width - 1 and 1 <= y < height - 1):
            continue
        window = depth[y - 1 : y + 2, x - 1 : x + 2].flatten()
        known = window[window > 0]
        if not len(known):
            continue
        pick = int(torch.argmin((window - known.median()).abs() + 1e3 * (window == 0)))
        out[i] = world[y - 1 + pick // 3, x - 1 + pick % 3].numpy()
    return out
