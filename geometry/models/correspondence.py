"""Dense correspondence between two head models: which point of one's surface each vertex of the other means.

The target's template is laid on the source's by a similarity from the 68 landmarks, then bent by its own identity
basis until its face lies on the source's surface (iterated closest points with the model as the regulariser, Amberg
et al. 2008); then every vertex of its face is projected onto that surface.
"""

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from numpy import ndarray
from torch import Tensor

from ..errors import HeadlabError
from .closest_surface import SurfacePoints, closest_points
from .head_model import HeadModel
from .shape_space import vertex_areas

_INNER = slice(17, 68)  # of the 68 landmarks; the contour means different things in different models
_EVIDENCE = 200.0  # residuals of neighbouring vertices are alike: this many count as independent
_LANDMARK = 0.02  # weight of each landmark; the vertices together have weight 1
_TRUSTS = (0.006, 0.004, 0.003, 0.002, 0.002, 0.0015, 0.0015, 0.001, 0.001)  # metres, per round: gaps to be closed

#: Scale, rotation, offset.
Pose = tuple[float, Float[ndarray, "3 3"], Float[ndarray, "3"]]


@dataclass(frozen=True)
class Correspondence:
    """Vertices of a target model and the points of a source model's surface that they mean."""

    vertices: Int[Tensor, "n"]  #: of the target
    corners: Int[Tensor, "n 3"]  #: vertices of the source
    weights: Float[Tensor, "n 3"]  #: of those corners
    importance: Float[Tensor, "n"]  #: share of each vertex in the face's area; sum 1

    def points(self, source_vertices: Float[Tensor, "*batch verts 3"]) -> Float[Tensor, "*batch n 3"]:
        """The points on given vertices of the source."""
        return (source_vertices[..., self.corners, :] * self.weights.unsqueeze(-1)).sum(-2)


def find_correspondence(source: HeadModel, target: HeadModel) -> Correspondence:
    """Match the target's face with the source's surface. A second or two.

    Raises:
        HeadlabError: a model has no 68 landmarks.
    """
    for model in (source, target):
        if "68" not in model.landmarks:
            raise HeadlabError(f"{model.name} has no 68 landmarks; add its landmark file with `headlab assets add`")
    members = torch.from_numpy(np.flatnonzero(face_mask(target)))
    surface = _numpy(source.template)
    faces = _outer_faces(source)
    normals = vertex_normals(surface, faces)
    own_faces = _outer_faces(target)
    area = vertex_areas(_numpy(target.template), own_faces)[members]
    importance = area / area.sum()

    template, basis = _numpy(target.template), _numpy(target.shape_basis)
    marks = _landmark_rows(target, template, basis)
    goal = _numpy(source.landmarks3d(source.template, "68"))[_INNER]

    def project(shape: Float[ndarray, "k"], pose: Pose) -> _Projection:
        scale, rotation, offset = pose
        placed = scale * (template + basis @ shape) @ rotation.T + offset
        hit = closest_points(placed[members], surface, faces)
        normal = _normals_at(hit, faces, normals)
        gap = ((hit.position - placed[members]) * normal).sum(1)
        agree = (vertex_normals(placed, own_faces)[members] * normal).sum(1) > 0.5
        return _Projection(placed[members], hit, normal, gap, agree & (np.abs(gap) < 0.02))

    shape = np.zeros(basis.shape[-1])
    pose = similarity(marks[0], goal)
    found = project(shape, pose)
    for trust in _TRUSTS:
        scale, rotation, offset = pose
        good = found.good
        shape = _bend(
            shape,
            basis[members][good],
            (found.normal @ rotation)[good],
            found.gap[good] / scale,
            importance[good],
            marks,
            (goal - offset) @ rotation / scale,
            trust,
        )
        pose = similarity((template + basis @ shape)[members][good], found.hit.position[good], importance[good])
        found = project(shape, pose)
    keep = found.good & (np.linalg.norm(found.hit.position - found.placed, axis=1) < 0.006)
    return Correspondence(
        members[torch.from_numpy(keep)],
        torch.from_numpy(faces[found.hit.face[keep]]),
        torch.from_numpy(found.hit.weights[keep]),
        torch.from_numpy(importance[keep] / importance[keep].sum()),
    )


@dataclass(frozen=True)
class _Projection:
    """The target's face, laid on the source's surface."""

    placed: Float[ndarray, "n 3"]
    hit: SurfacePoints
    normal: Float[ndarray, "n 3"]  #: of the source there
    gap: Float[ndarray, "n"]  #: along that normal, metres
    good: Bool[ndarray, "n"]  #: near, and facing the same way


def _bend(
    shape: Float[ndarray, "k"],
    basis: Float[ndarray, "n 3 k"],
    normal: Float[ndarray, "n 3"],
    gap: Float[ndarray, "n"],
    importance: Float[ndarray, "n"],
    marks: tuple[Float[ndarray, "m 3"], Float[ndarray, "m 3 k"]],
    goal: Float[ndarray, "m 3"],
    trust: float,
) -> Float[ndarray, "k"]:
    """One Gauss-Newton step of β: vertices move along the surface normal, landmarks to their goals, |β| stays small."""
    weight = np.sqrt(importance * _EVIDENCE) / trust
    rows = np.einsum("nc,nck->nk", normal, basis)
    right = weight * (gap + rows @ shape)
    rows = weight[:, None] * rows
    mark_weight = np.sqrt(_LANDMARK * _EVIDENCE) / (2 * trust)
    mark_rows = mark_weight * marks[1].reshape(-1, len(shape))
    mark_right = mark_weight * (goal - marks[0]).ravel()
    matrix = rows.T @ rows + mark_rows.T @ mark_rows + np.eye(len(shape))
    return np.linalg.solve(matrix, rows.T @ right + mark_rows.T @ mark_right)


def face_mask(model: HeadModel) -> Bool[ndarray, "verts"]:
    """The model's own face region; where it has none, the skin within 3 cm of the inner landmarks."""
    if "face" in model.regions:
        return model.regions["face"].cpu().numpy()
    template = _numpy(model.template)
    marks = _numpy(model.landmarks3d(model.template, "68"))
    eyes = model.regions["eyes"].cpu().numpy() if "eyes" in model.regions else np.zeros(len(template), bool)
    distance = np.linalg.norm(template[:, None] - marks[None], axis=-1).min(1)
    width = np.linalg.norm(marks[45] - marks[36])  # outer eye corners, about 9 cm
    return (distance < width / 3) & ~eyes


def similarity(
    points: Float[ndarray, "n 3"], goals: Float[ndarray, "n 3"], weights: Float[ndarray, "n"] | None = None
) -> Pose:
    """Scale, rotation and offset with goal ≈ scale · rotation · point + offset (Umeyama 1991)."""
    w = np.full(len(points), 1 / len(points)) if weights is None else weights / weights.sum()
    a, b = w @ points, w @ goals
    u, d, vt = np.linalg.svd((goals - b).T @ ((points - a) * w[:, None]))
    sign = np.array([1, 1, np.sign(np.linalg.det(u @ vt))])
    rotation = u @ np.diag(sign) @ vt
    scale = float((d * sign).sum() / (w @ ((points - a) ** 2).sum(1)))
    return scale, rotation, b - scale * rotation @ a


def vertex_normals(vertices: Float[ndarray, "verts 3"], faces: Int[ndarray, "faces 3"]) -> Float[ndarray, "verts 3"]:
    """Area-weighted unit normals."""
    a, b, c = (vertices[faces[:, i]] for i in range(3))
    cross = np.cross(b - a, c - a)
    out = np.zeros_like(vertices)
    for i in range(3):
        np.add.at(out, faces[:, i], cross)
    return out / np.maximum(np.linalg.norm(out, axis=1, keepdims=True), 1e-20)


def _landmark_rows(
    model: HeadModel, template: Float[ndarray, "verts 3"], basis: Float[ndarray, "verts 3 k"]
) -> tuple[Float[ndarray, "m 3"], Float[ndarray, "m 3 k"]]:
    """The inner landmarks as a linear function of β."""
    embedding = model.landmarks["68"]
    corners = _numpy(model.faces)[_numpy(embedding.faces)[_INNER]]
    weights = _numpy(embedding.weights)[_INNER]
    return np.einsum("mi,mic->mc", weights, template[corners]), np.einsum("mi,mick->mck", weights, basis[corners])


def _normals_at(
    hit: SurfacePoints, faces: Int[ndarray, "faces 3"], normals: Float[ndarray, "verts 3"]
) -> Float[ndarray, "n 3"]:
    normal = (normals[faces[hit.face]] * hit.weights[..., None]).sum(1)
    return normal / np.maximum(np.linalg.norm(normal, axis=1, keepdims=True), 1e-20)


def _outer_faces(model: HeadModel) -> Int[ndarray, "faces 3"]:
    """Faces of the skin: no eyes, teeth or mouth."""
    faces = model.faces.cpu().numpy()
    if model.face_parts is None or "skin" not in model.part_names:
        return faces
    return faces[model.face_parts.cpu().numpy() == model.part_names.index("skin")]


def _numpy(x: Tensor) -> ndarray:
    array = x.detach().cpu().numpy()
    return array.astype(np.float64) if array.dtype.kind == "f" else array
