"""Cut the head and neck out of MakeHuman's body, and lay out its texture.

Kept: head, neck, eyeballs, teeth, tongue, mouth cavity, eye sockets. The artist's UV islands are kept as they are
cut, but packed anew: in the body's layout the face gets 1 % of the texture. The head island is turned upright and
magnified smoothly around the nose, so that a 1024-pixel texture has about 190 pixels between the pupils.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int
from numpy import ndarray
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components

from .source import MakeHuman

#: Rings of quads kept below the head's UV seam (jaw line and nape): down to the collar, with an even edge.
_NECK_RINGS = 4

PARTS = ("skin", "mouth", "left_eye", "right_eye", "upper_teeth", "lower_teeth", "tongue")
_HELPERS = {
    "helper-l-eye": "left_eye",
    "helper-r-eye": "right_eye",
    "helper-upper-teeth": "upper_teeth",
    "helper-lower-teeth": "lower_teeth",
    "helper-tongue": "tongue",
}
#: Where each island goes in the unit square: left, bottom, width, height. The head takes the top.
_SLOTS = {
    "neck": (0.02, 0.02, 0.50, 0.24),
    "mouth": (0.54, 0.02, 0.20, 0.20),
    "left_socket": (0.75, 0.14, 0.07, 0.09),
    "right_socket": (0.83, 0.14, 0.07, 0.09),
    "left_eye": (0.75, 0.02, 0.10, 0.10),
    "right_eye": (0.87, 0.02, 0.10, 0.10),
    "upper_teeth": (0.91, 0.18, 0.08, 0.03),
    "lower_teeth": (0.91, 0.14, 0.08, 0.03),
    "tongue": (0.93, 0.22, 0.05, 0.07),
}
_HEAD_BOTTOM = 0.30
_NOSE_UV = (0.875, 0.4855)  # centre of the magnification in MakeHuman's layout
_MAGNIFICATION = 1.1


@dataclass(frozen=True)
class HeadCrop:
    """The cut mesh: which of the body's vertices, triangles on them, and the new texture layout."""

    kept: Int[ndarray, "verts"]  #: body vertex per head vertex
    faces: Int[ndarray, "faces 3"]
    uvs: Float[ndarray, "texcoords 2"]
    uv_faces: Int[ndarray, "faces 3"]
    body_uvs: Float[ndarray, "verts 2"]  #: a texture coordinate of each vertex in the body's layout, for masks
    face_parts: Int[ndarray, "faces"]  #: index into PARTS


def crop_head(source: MakeHuman) -> HeadCrop:
    """Cut the head out of the body mesh."""
    mesh = source.mesh
    islands = _uv_islands(mesh.uv_quads, len(mesh.texcoords))[mesh.uv_quads[:, 0]]
    groups = np.array(mesh.groups)
    body = groups == "body"
    names = np.full(len(mesh.quads), "", dtype=object)
    for group, name in _HELPERS.items():
        names[groups == group] = name
    for island in np.unique(islands[body]):
        inside = body & (islands == island)
        names[inside] = _name_island(mesh.vertices[mesh.quads[inside]].reshape(-1, 3))
    rings = _rings_below(mesh.quads[names == "head"], mesh.quads[names == "neck"], len(mesh.vertices))
    names[np.flatnonzero(names == "neck")[rings > _NECK_RINGS]] = ""
    rows = np.flatnonzero(names != "")
    quads, uv_quads, names = mesh.quads[rows], mesh.uv_quads[rows], names[rows]

    kept, local = np.unique(quads, return_inverse=True)
    uv_kept, uv_local = np.unique(uv_quads, return_inverse=True)
    local, uv_local = local.reshape(-1, 4), uv_local.reshape(-1, 4)
    uvs = np.zeros((len(uv_kept), 2))
    for name in np.unique(names):
        members = np.unique(uv_local[names == name])
        uvs[members] = _place(name, mesh.texcoords[uv_kept[members]])
    body_uvs = np.zeros((len(kept), 2))
    body_uvs[local] = mesh.texcoords[uv_kept][uv_local]
    part = {"head": "skin", "neck": "skin", "mouth": "mouth", "left_socket": "skin", "right_socket": "skin"}
    parts = np.array([PARTS.index(part.get(name, name)) for name in names])
    return HeadCrop(kept, _split(local), uvs, _split(uv_local), body_uvs, np.repeat(parts, 2))


def _split(quads: Int[ndarray, "quads 4"]) -> Int[ndarray, "tris 3"]:
    return np.stack([quads[:, [0, 1, 2]], quads[:, [0, 2, 3]]], 1).reshape(-1, 3)


def _rings_below(
    head: Int[ndarray, "n 4"], neck: Int[ndarray, "m 4"], count: int, limit: int = 2 * _NECK_RINGS
) -> Int[ndarray, "m"]:
    """Distance of each neck quad from the head's island, counted in quads; limit + 1 where farther."""
    distance = np.full(count, limit + 1)
    distance[head] = 0
    edges = np.concatenate([neck[:, [i, (i + 1) % 4]] for i in range(4)])
    for _ in range(limit):
        reached = distance[edges].min(1) + 1
        for end in range(2):
            np.minimum.at(distance, edges[:, end], reached)
    return distance[neck].max(1)


def _uv_islands(uv_quads: Int[ndarray, "quads 4"], count: int) -> Int[ndarray, "texcoords"]:
    edges = np.concatenate([uv_quads[:, [i, i + 1]] for i in range(3)])
    graph = coo_matrix((np.ones(len(edges)), edges.T), (count, count))
    return connected_components(graph, directed=False)[1]


def _name_island(points: Float[ndarray, "n 3"]) -> str:
    """Tell the body's UV islands apart by where they lie; "" for hands, feet and the like."""
    low, high = points.min(0), points.max(0)
    if high[1] < 6.0:
        return ""
    if high[1] > 8.0:
        return "head"
    if low[1] < 0:
        return "neck"
    if low[0] > 0.1:
        return "left_socket"
    return "right_socket" if high[0] < -0.1 else "mouth"


def _place(name: str, uv: Float[ndarray, "n 2"]) -> Float[ndarray, "n 2"]:
    """Move an island to its slot; the head island is turned upright and magnified around the nose."""
    if name != "head":
        left, bottom, width, height = _SLOTS[name]
        low, extent = uv.min(0), np.ptp(uv, 0)
        scale = min(width / extent[0], height / extent[1])
        return (uv - low) * scale + (left, bottom)
    upright = np.stack([uv[:, 1] - _NOSE_UV[1], _NOSE_UV[0] - uv[:, 0]], 1)
    radius = np.linalg.norm(upright, axis=1, keepdims=True)
    rim = radius.max()
    magnified = upright * (1 + _MAGNIFICATION) / (1 + _MAGNIFICATION * radius / rim)
    low, extent = magnified.min(0), np.ptp(magnified, 0)
    scale = min(0.98 / extent[0], (0.99 - _HEAD_BOTTOM) / extent[1])
    return (magnified - low) * scale + ((1 - extent[0] * scale) / 2, _HEAD_BOTTOM)


def even_edge(
    template: Float[ndarray, "verts 3"], faces: Int[ndarray, "faces 3"], rounds: int = 40
) -> Float[ndarray, "verts 3"]:
    """Smooth the stairs that quads leave along the lower edge of the neck, by averaging along the edge.

    Only the mean head is changed: its neighbours' offsets still suit a vertex moved by less than a quad.
    """
    edges = np.concatenate([faces[:, [i, (i + 1) % 3]] for i in range(3)])
    _, first, count = np.unique(np.sort(edges, 1), axis=0, return_index=True, return_counts=True)
    border = edges[first[count == 1]]
    graph = coo_matrix((np.ones(len(border)), border.T), (len(template),) * 2)
    loops = connected_components(graph, directed=False)[1]
    members = np.unique(border)
    lowest = members[template[members, 1].argmin()]
    border = border[loops[border[:, 0]] == loops[lowest]]
    out = template.copy()
    for _ in range(rounds):
        total, degree = np.zeros_like(out), np.zeros(len(out))
        for a, b in (border.T, border[:, ::-1].T):
            np.add.at(total, a, out[b])
            np.add.at(degree, a, 1)
        moved = degree > 0
        out[moved] = 0.5 * out[moved] + 0.5 * total[moved] / degree[moved, None]
    return out


def mask_at(path, uvs: Float[ndarray, "n 2"]) -> Bool[ndarray, "n"]:
    """Whether a greyscale mask image in the body's layout is bright at texture coordinates (v up)."""
    from PIL import Image

    with Image.open(path) as image:
        values = np.asarray(image.convert("L"))
    row = np.clip(((1 - uvs[:, 1]) * values.shape[0]).astype(int), 0, values.shape[0] - 1)
    column = np.clip((uvs[:, 0] * values.shape[1]).astype(int), 0, values.shape[1] - 1)
    return values[row, column] > 127
