"""Soft parts of a face in texture space that add up to 1: each gets colours of its own and they blend without seams."""

import torch
from jaxtyping import Float
from torch import Tensor

from ..errors import HeadlabError
from ..models.head_model import HeadModel
from .push_pull import bleed
from .uv_raster import rasterize_uv, to_uv

#: Landmarks of the 68 about which each part lies; "rest" is what is far from all of them.
PARTS = {
    "left_eye": (*range(22, 27), *range(42, 48)),
    "right_eye": (*range(17, 22), *range(36, 42)),
    "nose": tuple(range(27, 36)),
    "mouth": tuple(range(48, 68)),
    "left_cheek": (11, 12, 13, 14),
    "right_cheek": (2, 3, 4, 5),
    "chin": (6, 7, 8, 9, 10),
}
NAMES = (*PARTS, "forehead", "rest")
_SOFT = 0.10  # how far parts reach into one another, outer-eye distances
_FACE = (0.45, 0.75)  # distances from the nearest landmark between which the face becomes the rest, likewise
_LEAST = 0.02  # shares below this are dropped


def vertex_parts(model: HeadModel) -> Float[Tensor, "verts parts"]:
    """Share of each of `NAMES` in every vertex; sum 1.

    Raises:
        HeadlabError: the model has no 68 landmarks.
    """
    if "68" not in model.landmarks:
        raise HeadlabError(f"{model.name} has no 68 landmarks, by which the face's parts are found")
    vertices = model.template.double()
    marks = model.landmarks3d(model.template, "68").double()
    unit = (marks[45] - marks[36]).norm()
    brows = marks[17:27]
    up = torch.nn.functional.normalize(marks[27] - marks[33], dim=0)
    forehead = torch.cat([brows + 0.3 * unit * up, brows + 0.6 * unit * up])
    groups = [marks[list(points)] for points in PARTS.values()] + [forehead]
    distance = torch.stack([torch.cdist(vertices, group).amin(1) for group in groups], 1) / unit
    shares = torch.softmax(-((distance / _SOFT) ** 2).clamp(max=400) / 2, 1)
    t = ((distance.amin(1) - _FACE[0]) / (_FACE[1] - _FACE[0])).clamp(0, 1)
    rest = (t * t * (3 - 2 * t))[:, None]
    return torch.cat([shares * (1 - rest), rest], 1).to(model.template)


def texture_parts(model: HeadModel, size: int) -> Float[Tensor, "parts size size"]:
    """The shares in the texture layout; sum 1 everywhere, beyond the islands' borders too."""
    raster = rasterize_uv(model, size)
    maps = to_uv(raster, model, vertex_parts(model)).permute(2, 0, 1)
    maps = bleed(maps, raster.mask[0])
    maps = torch.where(maps < _LEAST, torch.zeros(()), maps)
    return maps / maps.sum(0, keepdim=True).clamp(min=1e-6)
