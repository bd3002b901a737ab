"""FaceLandmarks: one face found in an image. LandmarkDetector: what every detector offers."""

from dataclasses import dataclass
from types import TracebackType
from typing import Protocol, runtime_checkable

from jaxtyping import Float
from torch import Tensor


@dataclass(frozen=True)
class FaceLandmarks:
    """The 478 MediaPipe points of one face, in pixels of the whole image.

    Points of a face that is cut by the border may lie outside the image; they are the network's guess.
    """

    points: Float[Tensor, "478 2"]  #: x right, y down, pixels; pixel centres at +0.5
    depth: Float[Tensor, "478"]  #: relative depth in pixels (the scale of x), away from the camera, 0 near the ears
    confidence: float  #: 0..1, how sure the detector is that this is a face; not comparable between detectors
    scores: Float[Tensor, "52"] | None = None  #: blend-shape scores 0..1, where the network gives them
    score_names: tuple[str, ...] = ()  #: their names; ARKit's, but for the first, "_neutral"

    @property
    def box(self) -> tuple[float, float, float, float]:
        """(left, top, right, bottom) of the points, pixels."""
        low, high = self.points.amin(0).tolist(), self.points.amax(0).tolist()
        return low[0], low[1], high[0], high[1]

    @property
    def size(self) -> float:
        """Side of the square with the box's area, pixels: what "largest face" goes by."""
        left, top, right, bottom = self.box
        return ((right - left) * (bottom - top)) ** 0.5

    def contains(self, x: float, y: float) -> bool:
        """Whether a pixel position lies in the box."""
        left, top, right, bottom = self.box
        return left <= x <= right and top <= y <= bottom


@runtime_checkable
class LandmarkDetector(Protocol):
    """Finds faces and their landmarks. Holds native resources: use it in a `with` block, or call `close`."""

    name: str  #: "solutions" or "tasks": which networks gave the points

    def detect(self, image: Float[Tensor, "3 height width"]) -> list[FaceLandmarks]:
        """All faces of an RGB image in 0..1, the largest first; empty where there is none."""
        ...

    def close(self) -> None:
        """Free the networks. Safe to call twice."""
        ...

    def __enter__(self) -> "LandmarkDetector": ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...
