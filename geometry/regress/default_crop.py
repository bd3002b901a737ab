"""The upright square about a face that the default regressor looks at."""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import avg_pool2d, grid_sample

from ..errors import HeadlabError

#: Side of the network's input, pixels.
CROP = 96
#: The square's side over that of the landmarks' box.
MARGIN = 1.35
#: Right eye's corners, left eye's corners, mouth's corners.
_CORNERS = {478: ((33, 133), (362, 263), (61, 291)), 68: ((36, 39), (42, 45), (48, 54))}


@dataclass(frozen=True)
class UprightSquare:
    """A turned square in an image. Leading axes are free."""

    centre: Float[Tensor, "*batch 2"]  #: pixels
    side: Float[Tensor, "*batch"]  #: pixels
    angle: Float[Tensor, "*batch"]  #: of the face's left-right axis against the image's x axis, clockwise, radians

    @classmethod
    def from_landmarks(cls, points: Float[Tensor, "*batch points 2"]) -> "UprightSquare":
        """About 478 (MediaPipe) or 68 (iBUG) points: eyes above the mouth, the points' box in the middle.

        Raises:
            HeadlabError: another number of points, or they lie in one place.
        """
        if points.shape[-2] not in _CORNERS:
            raise HeadlabError(f"a crop is made from 478 or 68 landmarks, not {points.shape[-2]}; detect the face anew")
        right, left, mouth = (points[..., list(index), :].mean(-2) for index in _CORNERS[points.shape[-2]])
        across, down = left - right, mouth - (left + right) / 2
        axis = across + torch.stack([down[..., 1], -down[..., 0]], -1)
        angle = torch.atan2(axis[..., 1], axis[..., 0])
        turned = points @ rotation2d(angle)  # rows times R = R transposed times columns: turned back
        low, high = turned.amin(-2), turned.amax(-2)
        side = MARGIN * (high - low).amax(-1)
        if not bool((side > 1e-3).all()):
            raise HeadlabError("the landmarks of a face lie in one place; leave out photos in which no face was found")
        centre = ((low + high) / 2)[..., None, :] @ rotation2d(angle).mT
        return cls(centre[..., 0, :], side, angle)

    def to_crop(self, points: Float[Tensor, "*batch n 2"], size: int = CROP) -> Float[Tensor, "*batch n 2"]:
        """Image pixels -> pixels of a crop of this size."""
        moved = (points - self.centre[..., None, :]) @ rotation2d(self.angle)
        return moved * (size / self.side)[..., None, None] + size / 2

    def to_image(self, points: Float[Tensor, "*batch n 2"], size: int = CROP) -> Float[Tensor, "*batch n 2"]:
        """Inverse of `to_crop`."""
        moved = (points - size / 2) * (self.side / size)[..., None, None]
        return moved @ rotation2d(self.angle).mT + self.centre[..., None, :]

    def cut(
        self, images: Float[Tensor, "batch 3 height width"], size: int = CROP
    ) -> Float[Tensor, "batch 3 size size"]:
        """The crops, one square per image; bilinear, averaged where the image is finer, edges go on outside.

        Differentiable in the images.
        """
        shrink = max(1, int(float(self.side.min()) / size))
        height, width = images.shape[-2:]
        finer = avg_pool2d(images, shrink, ceil_mode=True, count_include_pad=False) if shrink > 1 else images
        step = torch.arange(size, dtype=images.dtype, device=images.device) + 0.5
        grid = torch.stack(torch.meshgrid(step, step, indexing="xy"), -1).reshape(1, -1, 2)
        at = self.to_image(grid.expand(len(images), -1, -1), size)
        # ceil_mode pads the pooled image's extent to a multiple of `shrink`
        extent = at.new_tensor([finer.shape[-1] * shrink, finer.shape[-2] * shrink]) if shrink > 1 else None
        unit = at / (extent if extent is not None else at.new_tensor([width, height])) * 2 - 1
        return grid_sample(finer, unit.reshape(-1, size, size, 2), padding_mode="border", align_corners=False)


def rotation2d(angle: Float[Tensor, "*batch"]) -> Float[Tensor, "*batch 2 2"]:
    """Turns (x right, y down) vectors clockwise as seen."""
    c, s = torch.cos(angle), torch.sin(angle)
    return torch.stack([torch.stack([c, -s], -1), torch.stack([s, c], -1)], -2)
