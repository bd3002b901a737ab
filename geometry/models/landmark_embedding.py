"""Find MediaPipe's 478 points on a head model by looking at it.

The mean head is rendered from a fan of views in its mean colours (irises, lips and brows help the network);
every detected point is lifted to the surface under its pixel; the lifted points of all views are averaged, each
weighted by how squarely its view sees it, made symmetric, and put back onto the surface. The mouth is held open
meanwhile, because the upper and lower lip of a closed one lie on top of each other.
"""

import math
from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from ..camera import Camera
from ..code import HeadCode
from ..errors import HeadlabError
from ..landmarks.face_landmarks import LandmarkDetector
from ..landmarks.mesh478 import INNER_LIPS, IRISES, LEFT_EYE, LEFT_IRIS, MIRROR, OUTER_LIPS, RIGHT_EYE, RIGHT_IRIS
from ..raster import interpolate, rasterize, sample_texture, vertex_normals
from ..rodrigues import rotvec_to_rotmat
from ..texture.default_albedo import default_albedo
from .head_model import HeadModel, LandmarkEmbedding

POINTS = 478
_YAWS = (-40.0, -20.0, 0.0, 20.0, 40.0)
_PITCHES = (-12.0, 0.0, 12.0)
_SIZE = 448
_DISTANCE = 1.0  # metres


def open_mouth(model: HeadModel) -> HeadCode:
    """The mean head with its lips apart."""
    code = model.neutral()
    if "jawOpen" in model.expression_names:
        expression = code.expression.clone()
        expression[model.expression_names.index("jawOpen")] = 0.35
        return code.with_(expression=expression)
    return code.with_(jaw=code.jaw.new_tensor([0.12, 0.0, 0.0]))


def embed_landmarks(model: HeadModel, detector: LandmarkDetector) -> LandmarkEmbedding:
    """The 478 points as faces and barycentric weights.

    Args:
        model: needs texture coordinates, the regions face, lips, eyelids and eyes, and near left-right symmetry.
        detector: MediaPipe.

    Raises:
        HeadlabError: the network recognises the head in too few views.
    """
    vertices = model.vertices(open_mouth(model))
    texture = default_albedo(model, size=512).mean
    total = torch.zeros(POINTS, 3)
    weight = torch.zeros(POINTS, 1)
    for yaw in _YAWS:
        for pitch in _PITCHES:
            view = _view(vertices, yaw, pitch)
            image, positions, seen = _render(model, vertices, texture, view)
            faces = detector.detect(image)
            if faces:
                lifted, squareness = _lift(faces[0].points, positions, seen)
                squareness = squareness * _towards_camera(view)
                total += lifted * squareness
                weight += squareness
    if (weight < 0.3).sum() > 10:
        raise HeadlabError(
            f"the landmark network does not recognise the mean head of {model.name}; its template or regions look wrong"
        )
    mean = total / weight.clamp(min=1e-6)
    flipped = mean[list(MIRROR)] * mean.new_tensor([-1.0, 1.0, 1.0])
    return _onto_surface(model, vertices, (mean + flipped) / 2)


def _view(vertices: Float[Tensor, "verts 3"], yaw: float, pitch: float) -> Camera:
    """A camera turned about the head by yaw and pitch, degrees."""
    turn = rotvec_to_rotmat(torch.tensor([math.radians(pitch), 0.0, 0.0])) @ rotvec_to_rotmat(
        torch.tensor([0.0, math.radians(yaw), 0.0])
    )
    centre = (vertices.amin(0) + vertices.amax(0)) / 2
    extent = float((vertices.amax(0) - vertices.amin(0)).max())
    camera = Camera.frontal(0.85 * _SIZE * _DISTANCE / extent, (_SIZE, _SIZE))
    rotation = camera.R @ turn
    return Camera(camera.K, rotation, -rotation @ centre + torch.tensor([0.0, 0.0, _DISTANCE]), camera.size)


def _render(
    model: HeadModel, vertices: Float[Tensor, "verts 3"], texture: Float[Tensor, "3 rows columns"], camera: Camera
) -> tuple[Float[Tensor, "3 height width"], Float[Tensor, "height width 4"], Float[Tensor, "height width"]]:
    """Image, surface position and group (see `_groups`) per pixel, and how squarely each pixel is seen (0 outside)."""
    raster = rasterize(camera.to_homogeneous(vertices)[None], model.faces, camera.size)
    attributes = torch.cat([vertices, vertex_normals(vertices, model.faces)], 1)
    position, normal = interpolate(raster, attributes[None], model.faces)[0].split(3, -1)
    assert model.uvs is not None and model.uv_faces is not None
    colour = sample_texture(texture[None], interpolate(raster, model.uvs[None], model.uv_faces))[0]
    normal = torch.nn.functional.normalize(normal, dim=-1)
    towards = torch.nn.functional.normalize(-camera.R.mT @ camera.t - position, dim=-1)
    facing = (normal * towards).sum(-1).clamp(0, 1)
    covered = raster.mask[0]
    group = torch.where(covered, _groups(model)[raster.face[0].clamp(min=0).long()], -1)
    light = 0.45 + 0.55 * (normal @ torch.tensor([0.25, 0.4, 0.88])).clamp(min=0)
    image = torch.where(covered[..., None], colour * light[..., None], torch.tensor(0.85)).clamp(0, 1)
    lifted = torch.cat([position, group[..., None].float()], -1)
    return image.permute(2, 0, 1).contiguous(), lifted, torch.where(covered, facing, 0.0)


def _groups(model: HeadModel) -> Int[Tensor, "faces"]:
    """0 skin, 1 eyeballs, 2 inside of the mouth."""
    group = torch.zeros(len(model.faces), dtype=torch.long)
    corners = model.faces
    group[model.regions["eyes"][corners].all(1)] = 1
    for name in ("mouth", "teeth", "tongue"):
        if name in model.regions:
            group[model.regions[name][corners].any(1)] = 2
    return group


def _towards_camera(view: Camera) -> Float[Tensor, "478 1"]:
    """0 for points of the averted half of a turned face, whose outline the network puts on the visible edge; else 1."""
    place = torch.arange(POINTS)
    side = torch.sign(torch.tensor(MIRROR) - place)  # right-hand points have the smaller number of a pair: +1
    centre = -view.R.mT @ view.t
    averted = side * torch.sign(centre[0]) * (centre[0].abs() > 0.05 * centre.norm())
    return (averted <= 0).float()[:, None]


def _wanted_groups() -> Int[Tensor, "478"]:
    wanted = torch.zeros(POINTS, dtype=torch.long)
    wanted[list(IRISES)] = 1
    return wanted


def _lift(
    points: Float[Tensor, "478 2"], positions: Float[Tensor, "height width 4"], facing: Float[Tensor, "height width"]
) -> tuple[Float[Tensor, "478 3"], Float[Tensor, "478 1"]]:
    """The surface under each point, within two pixels, of the group it must lie on; weight 0 where there is none."""
    height, width = facing.shape
    wanted = _wanted_groups()
    best = torch.full((POINTS,), math.inf)
    lifted = torch.zeros(POINTS, 3)
    squareness = torch.zeros(POINTS)
    for dy in range(-2, 3):
        for dx in range(-2, 3):
            x = (points[:, 0] + dx).long().clamp(0, width - 1)
            y = (points[:, 1] + dy).long().clamp(0, height - 1)
            found = positions[y, x]
            good = (found[:, 3] == wanted) & (facing[y, x] > 0.1) & (dx * dx + dy * dy < best)
            best = torch.where(good, float(dx * dx + dy * dy), best)
            lifted = torch.where(good[:, None], found[:, :3], lifted)
            squareness = torch.where(good, facing[y, x] ** 2, squareness)
    return lifted, squareness[:, None]


def _onto_surface(
    model: HeadModel, vertices: Float[Tensor, "verts 3"], points: Float[Tensor, "478 3"]
) -> LandmarkEmbedding:
    """Closest surface points, each on the part of the head it belongs to."""
    groups = _groups(model)
    lips = model.regions["lips"][model.faces].any(1)
    lids = model.regions["eyelids"][model.faces].any(1)
    wanted = _wanted_groups()
    faces = torch.zeros(POINTS, dtype=torch.long)
    weights = torch.zeros(POINTS, 3)
    choices: Sequence[tuple[Bool[Tensor, "faces"], set[int]]] = (
        (lips & (groups == 0), {*INNER_LIPS, *OUTER_LIPS}),
        (lids & (groups == 0), {*LEFT_EYE, *RIGHT_EYE}),
        (groups == 1, {*LEFT_IRIS, *RIGHT_IRIS}),
        (groups == 0, set(range(POINTS))),
    )
    done: set[int] = set()
    for allowed, members in choices:
        rows = sorted(members - done)
        done |= members
        candidates = torch.nonzero(allowed).squeeze(1)
        index, bary = _closest(vertices[model.faces[candidates]], points[rows])
        faces[rows], weights[rows] = candidates[index], bary
    assert (groups[faces] == wanted).all()
    return LandmarkEmbedding(faces, weights)


def _closest(
    triangles: Float[Tensor, "tris 3 3"], points: Float[Tensor, "n 3"]
) -> tuple[Int[Tensor, "n"], Float[Tensor, "n 3"]]:
    """Triangle and barycentric weights of the closest surface point (trimesh's exact test, few candidates)."""
    import trimesh

    corners = triangles.double().numpy()
    mesh = trimesh.Trimesh(corners.reshape(-1, 3), np.arange(corners.size // 3).reshape(-1, 3), process=False)
    found, _, index = trimesh.proximity.closest_point_naive(mesh, points.double().numpy())
    bary = trimesh.triangles.points_to_barycentric(corners[index], found)
    bary = np.clip(bary, 0, None)
    return torch.from_numpy(index), torch.from_numpy(bary / bary.sum(1, keepdims=True)).float()
