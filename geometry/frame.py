"""Frame: one observation of a head: a photo, a video frame, or an RGB-D frame."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from jaxtyping import Float
from torch import Tensor

from .camera import Camera
from .landmarks.face_landmarks import FaceLandmarks


@dataclass(frozen=True)
class Frame:
    """An image and what is known about it. All maps have the image's size."""

    image: Float[Tensor, "3 height width"]  #: sRGB, 0..1
    mask: Float[Tensor, "height width"] | None = None  #: 1 where the image counts, 0 where it is transparent
    depth: Float[Tensor, "height width"] | None = None  #: metres along the camera's z, 0 = none
    focal: float | None = None  #: focal length in pixels, if the file tells
    camera: Camera | None = None
    landmarks: FaceLandmarks | None = None  #: of the face this frame is about
    time: float | None = None  #: seconds since the first frame
    source: Path | None = None  #: the file it was read from

    @property
    def size(self) -> tuple[int, int]:
        """(height, width), pixels."""
        height, width = self.image.shape[-2:]
        return int(height), int(width)

    def with_(self, **changes: Any) -> "Frame":
        """A copy with some fields changed."""
        return replace(self, **changes)
