"""Eyes and teeth for head models that have none: the default head's, placed and scaled by landmarks.

An eyeball goes where the six points of its lids are, teeth where the twenty of the mouth are, each by the similarity
that carries the default head's landmarks there. Over identities a part follows its landmarks' mean and width, stays
rigid, and turns with the eye's or jaw's joint where there is one.
"""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from numpy import ndarray
from torch import Tensor

from ...geometry.errors import HeadlabError
from ...geometry.models.correspondence import similarity
from ...geometry.models.default import load_default_head
from ...geometry.models.head_model import HeadModel
from ...geometry.texture.uv_raster import rasterize_uv
from .dress import empty_square

_IRIS, _PUPIL = 0.42, 0.16  # of the eyeball's radius
_WHITE, _BROWN, _IVORY = (0.86, 0.84, 0.82), (0.32, 0.22, 0.14), (0.88, 0.85, 0.78)


@dataclass(frozen=True)
class _Template:
    """A part of the default head and what it is placed by."""

    part: str
    landmarks: tuple[int, ...]  # of the 68
    corners: tuple[int, int]  # of these, the two that tell its size
    joint: str  # that moves it
    follows: tuple[int, ...]  # landmarks whose expression moves it; none: it stays


_RIGHT, _LEFT, _MOUTH = tuple(range(36, 42)), tuple(range(42, 48)), tuple(range(48, 68))
_EYES = (
    _Template("left_eye", _LEFT, (42, 45), "left_eye", ()),
    _Template("right_eye", _RIGHT, (36, 39), "right_eye", ()),
)
_TEETH = (
    _Template("upper_teeth", _MOUTH, (48, 54), "neck", ()),
    _Template("lower_teeth", _MOUTH, (48, 54), "jaw", (7, 8, 9)),
)


def with_eyes_and_teeth(
    model: HeadModel, albedo: Float[Tensor, "3 size size"] | None = None
) -> tuple[HeadModel, Float[Tensor, "3 size size"] | None]:
    """Add what is missing; a model that has eyes and teeth is returned as it is.

    Args:
        model: with 68 landmarks.
        albedo: its texture; the new parts are painted into empty space of it.

    Raises:
        HeadlabError: it has no 68 landmarks.
    """
    missing = [t for t in _EYES if "eyes" not in model.regions and t.part not in model.part_names]
    missing += [t for t in _TEETH if "teeth" not in model.regions and t.part not in model.part_names]
    if not missing:
        return model, albedo
    if "68" not in model.landmarks:
        raise HeadlabError(f"{model.name} has no 68 landmarks to place eyes and teeth by; add its landmark file")
    source = load_default_head()
    for template in missing:
        model, albedo = _added(model, albedo, source, template)
    regions = dict(model.regions)
    for name, parts in (("eyes", _EYES), ("teeth", _TEETH)):
        own = {t.part: regions.pop(f"_{t.part}") for t in parts if f"_{t.part}" in regions}
        if own:
            regions[name] = torch.stack(list(own.values())).any(0)
            regions |= own
    return replace(model, regions=regions), albedo


def _added(
    model: HeadModel, albedo: Tensor | None, source: HeadModel, template: _Template
) -> tuple[HeadModel, Tensor | None]:
    points, faces = _part(source, template.part)
    chosen = list(template.landmarks)
    marks = source.landmarks3d(source.template, "68")[chosen].double().numpy()
    goals = model.landmarks3d(model.template, "68")[chosen].double().numpy()
    scale, rotation, offset = similarity(marks, goals)
    placed = scale * points @ rotation.T + offset
    centre = goals.mean(0)

    # Identity: with the landmarks' mean, and their width.
    basis = _landmark_basis(model, model.shape_basis)
    first, second = (model.landmarks3d(model.template, "68")[i].double().numpy() for i in template.corners)
    across = second - first
    width = across @ (basis[template.corners[1]] - basis[template.corners[0]]) / (across @ across)
    shape = basis[chosen].mean(0)[None] + (placed - centre)[:, :, None] * width
    expression = np.zeros((len(points), 3, model.expressions))
    jawed = template.joint == "jaw" and "jaw" in model.joint_names and "jawOpen" not in model.expression_names
    if template.follows and not jawed:
        moves = _landmark_basis(model, model.expression_basis)[list(template.follows)].mean(0)
        expression[:] = moves[None]
    count, start = len(points), len(model.template)
    weights = torch.zeros(count, model.skin_weights.shape[1]).to(model.skin_weights)
    joint = template.joint if template.joint in model.joint_names else model.joint_names[min(1, len(model.parents) - 1)]
    weights[:, model.joint_names.index(joint)] = 1

    def grown(x: Tensor, more: ndarray) -> Tensor:
        return torch.cat([x, torch.from_numpy(np.ascontiguousarray(more)).to(x)])

    owner = model.face_parts if model.face_parts is not None else torch.zeros(len(model.faces), dtype=torch.long)
    own = torch.full((len(faces),), len(model.part_names)).to(owner)
    regions = {name: torch.nn.functional.pad(mask, (0, count)) for name, mask in model.regions.items()}
    regions[f"_{template.part}"] = torch.arange(start + count) >= start
    regressor = torch.nn.functional.pad(model.joint_regressor, (0, count))
    pose = model.pose_basis
    if pose is not None:
        pose = torch.cat([pose, pose.new_zeros(count, *pose.shape[1:])])
    changes: dict[str, Any] = dict(
        template=grown(model.template, placed),
        shape_basis=grown(model.shape_basis, shape),
        expression_basis=grown(model.expression_basis, expression),
        faces=torch.cat([model.faces, torch.from_numpy(faces).to(model.faces) + start]),
        joint_regressor=regressor,
        skin_weights=torch.cat([model.skin_weights, weights]),
        pose_basis=pose,
        part_names=(*model.part_names, template.part),
        face_parts=torch.cat([owner, own]),
        regions=regions,
    )
    if model.uvs is None or model.uv_faces is None:
        return replace(model, **changes), albedo
    size = 512 if albedo is None else albedo.shape[-1]
    row, column, side = empty_square(rasterize_uv(model, size).mask[0].numpy())
    side = min(side, max(8, size // 12))
    low, high = placed[:, :2].min(0), placed[:, :2].max(0)
    flat = (placed[:, :2] - (low + high) / 2) / float((high - low).max()) + 0.5  # as seen from the front
    inner = 1 + flat * (side - 2)
    uvs = np.stack([(column + inner[:, 0]) / size, 1 - (row + side - inner[:, 1]) / size], 1)
    changes["uvs"] = grown(model.uvs, uvs)
    changes["uv_faces"] = torch.cat([model.uv_faces, torch.from_numpy(faces).to(model.uv_faces) + len(model.uvs)])
    if albedo is not None:
        albedo = albedo.clone()
        albedo[:, row : row + side, column : column + side] = _painted(side, template.part.endswith("eye"))
    return replace(model, **changes), albedo


def _part(source: HeadModel, name: str) -> tuple[Float[ndarray, "n 3"], Int[ndarray, "faces 3"]]:
    assert source.face_parts is not None
    faces = source.faces[source.face_parts == source.part_names.index(name)].numpy()
    used, faces = np.unique(faces, return_inverse=True)
    return source.template[used].double().numpy(), faces.reshape(-1, 3)


def _landmark_basis(model: HeadModel, basis: Float[Tensor, "verts 3 k"]) -> Float[ndarray, "68 3 k"]:
    """The 68 landmarks as linear functions of a code."""
    embedding = model.landmarks["68"]
    corners = basis[model.faces[embedding.faces]].double()
    return torch.einsum("pi,pick->pck", embedding.weights.double(), corners).numpy()


def _painted(side: int, eye: bool) -> Float[Tensor, "3 side side"]:
    if not eye:
        return torch.tensor(_IVORY)[:, None, None].expand(3, side, side)
    steps = (torch.arange(side) + 0.5) / side * 2 - 1
    radius = torch.hypot(*torch.meshgrid(steps, steps, indexing="ij"))
    out = torch.where(radius < _IRIS, torch.tensor(_BROWN)[:, None, None], torch.tensor(_WHITE)[:, None, None])
    return torch.where(radius < _PUPIL, torch.full((3, 1, 1), 0.03), out)
