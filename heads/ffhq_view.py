"""The crop that FFHQ's alignment cuts out of a photo, as a view of a fitted head: DiffusionRig and DiffAE see such."""

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from ..datasets.ffhq_align import ffhq_quad
from ..geometry.models.head_model import HeadModel
from ..geometry.regress.default_crop import UprightSquare
from .crop_view import CropView
from .edit_blend import rim_mask
from .transfer import PhotoHead


def ffhq_square(points: Float[Tensor, "points 2"]) -> UprightSquare:
    """FFHQ's square about 68 or 478 landmarks (pixels).

    Raises:
        HeadlabError: another number of points, or they span no face.
    """
    # As `ffhq_matrix` has it: half a pixel further, because FFHQ counted from pixel centres.
    quad = torch.from_numpy(ffhq_quad(points.detach().cpu().numpy().astype(np.float64)) + 0.5).to(points)
    across = quad[3] - quad[0]
    return UprightSquare(quad.mean(0), across.norm(), torch.atan2(across[1], across[0]))


def ffhq_view(model: HeadModel, head: PhotoHead, size: int) -> CropView:
    """The aligned crop of a fitted face: by the landmarks found in the photo, or else by the fitted head's."""
    if head.frame.landmarks is not None:
        points = head.frame.landmarks.points
    else:
        which = "478" if "478" in model.landmarks else "68"
        points = head.camera.project(model.landmarks3d(model.vertices(head.code), which))
    return CropView.of_square(ffhq_square(points), head.camera, size)


def put_back(
    image: Float[Tensor, "3 height width"], crop: Float[Tensor, "3 size size"], view: CropView
) -> Float[Tensor, "3 height width"]:
    """A photo with a crop (0..1) drawn over it, softly at the crop's rim; outside it stays bit by bit."""
    left, top, right, bottom = window = view.window()
    inside = view.on_photo(rim_mask(view.size)[None], window, "bilinear")[0]
    drawn = view.on_photo(crop, window).clamp(0, 1)
    # The square is turned in its window: what lies beyond it is the photo's.
    at = view.square.to_crop(_centres(left, top, right, bottom).to(image), view.size)
    within = ((at > 0) & (at < view.size)).all(-1).reshape(bottom - top, right - left)
    inside = torch.where(within, inside, 0.0)
    out = image.clone()
    base = image[:, top:bottom, left:right]
    out[:, top:bottom, left:right] = torch.where(inside > 0, torch.lerp(base, drawn, inside), base)
    return out


def _centres(left: int, top: int, right: int, bottom: int) -> Float[Tensor, "pixels 2"]:
    y, x = torch.arange(top, bottom) + 0.5, torch.arange(left, right) + 0.5
    return torch.stack(torch.meshgrid(x, y, indexing="xy"), -1).flatten(0, 1)
