"""Putting an edited crop back into its photo, at the photo's resolution, through a soft mask of the face.

    edited crop - reference crop ──> seam removed (harmonic, Pérez et al. 2003) ──> enlarged ──> times mask ──> + base

The networks see few pixels. So what is added to the base, the photo, is the difference between their picture and a
reference of the same few pixels; all finer detail is the photo's own.
"""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import avg_pool2d, max_pool2d

from ..geometry.camera import Camera
from ..geometry.models.head_model import HeadModel
from ..geometry.raster import rasterize
from .crop_view import CropView
from .transfer_field import extend_field

#: What expressions move; hair, ears, neck and background are not touched.
FACE = ("face", "lips", "eyelids", "eyes", "mouth", "teeth", "tongue")
_RIM = 0.08  #: part of the crop's side over which the mask falls to 0 at its rim


def face_mask(
    model: HeadModel,
    camera: Camera,
    heads: Sequence[Float[Tensor, "verts 3"]],
    fade: float = 0.006,
) -> Float[Tensor, "height width"]:
    """1 where the face of any of the heads is seen, falling softly to 0 outside.

    Args:
        model: head model with the region "face"; further ones of `FACE` are used where it has them.
        camera: its size is the mask's.
        heads: vertices of the heads, world.
        fade: metres over which the mask falls to 0.
    """
    regions = [model.regions[name] for name in FACE if name in model.regions]
    faces = torch.stack(regions).any(0)[model.faces].any(1)
    mask = torch.zeros(camera.size)
    for vertices in heads:
        raster = rasterize(camera.to_homogeneous(vertices)[None], model.faces, camera.size)
        mask = torch.maximum(mask, (faces[raster.face[0].clamp(min=0).long()] & raster.mask[0]).to(mask))
    depth = camera.to_camera(heads[0])[:, 2].median()
    scale = torch.linalg.det(camera.K[:2, :2]).abs().sqrt()  # pixels per unit of slope, whatever the turn
    radius = max(1, round(float(fade * scale / depth) / 2))
    grown = max_pool2d(mask[None, None], 2 * radius + 1, 1, radius)
    return avg_pool2d(grown, 2 * radius + 1, 1, radius, count_include_pad=False)[0, 0]


def rim_mask(size: int) -> Float[Tensor, "size size"]:
    """1 inside a crop, falling smoothly to 0 at its rim."""
    at = (torch.arange(size) + 0.5) / size
    t = (torch.minimum(at, 1 - at) / _RIM - 0.5 / size / _RIM).clamp(0, 1)
    t = t * t * (3 - 2 * t)
    return torch.minimum(t[:, None], t[None])


def seamless(
    change: Float[Tensor, "chan size size"], mask: Float[Tensor, "size size"]
) -> Float[Tensor, "chan size size"]:
    """A change without what it has at the mask's border and beyond, which is continued harmonically to the inside.

    So a picture whose colours are shifted as a whole, or drift across it, leaves no seam.
    """
    return change - extend_field(change, mask < 0.01, None)


def blended(
    base: Float[Tensor, "chan height width"],
    change: Float[Tensor, "chan size size"],
    mask: Float[Tensor, "rows columns"],
    view: CropView,
    window: tuple[int, int, int, int],
) -> Float[Tensor, "chan height width"]:
    """A picture with a crop's change added inside the mask.

    Args:
        base: of the photo's size.
        change: what to add, crop pixels.
        mask: 0..1, of the window's size.
        view: where the crop lies.
        window: (left, top, right, bottom) of the photo; outside nothing changes.
    """
    left, top, right, bottom = window
    inside = mask * view.on_photo(rim_mask(view.size)[None], window, "bilinear")[0]
    out = base.clone()
    out[:, top:bottom, left:right] += inside * view.on_photo(change, window)
    return out
