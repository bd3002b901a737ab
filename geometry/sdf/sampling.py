"""What fields are trained on: points of heads' outer surfaces, about them and far from them, and correspondences.

Any head model serves, watertight or not: its outer surface is what can be seen from outside, so that mouth bags,
eyeballs' backs and teeth behind closed lips do not count. Everything is in the fields' frame and unit (anchors.py).
"""

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor

from ..camera import Camera
from ..code import HeadCode
from ..errors import HeadlabError
from ..files import atomic_path
from ..models.head_model import HeadModel, LandmarkEmbedding
from ..raster import rasterize
from .anchors import FieldFrame, anchor_embedding
from .extract import mesh_normals

#: Standard deviations of the offsets along the normal at which correspondences are drawn, half of them each.
CORRESPONDENCE_SIGMAS = (0.01, 0.002)

#: Standard deviation of points about the surface.
NEAR_SIGMA = 0.01

#: The authors draw the cube of a far point's radius from 0 to this: a ball of radius 0.794.
_FAR_CUBE = 0.5

_VIEW = 768  # pixels

#: Necks are cut here, in the field's frame: within the box that is extracted, and above shoulders.
LOWEST = -0.44

#: Parts of head models that belong to no field's surface, by what their names hold.
_NOT_SURFACE = ("teeth", "tongue", "gums", "lashes")


@dataclass(frozen=True)
class SurfaceSamples:
    """Points of one head's outer surface."""

    face: Float[Tensor, "face 3"]
    face_normals: Float[Tensor, "face 3"]  #: unit, outwards
    rest: Float[Tensor, "rest 3"]
    rest_normals: Float[Tensor, "rest 3"]
    anchors: Float[Tensor, "anchors 3"]


@dataclass(frozen=True)
class Correspondences:
    """Points in and about a neutral head, and where they are in an expression."""

    neutral: Float[Tensor, "points 3"]
    posed: Float[Tensor, "points 3"]


@dataclass(frozen=True)
class HeadSampler:
    """A head model made ready: which triangles are outside, which of them are the face, and the frame."""

    model: HeadModel
    faces: Int[Tensor, "outer 3"]
    on_face: Bool[Tensor, "outer"]
    frame: FieldFrame
    anchors: LandmarkEmbedding

    @classmethod
    def of(cls, model: HeadModel, canonical: HeadCode | None = None) -> "HeadSampler":
        """Look at the mean head from all sides. A second.

        Args:
            canonical: the mean head as the identity field shall show it; as it is where absent. What an open mouth
                shows of teeth, gums and tongue is left out: they do not move with the lips, and lashes are no surface.

        Raises:
            HeadlabError: the model has no region "face" or no 68 landmarks.
        """
        if "face" not in model.regions:
            raise HeadlabError(f"{model.name} has no face region; a field needs to know where to be exact")
        vertices = model.template if canonical is None else model.vertices(canonical)
        solid = torch.ones(len(model.faces), dtype=torch.bool)
        if model.face_parts is not None:
            inner = [i for i, name in enumerate(model.part_names) if any(word in name for word in _NOT_SURFACE)]
            solid = ~torch.isin(model.face_parts, torch.tensor(inner, dtype=model.face_parts.dtype))
        faces = model.faces[solid]
        faces = faces[visible_faces(vertices, faces)]
        frame = FieldFrame.of(model)
        faces = faces[(frame.to_field(vertices)[:, 1] > LOWEST)[faces].any(1)]
        on_face = model.regions["face"][faces].all(1)
        return cls(model, faces, on_face, frame, anchor_embedding(model))

    def surface(self, code: HeadCode, face: int, rest: int, generator: torch.Generator) -> SurfaceSamples:
        """Draw points of one head, uniformly by area.

        Args:
            code: one head, no batch axes.
            face: points on the face.
            rest: points elsewhere.
            generator: for the draws.
        """
        metres = self.model.vertices(code)
        vertices = self.frame.to_field(metres)
        normals = mesh_normals(vertices, self.faces)

        def some(mask: Bool[Tensor, "outer"], count: int) -> tuple[Tensor, Tensor]:
            corners, weights = _draw(vertices, self.faces[mask], count, generator)
            return _at(vertices, corners, weights), F.normalize(_at(normals, corners, weights), dim=-1)

        face_points, face_normals = some(self.on_face, face)
        rest_points, rest_normals = some(~self.on_face, rest)
        anchors = self.frame.to_field(self.model.surface_points(metres, self.anchors))
        return SurfaceSamples(face_points, face_normals, rest_points, rest_normals, anchors)

    def correspondences(
        self, neutral: HeadCode, posed: HeadCode, count: int, generator: torch.Generator
    ) -> Correspondences:
        """Draw points of a neutral head, moved off it along the normal, and the same points of a posed one."""
        start, end = (self.frame.to_field(self.model.vertices(code)) for code in (neutral, posed))
        corners, weights = _draw(start, self.faces, count, generator)
        sigma = torch.tensor(CORRESPONDENCE_SIGMAS)[torch.arange(count) * len(CORRESPONDENCE_SIGMAS) // max(count, 1)]
        offset = (sigma * torch.randn(count, generator=generator)).unsqueeze(-1)
        sides = []
        for vertices in (start, end):
            normal = F.normalize(_at(mesh_normals(vertices, self.faces), corners, weights), dim=-1)
            sides.append(_at(vertices, corners, weights) + offset * normal)
        return Correspondences(*sides)


def near_points(
    surface: Float[Tensor, "*batch points 3"], generator: torch.Generator
) -> Float[Tensor, "*batch points 3"]:
    """Points about given ones of a surface."""
    return surface + NEAR_SIGMA * torch.randn(surface.shape, generator=generator)


def far_points(count: int, generator: torch.Generator) -> Float[Tensor, "points 3"]:
    """Points of the ball of radius 0.794 about the origin, uniformly by volume."""
    direction = F.normalize(torch.randn(count, 3, generator=generator), dim=-1)
    return direction * (_FAR_CUBE * torch.rand(count, 1, generator=generator)) ** (1 / 3)


def visible_faces(vertices: Float[Tensor, "verts 3"], faces: Int[Tensor, "faces 3"]) -> Bool[Tensor, "faces"]:
    """Triangles that some view from outside shows, and those between such (too small for a pixel)."""
    seen = torch.zeros(len(faces), dtype=torch.bool)
    for direction in _directions():
        seen |= seen_from(vertices, faces, direction)
    touched = torch.zeros(len(vertices), dtype=torch.bool)
    touched[faces[seen].flatten()] = True
    return seen | touched[faces].all(1)


def seen_from(
    vertices: Float[Tensor, "verts 3"], faces: Int[Tensor, "faces 3"], direction: Float[Tensor, "3"]
) -> Bool[Tensor, "faces"]:
    """Triangles whose front a far camera shows.

    Args:
        direction: from the head to the camera.
    """
    centre = (vertices.amin(0) + vertices.amax(0)) / 2
    radius = float((vertices - centre).norm(dim=-1).max())
    distance = 5 * radius
    camera = Camera.frontal(0.48 * _VIEW * distance / radius, (_VIEW, _VIEW))
    rotation = _facing(direction)
    moved = (vertices - centre) @ rotation.mT - torch.tensor([0.0, 0.0, distance])
    shown = rasterize(camera.to_homogeneous(moved)[None], faces, camera.size).face
    shown = shown[shown >= 0].unique().long()
    a, b, c = vertices[faces[shown]].unbind(1)
    seen = torch.zeros(len(faces), dtype=torch.bool)
    # Through the open neck one looks at the backs of triangles: they are not outside.
    seen[shown[torch.linalg.cross(b - a, c - a) @ rotation[2] > 0]] = True
    return seen


def _directions() -> list[Float[Tensor, "3"]]:
    """To the 26 faces, edges and corners of a cube."""
    steps = (-1.0, 0.0, 1.0)
    every = [torch.tensor([x, y, z]) for x in steps for y in steps for z in steps]
    return [direction for direction in every if bool(direction.any())]


def _facing(direction: Float[Tensor, "3"]) -> Float[Tensor, "3 3"]:
    """A rotation that brings a direction to the front."""
    front = F.normalize(direction, dim=0)
    up = torch.tensor([0.0, 0.0, 1.0]) if abs(float(front[1])) > 0.9 else torch.tensor([0.0, 1.0, 0.0])
    side = F.normalize(torch.linalg.cross(up, front), dim=0)
    return torch.stack([side, torch.linalg.cross(front, side), front])


def _draw(
    vertices: Float[Tensor, "verts 3"], triangles: Int[Tensor, "faces 3"], count: int, generator: torch.Generator
) -> tuple[Int[Tensor, "points 3"], Float[Tensor, "points 3"]]:
    """Corners and weights of points, uniformly by area above the cut through the neck."""
    a, b, c = vertices[triangles].unbind(1)
    area = torch.linalg.cross(b - a, c - a).norm(dim=-1)
    area = torch.where(vertices[triangles][..., 1].amax(1) > LOWEST, area, 0.0)
    corners, weights = [], []
    missing = count
    while missing > 0:
        which = torch.multinomial(area, missing + missing // 4 + 8, replacement=True, generator=generator)
        u, v = torch.rand(2, len(which), generator=generator)
        root = u.sqrt()
        share = torch.stack([1 - root, root * (1 - v), root * v], -1)
        above = _at(vertices, triangles[which], share)[:, 1] > LOWEST
        corners.append(triangles[which][above][:missing])
        weights.append(share[above][:missing])
        missing -= len(corners[-1])
    return torch.cat(corners), torch.cat(weights)


def _at(
    values: Float[Tensor, "verts 3"], corners: Int[Tensor, "points 3"], weights: Float[Tensor, "points 3"]
) -> Float[Tensor, "points 3"]:
    return (values[corners] * weights.unsqueeze(-1)).sum(1)


def cached(folder: Path, recipe: Mapping[str, Any], make: Callable[[], SurfaceSamples]) -> SurfaceSamples:
    """Samples from the cache, or made and put there.

    Args:
        folder: made if need be.
        recipe: all that the samples depend on, as JSON knows it; its hash is the file's name.
        make: called if they are not there.

    Raises:
        HeadlabError: the file is damaged, or the folder cannot be written.
    """
    text = json.dumps(recipe, sort_keys=True)
    path = folder / f"{hashlib.sha256(text.encode()).hexdigest()[:24]}.npz"
    names = [field.name for field in fields(SurfaceSamples)]
    if path.is_file():
        try:
            with np.load(path, allow_pickle=False) as file:
                return SurfaceSamples(*(torch.from_numpy(file[name]) for name in names))
        except (OSError, ValueError, KeyError, EOFError) as error:
            raise HeadlabError(f"{path} is damaged ({error}); delete it and it is made again") from error
    samples = make()
    folder.mkdir(parents=True, exist_ok=True)
    with atomic_path(path) as temporary:
        np.savez(temporary, **{name: getattr(samples, name).numpy() for name in names})
    return samples
