"""A camera on a sphere about what is looked at."""

import math
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float
from torch import Tensor

from ..geometry.camera import FRONTAL, Camera
from ..geometry.rodrigues import rotvec_to_rotmat

_STEEPEST = math.radians(89)


@dataclass(frozen=True)
class Orbit:
    """Where from. At yaw = pitch = 0 it looks along -Z at a face that looks along +Z."""

    target: tuple[float, float, float]  #: metres
    radius: float  #: of what is to be in the picture, metres
    yaw: float = 0.35  #: radians; positive: from the subject's left
    pitch: float = 0.05  #: radians; positive: from above
    zoom: float = 1.0  #: larger: nearer
    view: float = math.radians(26)  #: vertical field of view, radians

    @classmethod
    def around(cls, points: Float[Tensor, "n 3"]) -> "Orbit":
        """All of some points in the picture."""
        low, high = points.amin(0), points.amax(0)
        centre = ((low + high) / 2).tolist()
        return cls((centre[0], centre[1], centre[2]), max(float((high - low).norm()) / 2, 1e-6))

    def turned(self, right: float, down: float) -> "Orbit":
        """Dragged: the thing turns with the pointer. Radians."""
        yaw = math.remainder(self.yaw - right, 2 * math.pi)
        return replace(self, yaw=yaw, pitch=max(-_STEEPEST, min(_STEEPEST, self.pitch + down)))

    def moved(self, right: float, down: float) -> "Orbit":
        """Shifted in the picture's plane, in shares of its height."""
        size = 2 * self.distance * math.tan(self.view / 2)
        across, up = self.axes[0] * (-right * size), self.axes[1] * (-down * size)
        x, y, z = (torch.tensor(self.target, dtype=torch.float64) + across + up).tolist()
        return replace(self, target=(x, y, z))

    def zoomed(self, factor: float) -> "Orbit":
        return replace(self, zoom=max(0.1, min(20.0, self.zoom * factor)))

    def from_side(self, yaw: float) -> "Orbit":
        return replace(self, yaw=yaw, pitch=0.0)

    @property
    def distance(self) -> float:
        """From the camera to the target, metres."""
        return 0.8 * self.radius / math.sin(self.view / 2) / self.zoom

    @property
    def axes(self) -> Float[Tensor, "3 3"]:
        """Rows: the camera's x (right), y (down) and z (forward) in the world."""
        turn = rotvec_to_rotmat(torch.tensor([0.0, -self.yaw, 0.0], dtype=torch.float64))
        tilt = rotvec_to_rotmat(torch.tensor([self.pitch, 0.0, 0.0], dtype=torch.float64))
        return torch.tensor(FRONTAL, dtype=torch.float64) @ tilt @ turn

    def camera(
        self,
        size: tuple[int, int],
        rotation: Float[Tensor, "3 3"] | None = None,
        translation: Float[Tensor, "3"] | None = None,
    ) -> Camera:
        """The camera of a picture.

        Args:
            size: (height, width), pixels.
            rotation: of the frame the orbit is in; the world where absent.
            translation: of that frame, metres.
        """
        height, width = size
        # In a narrow picture a head, about 0.7 times as wide as high, shall still fit.
        distance = self.distance * max(1.0, 0.7 * height / width)
        focal = height / 2 / math.tan(self.view / 2)
        K = torch.tensor([[focal, 0, width / 2], [0, focal, height / 2], [0, 0, 1]], dtype=torch.float64)
        R = self.axes
        t = -R @ torch.tensor(self.target, dtype=torch.float64) + torch.tensor([0, 0, distance], dtype=torch.float64)
        if rotation is not None and translation is not None:
            R = R @ rotation.double().mT
            t = t - R @ translation.double()
        return Camera(K.float(), R.float(), t.float(), size)
