"""dressed: a fitted head and a hair style -> a head model with hair, and its texture.

The hair becomes a further part of the model, bound to the nearest points of the scalp, so that it follows identity and
pose and every writer and viewer draws it. Its texture is painted into the largest empty square of the layout.
"""

from dataclasses import replace
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from numpy import ndarray
from scipy.spatial import KDTree
from torch import Tensor

from ...geometry.code import HeadCode
from ...geometry.errors import HeadlabError
from ...geometry.models.head_model import HeadModel
from ...geometry.texture.uv_raster import rasterize_uv, to_uv
from .hair_mesh import HeadShape, growth, hair_mesh
from .hair_styles import HairStyle

_BROWN = (0.23, 0.16, 0.12)
_MARGIN = 3  # pixels around the patch of hair


def dressed(
    model: HeadModel, code: HeadCode, albedo: Float[Tensor, "3 size size"] | None, style: HairStyle
) -> tuple[HeadModel, Float[Tensor, "3 size size"] | None]:
    """Put hair on a head.

    Args:
        model: with 68 landmarks.
        code: one head, without batch axes; the hair is made for its identity and follows others nearby.
        albedo: its texture, of which the hair takes the scalp's colour unless the style says one.
        style: see `HairStyle`.

    Returns:
        The model with a part "hair", and the texture with hair painted where it was empty.

    Raises:
        HeadlabError: the model has no landmarks, or hair already.
    """
    if "hair" in model.part_names:
        raise HeadlabError(f"{model.name} wears hair already; take the plain model")
    with torch.no_grad():
        vertices = model.shaped(code.shape, torch.zeros(model.expressions).to(model.template)).double().numpy()
    hair = hair_mesh(model, vertices, style)
    shape = HeadShape.of(model, vertices)
    scalp = growth(model, shape, style.hairline)
    changes = bound_vertices(model, vertices, hair.vertices, np.flatnonzero(scalp > 0.5))
    count = len(model.template)
    faces = torch.from_numpy(hair.faces).to(model.faces)
    owner = torch.zeros(len(model.faces), dtype=torch.long) if model.face_parts is None else model.face_parts
    hair_owner = torch.full((len(faces),), len(model.part_names)).to(owner)
    changes |= {
        "faces": torch.cat([model.faces, faces + count]),
        "part_names": (*model.part_names, "hair"),
        "face_parts": torch.cat([owner, hair_owner]),
    }
    changes["regions"]["hair"] = torch.arange(count + len(hair.vertices)) >= count
    if model.uvs is None or model.uv_faces is None:
        return replace(model, **changes), albedo
    size = 512 if albedo is None else albedo.shape[-1]
    raster = rasterize_uv(model, size)
    row, column, side = empty_square(raster.mask[0].numpy())
    u = (column + _MARGIN + hair.uvs[:, 0] * (side - 2 * _MARGIN)) / size
    v = 1 - (row + _MARGIN + hair.uvs[:, 1] * (side - 2 * _MARGIN)) / size
    changes["uvs"] = torch.cat([model.uvs, torch.from_numpy(np.stack([u, v], 1)).to(model.uvs)])
    changes["uv_faces"] = torch.cat([model.uv_faces, faces.to(model.uv_faces) + len(model.uvs)])
    grown = replace(model, **changes)
    if albedo is None:
        return grown, None
    colour = style.colour
    if colour is None:
        on_scalp = to_uv(raster, model, torch.from_numpy(scalp).float()[:, None])[..., 0] > 0.95
        tone = albedo[:, on_scalp].median(1).values if bool(on_scalp.any()) else torch.tensor(_BROWN)
        colour = (float(tone[0]), float(tone[1]), float(tone[2]))
    painted = albedo.clone()
    painted[:, row : row + side, column : column + side] = strands(side, colour)
    return grown, painted


def bound_vertices(
    model: HeadModel,
    vertices: Float[ndarray, "verts 3"],
    points: Float[ndarray, "n 3"],
    holders: Int[ndarray, "k"],
) -> dict[str, Any]:
    """Fields of a model with further vertices that keep their offset from the nearest of some of its own.

    Args:
        model: any.
        vertices: of the unposed head on which `points` were placed.
        points: the new vertices, metres.
        holders: indices of vertices they may be held by; all where there are none.
    """
    if not len(holders):
        holders = np.arange(len(vertices))
    nearest = torch.from_numpy(holders[KDTree(vertices[holders]).query(points)[1]])
    offset = torch.from_numpy(points - vertices[nearest.numpy()]).to(model.template)
    count = len(points)

    def padded(x: Tensor, axis: int = 0) -> Tensor:
        shape = list(x.shape)
        shape[axis] = count
        return torch.cat([x, x.new_zeros(shape)], axis)

    return {
        "template": torch.cat([model.template, model.template[nearest] + offset]),
        "shape_basis": torch.cat([model.shape_basis, model.shape_basis[nearest]]),
        "expression_basis": padded(model.expression_basis),
        "joint_regressor": padded(model.joint_regressor, 1),
        "skin_weights": torch.cat([model.skin_weights, model.skin_weights[nearest]]),
        "pose_basis": None if model.pose_basis is None else padded(model.pose_basis),
        "regions": {name: padded(mask) for name, mask in model.regions.items()},
    }


def empty_square(covered: Bool[ndarray, "size size"]) -> tuple[int, int, int]:
    """Row, column and side of the largest square that no island of the layout touches."""
    from scipy.ndimage import distance_transform_cdt

    distance = np.asarray(distance_transform_cdt(np.pad(~covered, 1), "chessboard"))[1:-1, 1:-1]
    row, column = (int(i) for i in np.unravel_index(distance.argmax(), distance.shape))
    half = max(int(distance[row, column]) - 1, 1)
    return row - half, column - half, 2 * half + 1


def strands(side: int, colour: tuple[float, float, float]) -> Float[Tensor, "3 side side"]:
    """Streaks along v of a colour, lighter and darker."""
    rng = np.random.default_rng(3)
    across = np.zeros(side)
    for width in (1, 2, 5):
        coarse = rng.normal(0, 1, side // width + 2)
        across += np.interp(np.arange(side) / width, np.arange(len(coarse)), coarse)
    along = 0.85 + 0.3 * np.linspace(0, 1, side)[:, None] ** 0.7
    streaks = torch.from_numpy((1 + 0.1 * across[None]) * along).float().clamp(0.5, 1.6)
    return (torch.tensor(colour).clamp(0.02, 1)[:, None, None] * streaks).clamp(0, 1)
