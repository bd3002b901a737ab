"""The photo behind the head, seen through the camera that was fitted to it."""

from dataclasses import dataclass, replace
from pathlib import Path

import cv2
import numpy as np
from jaxtyping import Float
from torch import Tensor

from ..geometry.camera import Camera
from ..geometry.errors import HeadlabError
from ..heads.view.opened import OpenedHead
from .canvas import Picture

#: Photos kept in memory, so that a playing track does not read each twice, and a long one does not fill it.
_KEPT = 32


@dataclass(frozen=True, eq=False)
class Back:
    picture: Picture
    camera: Camera


class PhotoBack:
    """The photos of a head."""

    def __init__(self, head: OpenedHead, named: Path | None = None) -> None:
        self._head, self._named = head, named
        self._photos: dict[int, Picture | None] = {}
        self._fitted: tuple[tuple, Back] | None = None

    def picture(self, frame: int) -> Picture | None:
        """The photo of a frame, None where it is not found."""
        frame = min(frame, self._head.frames - 1)
        if frame not in self._photos:
            while len(self._photos) >= _KEPT:
                self._photos.pop(next(iter(self._photos)))
            try:
                self._photos[frame] = self._head.photo(frame, self._named)
            except HeadlabError:
                self._photos[frame] = None
        return self._photos[frame]

    def fitted(
        self, frame: int, size: tuple[int, int], zoom: float = 1.0, centre: Float[Tensor, "3"] | None = None
    ) -> Back | None:
        """The photo as large as it fits into a picture, on grey, and its camera in that picture.

        Args:
            frame: of the track.
            size: (height, width) of the picture, pixels.
            zoom: beyond 1 the photo is enlarged about `centre`; below 1 it is shown whole.
            centre: a point in the world.
        """
        frame = min(frame, self._head.frames - 1)
        photo = self.picture(frame)
        if photo is None:
            return None
        camera = self._head.fit.cameras[frame]
        whole = np.array([camera.size[1], camera.size[0]], np.float64)
        fit = float(min(size[1] / whole[0], size[0] / whole[1]))
        scale = fit * max(zoom, 1.0)
        # The photo's middle lies in the picture's middle; zooming in brings `centre` there, but no edge inwards.
        middle = whole / 2
        if centre is not None and zoom > 1:
            reach = np.maximum(0, whole / 2 - np.array([size[1], size[0]]) / (2 * scale))
            middle = np.clip(camera.project(centre[None])[0].double().numpy(), middle - reach, middle + reach)
        offset = np.array([size[1], size[0]]) / 2 - scale * middle
        key = (frame, size, scale, tuple(offset))
        if self._fitted is None or self._fitted[0] != key:
            # Pixel centres lie at +0.5 here, at whole numbers in OpenCV.
            shift = offset + 0.5 * scale - 0.5
            matrix = np.array([[scale, 0, shift[0]], [0, scale, shift[1]]])
            method = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
            picture = cv2.warpAffine(photo, matrix, size[::-1], flags=method, borderValue=(60, 60, 60))
            K = camera.K * camera.K.new_tensor([[scale], [scale], [1.0]])
            K = K + K.new_tensor([[0, 0, offset[0]], [0, 0, offset[1]], [0, 0, 0]])
            self._fitted = (key, Back(np.asarray(picture, np.uint8), replace(camera, K=K, size=size)))
        return self._fitted[1]
