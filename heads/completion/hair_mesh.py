"""Hair as a mesh on one head: a cap lifted off the scalp, sheets that hang from it, a knot. Unposed, metres.

Everything is measured in the head's own frame: centre between the ears and size by the outer eye corners, both from
the 68 landmarks, so that any model with landmarks can wear it.
"""

import math
from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import Float, Int
from numpy import ndarray
from scipy.spatial import KDTree

from ...datasets.synthetic.extras import HairField
from ...geometry.errors import HeadlabError
from ...geometry.fitting.scan import outer_skin
from ...geometry.models.correspondence import vertex_normals
from ...geometry.models.head_model import HeadModel
from .hair_styles import HairStyle

_EYES = 0.0937  # distance of outer eye corners that styles are measured on, metres
_CENTRE = np.array([0.0, -0.001, -0.0827])  # from the middle between those corners, on such a head
_ORIGIN = np.array([0.0, 0.02, 0.0])  # where `HairField` expects that centre


@dataclass(frozen=True)
class HairMesh:
    """Triangles with texture coordinates 0..1 (u around the head, v along the hair)."""

    vertices: Float[ndarray, "n 3"]
    faces: Int[ndarray, "faces 3"]
    uvs: Float[ndarray, "n 2"]


@dataclass(frozen=True)
class HeadShape:
    """One head's skin in its own frame."""

    vertices: Float[ndarray, "verts 3"]
    faces: Int[ndarray, "faces 3"]  #: of the outer skin
    centre: Float[ndarray, "3"]
    scale: float  #: its size against the head that styles are measured on
    tree: KDTree  #: of directions from the centre
    radius: Float[ndarray, "skin"]  #: from the centre, of the same points

    @classmethod
    def of(cls, model: HeadModel, vertices: Float[ndarray, "verts 3"]) -> "HeadShape":
        """Raises:
        HeadlabError: the model has no landmarks.
        """
        if "68" not in model.landmarks:
            raise HeadlabError(f"{model.name} has no 68 landmarks to place hair by; add its landmark file")
        marks = model.landmarks3d(torch.from_numpy(vertices).float()).double().numpy()
        scale = float(np.linalg.norm(marks[36] - marks[45])) / _EYES
        centre = (marks[36] + marks[45]) / 2 + scale * _CENTRE
        skin, faces = outer_skin(model)
        if "ears" in model.regions:
            skin = skin & ~model.regions["ears"].numpy()
        offset = vertices[skin] - centre
        radius = np.linalg.norm(offset, axis=1)
        return cls(vertices, faces, centre, scale, KDTree(offset / radius[:, None]), radius)

    def surface(self, azimuth: Float[ndarray, "*#n"], elevation: Float[ndarray, "*#n"]) -> Float[ndarray, "*n 3"]:
        """The skin in a direction: azimuth 0 is the front, positive to the subject's left; radians."""
        way = directions(azimuth, elevation)
        distance, index = self.tree.query(way.reshape(-1, 3), k=6)
        weight = 1 / (distance + 0.02) ** 2
        radius = (self.radius[index] * weight).sum(1) / weight.sum(1)
        return self.centre + way * radius.reshape(*way.shape[:-1], 1)


def directions(azimuth: Float[ndarray, "*#n"], elevation: Float[ndarray, "*#n"]) -> Float[ndarray, "*n 3"]:
    """Unit vectors."""
    azimuth, elevation = np.broadcast_arrays(azimuth, elevation)
    cos = np.cos(elevation)
    return np.stack([np.sin(azimuth) * cos, np.sin(elevation), np.cos(azimuth) * cos], -1)


def hair_mesh(model: HeadModel, vertices: Float[ndarray, "verts 3"], style: HairStyle) -> HairMesh:
    """Hair of a style on a head.

    Args:
        model: with 68 landmarks.
        vertices: of one unposed, expressionless head of the model, metres.
        style: see `HairStyle`.
    """
    shape = HeadShape.of(model, vertices)
    parts = [_cap(model, shape, style)]
    if style.length > 0:
        parts.append(_curtain(shape, style))
    if style.fringe > 0:
        parts.append(_fringe(shape, style))
    if style.bun > 0:
        parts.append(_bun(shape, style))
    counts = np.cumsum([0, *(len(part.vertices) for part in parts)])
    faces = [part.faces + start for part, start in zip(parts, counts, strict=False)]
    whole = np.concatenate([part.vertices for part in parts])
    if style.curl > 0:
        whole = whole + style.curl * shape.scale * _curls((whole - shape.centre) / shape.scale)
    return HairMesh(whole, np.concatenate(faces), np.concatenate([part.uvs for part in parts]))


def growth(model: HeadModel, shape: HeadShape, hairline: float) -> Float[ndarray, "verts"]:
    """0..1 per vertex: where hair grows."""
    placed = (shape.vertices - shape.centre) / shape.scale + _ORIGIN
    skin = np.zeros(len(placed), np.float32)
    skin[shape.faces] = 1
    own = replace(model, template=torch.from_numpy(placed).float())
    mask = HairField.of(own, torch.from_numpy(skin)).mask(torch.tensor([hairline]))[0]
    return mask.double().numpy()


def _cap(model: HeadModel, shape: HeadShape, style: HairStyle) -> HairMesh:
    """The scalp's faces, lifted; at the rim the cap dips into the skin."""
    mask = growth(model, shape, style.hairline)
    faces = shape.faces[(mask[shape.faces] > 0.05).any(1)]
    if not len(faces):
        raise HeadlabError(f"no hair grows on {model.name} with a hairline of {style.hairline:g}; lower it")
    used, faces = np.unique(faces, return_inverse=True)
    faces = faces.reshape(-1, 3)
    normals = vertex_normals(shape.vertices, shape.faces)[used]
    values = np.concatenate([shape.vertices[used], normals, mask[used, None]], 1)
    for _ in range(2):
        values, faces = subdivided(values, faces)
    points, mask = values[:, :3], values[:, 6]
    outwards = points - shape.centre
    outwards = outwards / np.linalg.norm(outwards, axis=1, keepdims=True)
    outwards = outwards + values[:, 3:6] / np.maximum(np.linalg.norm(values[:, 3:6], axis=1, keepdims=True), 1e-9)
    outwards /= np.linalg.norm(outwards, axis=1, keepdims=True)
    full = np.clip((mask - 0.1) / 0.75, 0, 1)
    full = np.sqrt(full * full * (3 - 2 * full))
    crown = np.clip(outwards[:, 1], 0, 1) ** 2
    lift = (style.thickness + style.top * crown) * full - 0.002 * (1 - full)
    offset = (points - shape.centre) / shape.scale
    azimuth, elevation = np.arctan2(offset[:, 0], offset[:, 2]), np.arctan2(offset[:, 1], np.hypot(*offset[:, ::2].T))
    lift = lift * (1 + 0.04 * np.sin(60 * azimuth + 3 * np.sin(5 * elevation)) * full)
    points = points + shape.scale * lift[:, None] * outwards
    points = _smoothed(points, faces, full > 0.3)
    return HairMesh(points, faces, np.stack([azimuth / (2 * np.pi) + 0.5, np.clip(1 - elevation / 1.6, 0, 1)], 1))


def _curtain(shape: HeadShape, style: HairStyle) -> HairMesh:
    """What falls from under the cap at the sides and back."""
    azimuth = np.linspace(style.opening, 2 * math.pi - style.opening, 121)[None]
    down = np.linspace(0, 1, 25)[:, None]
    turn = np.broadcast_to(azimuth, (len(down), azimuth.shape[1]))
    start = 0.55  # radians above the ears' level
    begun = np.clip(down / 0.3, 0, 1)
    on_head = shape.surface(turn, start * (1 - begun)) - shape.centre
    reach = np.hypot(on_head[..., 0], on_head[..., 2]) + shape.scale * style.thickness * 0.95
    widest = np.maximum.accumulate(reach, axis=0)
    edge = np.minimum(1, (azimuth - style.opening) / 0.25) * np.minimum(
        1, (2 * math.pi - style.opening - azimuth) / 0.25
    )
    widest = widest * (0.97 + 0.03 * edge) * (1 + style.flare * down**2)
    widest = widest + shape.scale * 0.0012 * np.sin(70 * turn + 2 * down)
    first = on_head[0, :, 1] + 0.004 * shape.scale
    ragged = 1 - 0.03 * np.abs(np.sin(23 * turn + np.sin(7 * turn))) * down
    height = first - down * ragged * (style.length + 0.05) * shape.scale
    place = np.stack([widest * np.sin(turn), height, widest * np.cos(turn)], -1) + shape.centre
    return _sheet(place, turn / (2 * np.pi) % 1, np.broadcast_to(down, turn.shape))


def _fringe(shape: HeadShape, style: HairStyle) -> HairMesh:
    """Hair that hangs over the forehead."""
    azimuth = np.linspace(-0.95, 0.95, 61)[None]
    down = np.linspace(0, 1, 13)[:, None]
    turn = np.broadcast_to(azimuth, (len(down), azimuth.shape[1]))
    begin, fall = style.hairline + 0.25, 0.25 + style.fringe / 0.1
    ragged = 1 - 0.06 * np.abs(np.sin(19 * turn + np.sin(8 * turn))) - 0.25 * (azimuth / 0.95) ** 4
    elevation = begin - down * fall * ragged
    surface = shape.surface(turn, elevation)
    way = directions(turn, elevation)
    lift = style.thickness * (1 - 0.6 * down) * np.clip(1.02 - (azimuth / 0.95) ** 6, 0, 1) + 0.003
    place = surface + shape.scale * (lift + 0.0008 * np.sin(80 * turn))[..., None] * way
    return _sheet(place, turn / (2 * np.pi) + 0.5, 0.2 + 0.6 * np.broadcast_to(down, turn.shape))


def _bun(shape: HeadShape, style: HairStyle) -> HairMesh:
    middle = shape.surface(np.array([math.pi]), np.array([0.55]))[0]
    way = directions(np.array([math.pi]), np.array([0.55]))[0]
    radius = style.bun * shape.scale
    centre = middle + way * (0.65 * radius + style.thickness * shape.scale)
    around = np.linspace(0, 2 * math.pi, 41)[None]
    fall = np.linspace(-math.pi / 2, math.pi / 2, 21)[:, None]
    turn, up = np.broadcast_arrays(around, fall)
    swirl = 1 + 0.03 * np.sin(9 * turn + 6 * up)
    place = centre + radius * swirl[..., None] * directions(turn, up)
    return _sheet(place, turn / (2 * np.pi), up / np.pi + 0.5)


def _sheet(place: Float[ndarray, "rows columns 3"], u: ndarray, v: ndarray) -> HairMesh:
    rows, columns = place.shape[:2]
    cell = (np.arange(rows - 1)[:, None] * columns + np.arange(columns - 1)).reshape(-1)
    faces = np.concatenate(
        [np.stack([cell, cell + columns, cell + 1], 1), np.stack([cell + 1, cell + columns, cell + columns + 1], 1)]
    )
    uvs = np.stack([np.broadcast_to(u, (rows, columns)).ravel(), np.broadcast_to(v, (rows, columns)).ravel()], 1)
    return HairMesh(place.reshape(-1, 3), faces, np.clip(uvs, 0, 1))


def subdivided(
    values: Float[ndarray, "n k"], faces: Int[ndarray, "faces 3"]
) -> tuple[Float[ndarray, "m k"], Int[ndarray, "four 3"]]:
    """Each triangle into four; values of edge points are means."""
    edges = np.sort(np.concatenate([faces[:, [0, 1]], faces[:, [1, 2]], faces[:, [2, 0]]]), axis=1)
    unique, index = np.unique(edges, axis=0, return_inverse=True)
    ab, bc, ca = (index.reshape(-1) + len(values)).reshape(3, -1)
    a, b, c = faces.T
    four = [np.stack(t, 1) for t in ((a, ab, ca), (ab, b, bc), (ca, bc, c), (ab, bc, ca))]
    return np.concatenate([values, values[unique].mean(1)]), np.concatenate(four)


def _smoothed(
    points: Float[ndarray, "n 3"], faces: Int[ndarray, "faces 3"], free: ndarray, rounds: int = 6
) -> Float[ndarray, "n 3"]:
    """Neighbours averaged, where free: hair has none of the skull's bumps."""
    from scipy.sparse import coo_matrix

    edges = np.concatenate([faces[:, [0, 1]], faces[:, [1, 2]], faces[:, [2, 0]]])
    pairs = np.unique(np.concatenate([edges, edges[:, ::-1]]), axis=0)
    matrix = coo_matrix((np.ones(len(pairs)), (pairs[:, 0], pairs[:, 1])), (len(points),) * 2).tocsr()
    count = np.maximum(np.asarray(matrix.sum(1)), 1)
    for _ in range(rounds):
        points = np.where(free[:, None], 0.5 * points + 0.5 * (matrix @ points) / count, points)
    return points


def _curls(x: Float[ndarray, "n 3"]) -> Float[ndarray, "n 3"]:
    """A smooth pseudo-random field of unit size: sums of waves in fixed directions."""
    rng = np.random.default_rng(7)
    out = np.zeros_like(x)
    for _ in range(10):
        wave, phase, way = rng.normal(0, 220, 3), rng.uniform(0, 6.3), rng.normal(0, 1, 3)
        out += np.sin(x @ wave + phase)[:, None] * way / 10**0.5 / 1.7
    return out
