"""Cameras: pinhole (OpenCV axes) and weak-perspective (DECA), with exact conversion between them.

World: metres, right-handed, +X subject's left, +Y up, +Z out of the face. Camera: x right, y down, z forward,
``x_cam = R x_world + t``. Pixel centres lie at +0.5, so the image covers [0, W] x [0, H].
"""

from dataclasses import dataclass, replace

import torch
from jaxtyping import Float
from torch import Tensor

#: Rotation of a camera that looks along world -Z with world +Y up: the frontal view of a head.
FRONTAL = ((1.0, 0.0, 0.0), (0.0, -1.0, 0.0), (0.0, 0.0, -1.0))


@dataclass(frozen=True)
class Camera:
    """Pinhole camera. Leading axes of K, R, t are free and broadcast."""

    K: Float[Tensor, "*#batch 3 3"]  #: intrinsics, pixels
    R: Float[Tensor, "*#batch 3 3"]  #: world -> camera rotation
    t: Float[Tensor, "*#batch 3"]  #: world -> camera translation, metres
    size: tuple[int, int]  #: (height, width), pixels

    @classmethod
    def frontal(
        cls, focal: float | int | Tensor, size: tuple[int, int], dtype: torch.dtype = torch.float32
    ) -> "Camera":
        """Camera at the world's origin looking along -Z: heads in front of it have z < 0.

        Args:
            focal: focal length in pixels.
            size: (height, width) in pixels; the principal point is the image centre.
            dtype: floating type of the matrices.
        """
        height, width = size
        f = torch.as_tensor(focal, dtype=dtype)
        zero, one = torch.zeros_like(f), torch.ones_like(f)
        rows = [
            torch.stack([f, zero, one * (width / 2)], -1),
            torch.stack([zero, f, one * (height / 2)], -1),
            torch.stack([zero, zero, one], -1),
        ]
        return cls(torch.stack(rows, -2), torch.tensor(FRONTAL, dtype=dtype), torch.zeros(3, dtype=dtype), size)

    def to_camera(self, points: Float[Tensor, "*batch n 3"]) -> Float[Tensor, "*batch n 3"]:
        """World points -> camera points, metres."""
        return points @ self.R.mT + self.t.unsqueeze(-2)

    def to_homogeneous(self, points: Float[Tensor, "*batch n 3"]) -> Float[Tensor, "*batch n 4"]:
        """World points -> (x, y, z, w): pixels are (x/w, y/w), z is depth in metres. What the rasteriser takes."""
        cam = self.to_camera(points)
        h = cam @ self.K.mT
        return torch.cat([h[..., :2], cam[..., 2:], h[..., 2:]], -1)

    def project(self, points: Float[Tensor, "*batch n 3"]) -> Float[Tensor, "*batch n 2"]:
        """World points -> pixels. Points at or behind the camera give meaningless values; check their depth."""
        h = self.to_homogeneous(points)
        return h[..., :2] / h[..., 3:]

    def scaled(self, factor: float) -> "Camera":
        """The same camera on an image resized by ``factor`` (size rounded, K scaled by the true ratio)."""
        size = (max(1, round(self.size[0] * factor)), max(1, round(self.size[1] * factor)))
        return self.resized(size)

    def resized(self, size: tuple[int, int]) -> "Camera":
        """The same camera on an image resized to ``size`` (height, width)."""
        sy, sx = size[0] / self.size[0], size[1] / self.size[1]
        return replace(self, K=self.K * self.K.new_tensor([[sx], [sy], [1.0]]), size=size)

    def cropped(self, left: float | int, top: float | int, size: tuple[int, int]) -> "Camera":
        """The same camera on a window of the image whose top left corner is (left, top), pixels."""
        shift = torch.zeros_like(self.K)
        shift[..., 0, 2], shift[..., 1, 2] = left, top
        return replace(self, K=self.K - shift, size=size)

    def to(self, device: torch.device | str | None = None, dtype: torch.dtype | None = None) -> "Camera":
        return replace(
            self,
            K=self.K.to(device=device, dtype=dtype),
            R=self.R.to(device=device, dtype=dtype),
            t=self.t.to(device=device, dtype=dtype),
        )


@dataclass(frozen=True)
class WeakPerspective:
    """DECA's camera [s, tx, ty]: x' = s (x + tx), y' = s (y + ty); then y and z change sign.

    -1..1 covers the square crop. z' = s z is a relative depth.
    """

    params: Float[Tensor, "*batch 3"]

    def project_ndc(self, points: Float[Tensor, "*batch n 3"]) -> Float[Tensor, "*batch n 3"]:
        """World points -> crop coordinates in -1..1 (x right, y down) and relative depth."""
        s, xy = self.params[..., None, :1], self.params[..., None, 1:]
        moved = torch.cat([points[..., :2] + xy, points[..., 2:]], -1) * s
        return moved * moved.new_tensor([1.0, -1.0, -1.0])

    def to_homogeneous(
        self, points: Float[Tensor, "*batch n 3"], size: tuple[int, int], depth_offset: float = 10.0
    ) -> Float[Tensor, "*batch n 4"]:
        """World points -> rasteriser input (x, y, z, w = 1) on an image of ``size``; z is shifted to be positive."""
        ndc = self.project_ndc(points)
        height, width = size
        x = (ndc[..., 0] + 1) * (width / 2)
        y = (ndc[..., 1] + 1) * (height / 2)
        return torch.stack([x, y, ndc[..., 2] + depth_offset, torch.ones_like(x)], -1)

    def to_pinhole(self, size: int, distance: float = 10.0) -> Camera:
        """Pinhole camera that agrees exactly on the plane world z = 0, and to O(z / distance) off it.

        Args:
            size: side of the square crop, pixels.
            distance: camera distance from that plane, metres. The larger, the closer to weak perspective.
        """
        s, tx, ty = self.params.unbind(-1)
        focal = s * distance * (size / 2)
        zero, one = torch.zeros_like(s), torch.ones_like(s)
        centre = one * (size / 2)
        K = torch.stack(
            [
                torch.stack([focal, zero, centre], -1),
                torch.stack([zero, focal, centre], -1),
                torch.stack([zero, zero, one], -1),
            ],
            -2,
        )
        R = torch.tensor(FRONTAL, dtype=s.dtype, device=s.device).expand(*s.shape, 3, 3)
        return Camera(K, R, torch.stack([tx, -ty, one * distance], -1), (size, size))

    @classmethod
    def from_pinhole(cls, camera: Camera) -> "WeakPerspective":
        """Inverse of `to_pinhole`: the weak-perspective camera that agrees on the plane world z = 0.

        Raises:
            ValueError: the camera is not frontal, its image is not square, or its principal point is off-centre.
        """
        height, width = camera.size
        R = camera.R.new_tensor(FRONTAL)
        centred = torch.allclose(camera.K[..., :2, 2], camera.K.new_tensor(width / 2))
        if height != width or not centred or not torch.allclose(camera.R, R.expand_as(camera.R), atol=1e-6):
            raise ValueError("weak perspective needs a square, centred, frontal camera; crop and rotate the head first")
        s = camera.K[..., 0, 0] / (camera.t[..., 2] * (width / 2))
        return cls(torch.stack([s, camera.t[..., 0], -camera.t[..., 1]], -1))
