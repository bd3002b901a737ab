"""The 224 x 224 crop that DECA and EMOCA look at, and the way back to the photo.

The crop is a similarity that takes the corners of a square about the face to the centres of the crop's corner pixels.
Upstream works in pixel *indices* (the centre of the first pixel is 0), this project in pixel *positions* (0.5);
`CropTransform` holds the former, its methods take and give the latter.
"""

from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from ..errors import HeadlabError
from .encoder import CROP
from .sampling import warp

#: The crop's side over the face's.
SCALE = 1.25

#: Landmarks leave out the forehead, a detector's box does not.
_LANDMARK_SCALE = 1.1

#: A detector's box sits high: its centre moves down by this part of its size.
_BOX_SHIFT = 0.12


@dataclass(frozen=True)
class FaceSquare:
    """Square about a face in a photo: centre (x, y) in pixel indices, whole side in pixels."""

    centre: tuple[float, float]
    side: int

    @classmethod
    def from_landmarks(cls, points: Float[Tensor, "68 2"], scale: float = SCALE) -> "FaceSquare":
        """About the 68 iBUG points (`kpt68`), in pixel positions.

        Raises:
            HeadlabError: the points are not finite, or all in one place.
        """
        points = points.double() - 0.5
        if not bool(points.isfinite().all()):
            raise HeadlabError("the landmarks are not finite; detect the face again")
        (left, top), (right, bottom) = points.amin(0).tolist(), points.amax(0).tolist()
        size = (right - left + bottom - top) / 2 * _LANDMARK_SCALE
        return cls._sized((right - (right - left) / 2, bottom - (bottom - top) / 2), size, scale)

    @classmethod
    def from_box(cls, box: tuple[float, float, float, float], scale: float = SCALE) -> "FaceSquare":
        """About a detector's box (`bbox`): left, top, right, bottom in pixel positions.

        Raises:
            HeadlabError: the box is empty.
        """
        left, top, right, bottom = (value - 0.5 for value in box)
        size = (right - left + bottom - top) / 2
        middle = bottom - (bottom - top) / 2 + size * _BOX_SHIFT
        return cls._sized((right - (right - left) / 2, middle), size, scale)

    @classmethod
    def without_face(cls, size: tuple[int, int], scale: float = SCALE, *, swapped: bool = False) -> "FaceSquare":
        """About the whole image, as upstream does where its detector finds nothing.

        Args:
            size: (height, width) of the photo.
            scale: the crop's side over the face's.
            swapped: take width for height and the reverse, as upstream does by mistake; only for comparison with it.
        """
        height, width = reversed(size) if swapped else size
        right, bottom = width - 1, height - 1
        return cls._sized((right / 2, bottom / 2), (right + bottom) / 2 * _LANDMARK_SCALE, scale)

    @classmethod
    def _sized(cls, centre: tuple[float, float], size: float, scale: float) -> "FaceSquare":
        side = int(size * scale)
        if side < 2:
            raise HeadlabError(f"the face is only {size:.1f} pixels wide; give a larger picture of it")
        return cls(centre, side)

    def transform(self, size: int = CROP) -> "CropTransform":
        """The similarity to a crop of `size` pixels a side."""
        factor = (size - 1) / self.side
        offset = [-(c - self.side / 2) * factor for c in self.centre]
        matrix = torch.tensor([[factor, 0, offset[0]], [0, factor, offset[1]], [0, 0, 1]], dtype=torch.float64)
        return CropTransform(matrix, size)


@dataclass(frozen=True)
class CropTransform:
    """Similarity from a photo to its crop."""

    matrix: Float[Tensor, "3 3"]  #: photo indices -> crop indices, float64: upstream's `tform`
    size: int = CROP  #: side of the crop, pixels

    @classmethod
    def of_whole(cls, size: tuple[int, int], crop: int = CROP) -> "CropTransform":
        """Upstream's `iscrop=False`: the similarity closest to squeezing the whole photo into the crop.

        It is a least-squares fit to three corners (Umeyama 1991), and turns photos that are not square by a few
        degrees. Kept because it is what DECA does with images it is told are crops already.

        Args:
            size: (height, width) of the photo.
            crop: side of the crop.
        """
        height, width = size
        photo = torch.tensor([[0, 0], [0, height - 1], [width - 1, 0]], dtype=torch.float64)
        target = torch.tensor([[0, 0], [0, crop - 1], [crop - 1, 0]], dtype=torch.float64)
        # In the plane a similarity is a complex number: least squares has a closed form.
        p, q = (torch.view_as_complex((x - x.mean(0)).contiguous()) for x in (photo, target))
        turn = (p.conj() * q).sum() / (p.abs() ** 2).sum()
        linear = torch.stack([torch.stack([turn.real, -turn.imag]), torch.stack([turn.imag, turn.real])])
        matrix = torch.eye(3, dtype=torch.float64)
        matrix[:2, :2], matrix[:2, 2] = linear, target.mean(0) - linear @ photo.mean(0)
        return cls(matrix, crop)

    @property
    def inverse(self) -> Float[Tensor, "3 3"]:
        """Crop indices -> photo indices."""
        return torch.linalg.inv(self.matrix)

    @property
    def scale(self) -> float:
        """Crop pixels per photo pixel."""
        return float(torch.linalg.det(self.matrix[:2, :2]).sqrt())

    def crop(self, photo: Float[Tensor, "3 height width"], order: Literal[1, 3] = 1) -> Float[Tensor, "3 size size"]:
        """Cut the crop out. Outside of the photo it is black. Differentiable in the photo.

        Args:
            photo: RGB, 0..1.
            order: 1 is bilinear (DECA, and photos for EMOCA), 3 bicubic (EMOCA's videos).
        """
        return warp(photo, self.inverse, (self.size, self.size), order)

    def to_crop(self, points: Float[Tensor, "*batch n 2"]) -> Float[Tensor, "*batch n 2"]:
        """Photo positions -> crop positions, pixels."""
        return _apply(self.matrix, points)

    def to_photo(self, points: Float[Tensor, "*batch n 2"]) -> Float[Tensor, "*batch n 2"]:
        """Crop positions -> photo positions, pixels."""
        return _apply(self.inverse, points)

    def ndc_to_photo(
        self, points: Float[Tensor, "*batch n coords"], *, upstream: bool = False
    ) -> Float[Tensor, "*batch n coords"]:
        """Coordinates of the crop in -1..1, as `WeakPerspective.project_ndc` gives them -> photo positions, pixels.

        Any coordinates after x and y pass unchanged.

        Args:
            points: -1..1 covers the crop from edge to edge.
            upstream: reproduce DECA's demo, which takes positions for indices on the way; its points are off by half a
                photo pixel for every photo pixel per crop pixel beyond one. Only for comparison with it.
        """
        position = (points[..., :2] + 1) * (self.size / 2)
        if upstream:
            position = _apply(self.inverse, position + 0.5) - 0.5
        else:
            position = self.to_photo(position)
        return torch.cat([position, points[..., 2:]], -1)


def _apply(matrix: Tensor, points: Tensor) -> Tensor:
    """A similarity of pixel indices, on pixel positions."""
    linear, offset = matrix[:2, :2], matrix[:2, 2]
    moved = (points.double() - 0.5) @ linear.mT.to(points.device) + offset.to(points.device) + 0.5
    return moved.to(points.dtype)
