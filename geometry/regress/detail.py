"""Displacement maps: detail normals and the dense mesh (DECA, Feng et al. 2021, section 4.2).

V' = V + (mask · D + D_fixed) N,   N' = normals of the texel grid V'
"""

from functools import lru_cache

import torch
from jaxtyping import Float, Int
from torch import Tensor

from .assets import DenseTemplate, DetailAssets
from .uv_maps import UvSpace, sample

#: Columns and rows at the map's border that get no triangles.
_MARGIN = (2, 5)

#: Twice the area, square metres, below which a texel's normal is short.
_EPS = 1e-6


def detail_normals(
    space: UvSpace,
    vertices: Float[Tensor, "batch verts 3"],
    normals: Float[Tensor, "batch verts 3"],
    displacement: Float[Tensor, "batch 1 size size"],
    assets: DetailAssets,
    *,
    blend: bool = True,
) -> Float[Tensor, "batch 3 size size"]:
    """Normals of the displaced surface in texture space.

    Gradients reach the displacement only, as upstream.

    Args:
        space: the model's texture layout.
        vertices: coarse mesh, metres.
        normals: its unit normals.
        displacement: the decoder's map, metres.
        assets: mask and fixed displacement.
        blend: fade to the coarse normals outside of the mask, as DECA does; EMOCA leaves it out.
    """
    coarse, normal = space.image(vertices).detach(), space.image(normals).detach()
    place = coarse + (displacement * assets.mask) * normal + assets.fixed_displacement * normal
    size = place.shape[-1]
    fine = _grid_normals(place.flatten(-2).mT, grid_faces(size).to(place.device))
    fine = fine.mT.unflatten(-1, (size, size))
    return fine * assets.mask + normal * (1 - assets.mask) if blend else fine


@lru_cache(maxsize=4)
def grid_faces(size: int, margin: tuple[int, int] = _MARGIN) -> Int[Tensor, "faces 3"]:
    """Two triangles for every cell of a texel grid, column by column, without a margin of (columns, rows).

    In a texture seen from outside the head they run counter-clockwise.
    """
    x = torch.arange(margin[0], size - 1 - margin[0])[:, None]
    y = torch.arange(margin[1], size - 1 - margin[1])[None]
    corner = y * size + x
    right, below = corner + 1, corner + size
    first = torch.stack([corner, below, right], -1)
    second = torch.stack([right, below, below + 1], -1)
    return torch.stack([first, second], -2).reshape(-1, 3)


def _grid_normals(
    points: Float[Tensor, "batch texels 3"], faces: Int[Tensor, "faces 3"]
) -> Float[Tensor, "batch texels 3"]:
    """Vertex normals; shorter than 1 where the faces about a texel have less than half a square millimetre in all.

    That is upstream's guard against division by zero, far from small in metres. Its networks were trained with it.
    """
    a, b, c = points[:, faces].unbind(-2)
    area = torch.linalg.cross(b - a, c - a)
    total = torch.zeros_like(points)
    for corner in faces.unbind(-1):
        total = total.index_add(1, corner, area)
    return torch.nn.functional.normalize(total, dim=-1, eps=_EPS)


def dense_mesh(
    template: DenseTemplate,
    vertices: Float[Tensor, "batch verts 3"],
    normals: Float[Tensor, "batch verts 3"],
    displacement: Float[Tensor, "batch 1 size size"],
) -> Float[Tensor, "batch dense 3"]:
    """Vertices of the dense mesh: the coarse surface moved along its normal.

    Args:
        template: where each dense vertex lies.
        vertices: coarse mesh, metres.
        normals: its unit normals.
        displacement: the whole map, fixed part included, metres.
    """
    weights = template.weights.unsqueeze(-1)
    place = (vertices[:, template.corners] * weights).sum(-2)
    normal = torch.nn.functional.normalize((normals[:, template.corners] * weights).sum(-2), dim=-1)
    row, column = template.texels.unbind(-1)
    return place + displacement[:, 0, row, column].unsqueeze(-1) * normal


def dense_colors(
    template: DenseTemplate, texture: Float[Tensor, "batch chan size size"]
) -> Float[Tensor, "batch dense chan"]:
    """Colour of each dense vertex: the texel it stands on."""
    row, column = template.texels.unbind(-1)
    return texture[:, :, row, column].mT


def photo_texture(
    space: UvSpace, ndc: Float[Tensor, "batch verts 3"], image: Float[Tensor, "batch 3 height width"]
) -> Float[Tensor, "batch 3 size size"]:
    """The photo unwrapped into texture space. What the head hides from the camera shows what lies before it.

    Args:
        space: the model's texture layout.
        ndc: projected vertices, -1..1 over the image.
        image: the photo or crop.
    """
    return sample(image, space.image(ndc)[:, :2].movedim(1, -1))
