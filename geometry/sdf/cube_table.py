"""Marching cubes' table, worked out rather than listed: which triangles cut a cube, for each pattern of corner signs.

Corner c lies at (c & 1, c >> 1 & 1, c >> 2). On every face of the cube the surface runs from the edge where the walk
around it (counter-clockwise from outside) leaves the inside to the edge where that stretch of inside began. So on an
ambiguous face, with two opposite corners inside, each inside corner is cut off by itself; both cubes at a face decide
alike, and the surface closes (the asymptotic decider's cracks do not arise; Lorensen and Cline 1987, Montani et al.
1994). The segments join into loops, each of which is cut into a fan.
"""

from functools import cache

import torch
from jaxtyping import Int
from torch import Tensor

#: The 12 edges: lower corner, upper corner, and the axis they run along.
EDGES = tuple((c, c | 1 << axis, axis) for axis in range(3) for c in range(8) if not c >> axis & 1)

_EDGE_OF = {frozenset(edge[:2]): number for number, edge in enumerate(EDGES)}


@cache
def triangle_table() -> Int[Tensor, "256 triangles 3"]:
    """Edges of the triangles for each pattern (bit c: corner c inside); -1 fills the rows. Normals point outwards."""
    found = [_triangles(pattern) for pattern in range(256)]
    most = max(map(len, found))
    return torch.tensor([triangles + [(-1, -1, -1)] * (most - len(triangles)) for triangles in found])


def _faces() -> list[tuple[int, int, int, int]]:
    """Corners of each face, counter-clockwise seen from outside."""
    out = []
    for axis in range(3):
        u, v = 1 << (axis + 1) % 3, 1 << (axis + 2) % 3
        low = (0, v, u | v, u)  # seen from below
        out.append(low)
        out.append(tuple(corner | 1 << axis for corner in reversed(low)))
    return out


def _triangles(pattern: int) -> list[tuple[int, int, int]]:
    following: dict[int, int] = {}
    on_faces: dict[int, set[int]] = {}
    for number, face in enumerate(_faces()):
        inside = [bool(pattern >> corner & 1) for corner in face]
        for i in range(4):
            edge = _EDGE_OF[frozenset((face[i], face[(i + 1) % 4]))]
            on_faces.setdefault(edge, set()).add(number)
            if not (inside[i] and not inside[(i + 1) % 4]):
                continue
            first = i
            while inside[first - 1]:
                first -= 1
            following[edge] = _EDGE_OF[frozenset((face[first - 1], face[first]))]
    triangles = []
    while following:
        edge = next(iter(following))
        loop = []
        while edge in following:
            loop.append(edge)
            edge = following.pop(edge)
        triangles += _fan(loop, on_faces)
    return triangles


def _fan(loop: list[int], on_faces: dict[int, set[int]]) -> list[tuple[int, int, int]]:
    """Cut a loop into triangles, from the corner whose diagonals lie in no face (another cube may draw them, too)."""

    def in_faces(start: int) -> int:
        turned = loop[start:] + loop[:start]
        return sum(bool(on_faces[turned[0]] & on_faces[other]) for other in turned[2:-1])

    start = min(range(len(loop)), key=in_faces)
    turned = loop[start:] + loop[:start]
    return [(turned[0], turned[i + 1], turned[i]) for i in range(1, len(turned) - 1)]
