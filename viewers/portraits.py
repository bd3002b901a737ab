"""Surfaces from all sides, still and turning."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import replace

import cv2
import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from ..heads.view.lighting import STUDIO
from ..heads.view.surface import Surface
from .canvas import Canvas, Picture, Style
from .orbit import Orbit

_WHITE = (255, 255, 255)
#: Light from everywhere, which shows colours as they are but for a little shape: for heat maps.
FLAT = ((3.2,), (0.0,), (0.12,), (0.14,), (0.0,), (0.0,), (0.0,), (0.0,), (0.0,))


def portrait(
    surface: Surface,
    *,
    yaw: float = 0.0,
    size: tuple[int, int] = (480, 420),
    orbit: Orbit | None = None,
    light: Float[Tensor, "9 3"] | None = None,
    style: Style | None = None,
) -> Picture:
    """A surface on white with smooth edges.

    Args:
        surface: upright, its face along +Z.
        yaw: radians; positive from the subject's left.
        size: (height, width), pixels.
        orbit: the camera, where several pictures shall share it; its yaw is replaced.
        light: None: a studio's.
        style: how it is drawn.
    """
    height, width = size
    light = torch.tensor(STUDIO).expand(9, 3) if light is None else light
    orbit = replace(orbit or Orbit.around(surface.vertices), yaw=yaw)
    canvas = Canvas(orbit.camera((2 * height, 2 * width)), _WHITE)
    canvas.draw(surface, light, style)
    return np.asarray(cv2.resize(canvas.pixels, (width, height), interpolation=cv2.INTER_AREA), np.uint8)


def around(surface: Surface, yaws: Sequence[float], **options) -> list[Picture]:
    """Portraits from several sides by one camera; options as `portrait` takes them."""
    orbit = options.pop("orbit", None) or Orbit.around(surface.vertices)
    return [portrait(surface, yaw=yaw, orbit=orbit, **options) for yaw in yaws]


def turning(surface: Surface, frames: int = 72, **options) -> Iterator[Picture]:
    """Once around, evenly: a film that can be looped."""
    orbit = options.pop("orbit", None) or Orbit.around(surface.vertices)
    for i in range(frames):
        yield portrait(surface, yaw=math.remainder(2 * math.pi * i / frames, 2 * math.pi), orbit=orbit, **options)
