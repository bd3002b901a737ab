"""CropView: the upright crop of a face in a photo, and a head's maps as that crop's own camera would tell them.

The crop's pixels are the photo's, turned and scaled. The editor's networks have learned from heads before cameras that
look straight at them, upright (`datasets/synthetic`). So pixels come from the photo's camera, while normals and depth
are told in the axes of a camera at the same place that looks at the middle of the crop.
"""

from dataclasses import dataclass, replace

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import grid_sample, normalize

from ..diffusion.conditions import Conditions
from ..geometry.camera import FRONTAL, Camera
from ..geometry.code import HeadCode
from ..geometry.models.head_model import HeadModel
from ..geometry.regress.default_crop import UprightSquare, rotation2d
from ..geometry.rodrigues import rotvec_to_rotmat


@dataclass(frozen=True)
class CropView:
    """One face's crop of one photo."""

    square: UprightSquare  #: in the photo, without batch axes
    photo: Camera  #: the photo's camera
    camera: Camera  #: the same, onto the crop's pixels; its K holds the crop's turn
    axes: Float[Tensor, "3 3"]  #: world -> a world in which the camera that looks at the crop's middle is frontal
    ahead: Float[Tensor, "3"]  #: unit direction, in the photo camera's axes, to the middle of the crop

    @classmethod
    def of(cls, points: Float[Tensor, "points 2"], camera: Camera, size: int) -> "CropView":
        """The view of a face.

        Args:
            points: its 478 or 68 landmarks, photo pixels.
            camera: the photo's, without batch axes.
            size: side of the crop, pixels.

        Raises:
            HeadlabError: the landmarks cannot be used.
        """
        return cls.of_square(UprightSquare.from_landmarks(points.to(camera.K)), camera, size)

    @classmethod
    def of_square(cls, square: UprightSquare, camera: Camera, size: int) -> "CropView":
        """The view of a square of the photo (without batch axes)."""
        turn = rotation2d(square.angle).mT
        scale = size / square.side
        to_crop = torch.eye(3).to(camera.K)
        to_crop[:2, :2] = scale * turn
        to_crop[:2, 2] = size / 2 - scale * (turn @ square.centre)
        cropped = Camera(to_crop @ camera.K, camera.R, camera.t, (size, size))
        one = torch.ones(1).to(camera.K)
        ahead = normalize(torch.linalg.solve(camera.K, torch.cat([square.centre, one])), dim=0)
        upright = torch.eye(3).to(camera.K)
        upright[:2, :2] = turn
        to_middle = rotvec_to_rotmat(_turn_to_z(upright @ ahead))
        axes = camera.R.new_tensor(FRONTAL).mT @ to_middle @ upright @ camera.R
        return cls(square, camera, cropped, axes, ahead)

    @property
    def size(self) -> int:
        return self.camera.size[0]

    def resized(self, size: int) -> "CropView":
        """The same view with crops of another size."""
        return replace(self, camera=self.camera.resized((size, size)))

    @property
    def zoom(self) -> float:
        """Photo pixels per pixel of the crop."""
        return float(self.square.side) / self.size

    def cut(self, image: Float[Tensor, "3 height width"]) -> Float[Tensor, "3 size size"]:
        """The crop of the photo, its edges continued outside."""
        one = UprightSquare(self.square.centre[None], self.square.side[None], self.square.angle[None])
        return one.cut(image[None], self.size)[0]

    def cut_depth(self, depth: Float[Tensor, "height width"]) -> Float[Tensor, "size size"]:
        """The crop of a depth map (metres along the photo camera's z, 0 = none), seen along the crop's middle.

        The nearest pixel's, since depths on either side of an edge have no meaningful mean.
        """
        height, width = depth.shape
        at = self._pixels() / depth.new_tensor([width, height]) * 2 - 1
        z = grid_sample(depth[None, None], at[None], mode="nearest", padding_mode="zeros", align_corners=False)[0, 0]
        return z * self._straight()

    def maps(self, model: HeadModel, code: HeadCode, albedo: Float[Tensor, "3 rows columns"]) -> Conditions:
        """A head's maps at the crop's pixels, normals and depth in the crop's own axes."""
        seen = Conditions.of(model, code, self.camera, albedo)
        turned = torch.einsum("ij,jhw->ihw", self.axes.to(seen.normal), seen.normal)
        return replace(seen, normal=turned, depth=seen.depth * self._straight())

    def distance(self, points: Float[Tensor, "n 3"]) -> float:
        """How far the middle of world points lies ahead, metres."""
        return float(self.photo.to_camera(points).mean(0) @ self.ahead)

    def on_photo(
        self, picture: Float[Tensor, "chan size size"], window: tuple[int, int, int, int], mode: str = "bicubic"
    ) -> Float[Tensor, "chan height width"]:
        """A crop-sized picture resampled onto a window (left, top, right, bottom) of the photo; edges go on outside."""
        left, top, right, bottom = window
        y, x = torch.arange(top, bottom) + 0.5, torch.arange(left, right) + 0.5
        points = torch.stack(torch.meshgrid(x, y, indexing="xy"), -1).to(picture)
        at = self.square.to_crop(points.flatten(0, 1), self.size).unflatten(0, points.shape[:2])
        unit = at / self.size * 2 - 1
        return grid_sample(picture[None], unit[None], mode=mode, padding_mode="border", align_corners=False)[0]

    def along_camera(self, change: Float[Tensor, "size size"]) -> Float[Tensor, "size size"]:
        """Depth, or a change of it, seen along the crop's middle -> along the photo camera's z."""
        return change / self._straight()

    def window(self, margin: float = 0.0) -> tuple[int, int, int, int]:
        """(left, top, right, bottom) of the photo around the crop and `margin` sides more, within the photo."""
        height, width = self.photo.size
        half = self.square.side * (0.5 + margin) * 2**0.5
        low, high = self.square.centre - half, self.square.centre + half
        left, top = (max(0, int(x)) for x in low.tolist())
        right, bottom = (int(x) + 1 for x in high.tolist())
        return left, top, max(left + 1, min(width, right)), max(top + 1, min(height, bottom))

    def _pixels(self) -> Float[Tensor, "size size 2"]:
        """Photo pixels of the crop's."""
        step = torch.arange(self.size, dtype=self.camera.K.dtype) + 0.5
        grid = torch.stack(torch.meshgrid(step, step, indexing="xy"), -1)
        return self.square.to_image(grid.flatten(0, 1), self.size).unflatten(0, grid.shape[:2])

    def _straight(self) -> Float[Tensor, "size size"]:
        """Distance ahead, seen along the crop's middle, of a point whose depth along the photo camera's z is 1."""
        pixels = self._pixels()
        homogeneous = torch.cat([pixels, torch.ones_like(pixels[..., :1])], -1)
        rays = torch.linalg.solve(self.photo.K, homogeneous.flatten(0, 1).mT).mT
        return (rays @ self.ahead).unflatten(0, pixels.shape[:2])


def _turn_to_z(ray: Float[Tensor, "3"]) -> Float[Tensor, "3"]:
    """Smallest rotation (vector) that takes a direction near +z to +z."""
    axis = torch.linalg.cross(ray, ray.new_tensor([0.0, 0.0, 1.0]))
    sine = axis.norm()
    return axis * (torch.atan2(sine, ray[2]) / sine if float(sine) > 1e-9 else 1.0)
