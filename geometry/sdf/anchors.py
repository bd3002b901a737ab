"""Our own 39 anchors on a head model, in the authors' order, and where its heads lie in the fields' frame.

Pairs first, the subject's right side before the left: mouth corners, cheeks before the ears, jaw, cheeks, brows, inner
and outer eye corners, nostrils, jaw angles, temples, ears, forehead, top, back, nape, foot of the neck; then the mid
plane: throat, nose tip, lower and upper lip, nose bridge, forehead, chin. Those of the face are landmarks; those of
the rest are where a ray from the head's middle leaves the skin. The authors' own table averages people of a dataset
with stricter terms than their code's: it is not used here.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from ..errors import HeadlabError
from ..models.correspondence import similarity
from ..models.default import load_default_head
from ..models.head_model import HeadModel, LandmarkEmbedding
from ..raster import closest_point
from .frame import UNITS_PER_METRE

#: Where the middle of the four eye corners lies in the fields' frame; FLAME's mean head times 4, rounded.
EYES = (0.0, 0.07, 0.13)

#: Right and left landmark of the 478 for the pairs of the face, by the pair's number.
_FACE_PAIRS = {
    0: (61, 291),
    1: (177, 401),
    2: (210, 430),
    3: (50, 280),
    4: (52, 282),
    5: (133, 362),
    6: (33, 263),
    7: (102, 331),
    8: (172, 397),
    9: (139, 368),
    10: (234, 454),
    11: (67, 297),
}
#: Directions (|x|, y, z) from the head's middle for the other pairs.
_RAY_PAIRS = {12: (0.42, 0.9, -0.05), 13: (0.42, 0.5, -0.76), 14: (0.35, -0.55, -0.75), 15: (0.45, -0.85, -0.3)}
#: Landmarks on the mid plane, by anchor; the throat (32) is a ray.
_MIDDLE = {33: 4, 34: 16, 35: 0, 36: 6, 37: 151, 38: 152}
_THROAT = (0.0, -0.85, 0.52)

_CORNERS = [36, 39, 42, 45]  # of the eyes, among the 68


@dataclass(frozen=True)
class FieldFrame:
    """From a head model's metres to the fields' unit: field = 4 · metres + offset."""

    offset: Float[Tensor, "3"]

    @classmethod
    def of(cls, model: HeadModel) -> "FieldFrame":
        """The mean head's eye corners come to lie where FLAME's do.

        Raises:
            HeadlabError: the model has no 68 landmarks.
        """
        return cls(torch.tensor(EYES) - UNITS_PER_METRE * _landmarks68(model)[_CORNERS].mean(0))

    def to_field(self, metres: Float[Tensor, "*batch 3"]) -> Float[Tensor, "*batch 3"]:
        return UNITS_PER_METRE * metres + self.offset.to(metres)

    def to_metres(self, points: Float[Tensor, "*batch 3"]) -> Float[Tensor, "*batch 3"]:
        return (points - self.offset.to(points)) / UNITS_PER_METRE


def skin_faces(model: HeadModel) -> Int[Tensor, "faces 3"]:
    """Triangles of the skin alone: no eyes, teeth, tongue, or inside of the mouth."""
    if model.face_parts is None or "skin" not in model.part_names:
        return model.faces
    return model.faces[model.face_parts == model.part_names.index("skin")]


def anchor_embedding(model: HeadModel) -> LandmarkEmbedding:
    """The 39 anchors as points of a model's surface, so that each of its heads has its own.

    On the default head by landmarks and rays; on any other model by laying the default head's on it with a similarity
    from the 68 landmarks, and taking the nearest points of its skin.

    Raises:
        HeadlabError: the model has no 68 landmarks.
    """
    if "478" in model.landmarks and model.face_parts is not None and model.part_names[0] == "skin":
        goals = _own_anchors(model)
    else:
        default = load_default_head()
        marks, target = _landmarks68(default), _landmarks68(model)
        scale, rotation, offset = similarity(marks.double().numpy(), target.double().numpy())
        placed = scale * _own_anchors(default).double() @ torch.from_numpy(rotation).mT + torch.from_numpy(offset)
        goals = placed.to(model.template)
    return _embedded(model, goals)


def mean_anchors(model: HeadModel) -> Float[Tensor, "anchors 3"]:
    """The anchors of the model's mean head in the fields' frame: what an identity field starts from."""
    return FieldFrame.of(model).to_field(model.surface_points(model.template, anchor_embedding(model)))


def _own_anchors(model: HeadModel) -> Float[Tensor, "39 3"]:
    marks = model.landmarks3d(model.template, "478")
    skin = skin_faces(model)
    used = model.template[skin.unique()]
    middle = (used.amin(0) + used.amax(0)) / 2
    pairs = []
    for number in range(16):
        if number in _FACE_PAIRS:
            pairs += [marks[index] for index in _FACE_PAIRS[number]]
        else:
            x, y, z = _RAY_PAIRS[number]
            pairs += [_leaves(model.template, skin, middle, (side * x, y, z)) for side in (-1, 1)]
    throat = _leaves(model.template, skin, middle, _THROAT)
    return torch.stack([*pairs, throat, *(marks[index] for index in _MIDDLE.values())])


def _leaves(
    vertices: Float[Tensor, "verts 3"],
    faces: Int[Tensor, "faces 3"],
    start: Float[Tensor, "3"],
    direction: tuple[float, float, float],
) -> Float[Tensor, "3"]:
    """The last point of a surface on a ray (Möller and Trumbore, 1997)."""
    ray = F.normalize(torch.tensor(direction, dtype=vertices.dtype), dim=0)
    a, b, c = vertices[faces].unbind(1)
    u, v = b - a, c - a
    p = torch.linalg.cross(ray.expand_as(v), v)
    determinant = (u * p).sum(-1)
    safe = torch.where(determinant.abs() > 1e-15, determinant, 1.0)
    from_a = start - a
    s = (from_a * p).sum(-1) / safe
    q = torch.linalg.cross(from_a, u)
    t, along = (q @ ray) / safe, (v * q).sum(-1) / safe
    hit = (determinant.abs() > 1e-15) & (s >= 0) & (t >= 0) & (s + t <= 1) & (along > 0)
    if not bool(hit.any()):
        raise HeadlabError(f"the head is open in the direction {direction}; anchors need a head with a back and a neck")
    return start + along[hit].max() * ray


def _embedded(model: HeadModel, goals: Float[Tensor, "points 3"]) -> LandmarkEmbedding:
    parts = model.face_parts
    skin = torch.arange(len(model.faces))
    if parts is not None and "skin" in model.part_names:
        skin = (parts == model.part_names.index("skin")).nonzero().squeeze(1)
    _, face, weights = closest_point(model.template, model.faces[skin], goals.to(model.template))
    return LandmarkEmbedding(skin[face.long()], weights.to(model.template))


def _landmarks68(model: HeadModel) -> Float[Tensor, "68 3"]:
    if "68" not in model.landmarks:
        raise HeadlabError(f"{model.name} has no 68 landmarks; add its landmark file with `headlab assets add`")
    return model.landmarks3d(model.template, "68")
