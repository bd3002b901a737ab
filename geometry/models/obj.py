"""Reading Wavefront OBJ: positions, texture coordinates, polygons, materials. Made for large blend-shape folders."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float, Int

from ..errors import HeadlabError


@dataclass(frozen=True)
class ObjMesh:
    """An OBJ file as arrays. Polygons are padded with -1; `uv_polygons` is empty where the file has no coordinates."""

    vertices: Float[np.ndarray, "verts 3"]
    uvs: Float[np.ndarray, "texcoords 2"]  #: v up
    polygons: Int[np.ndarray, "polygons corners"]
    uv_polygons: Int[np.ndarray, "uv_polygons corners"]
    materials: tuple[str, ...]  #: material of each polygon; "" where none is set


def read_obj(path: Path) -> ObjMesh:
    """Read a mesh.

    Raises:
        HeadlabError: the file is missing or no OBJ.
    """
    corners: list[list[list[str]]] = []
    materials: list[str] = []
    material = ""
    lines = _lines(path)
    try:
        for line in lines:
            if line.startswith("f "):
                corners.append([corner.split("/") for corner in line.split()[1:]])
                materials.append(material)
            elif line.startswith("usemtl"):
                material = line.partition(" ")[2].strip()
        vertices, uvs = _numbers(lines, "v ", 3), _numbers(lines, "vt ", 2)
        polygons = _padded(corners, 0, len(vertices))
        has_uvs = bool(corners) and all(len(corner) > 1 and corner[1] for polygon in corners for corner in polygon)
        uv_polygons = _padded(corners, 1, len(uvs)) if has_uvs else np.empty((0, polygons.shape[1]), np.int64)
    except (ValueError, IndexError) as error:
        raise HeadlabError(f"{path} is no OBJ mesh or a damaged one ({error}); get it again") from error
    if not len(vertices):
        raise HeadlabError(f"{path} is no OBJ mesh: it has no vertices")
    return ObjMesh(vertices, uvs, polygons, uv_polygons, tuple(materials))


def read_obj_vertices(path: Path) -> Float[np.ndarray, "verts 3"]:
    """Only the positions: what a blend shape adds to a mesh already read.

    Raises:
        HeadlabError: the file is missing or no OBJ.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise HeadlabError(f"{path} cannot be read ({error.strerror}); give the path of an existing OBJ") from error
    rows = [line[2:] for line in data.split(b"\n") if line.startswith(b"v ")]
    try:
        numbers = np.array(b" ".join(rows).split(), np.float64).reshape(len(rows), -1)
    except ValueError as error:
        raise HeadlabError(f"{path} is no OBJ mesh or a damaged one ({error}); get it again") from error
    if not len(rows) or numbers.shape[1] < 3:
        raise HeadlabError(f"{path} is no OBJ mesh: it has no vertices")
    return numbers[:, :3]


def fan(polygons: Int[np.ndarray, "polygons corners"]) -> tuple[Int[np.ndarray, "tris 3"], Int[np.ndarray, "tris"]]:
    """Triangles of padded polygons, fanned from the first corner; and the polygon each comes from."""
    rows, sources = [], []
    for i in range(1, polygons.shape[1] - 1):
        present = polygons[:, i + 1] >= 0
        rows.append(polygons[present][:, [0, i, i + 1]])
        sources.append(np.flatnonzero(present))
    source = np.concatenate(sources)
    order = np.argsort(source, kind="stable")
    return np.concatenate(rows)[order], source[order]


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError as error:
        raise HeadlabError(f"{path} cannot be read ({error.strerror}); give the path of an existing OBJ") from error


def _numbers(lines: list[str], key: str, count: int) -> Float[np.ndarray, "rows count"]:
    rows = [line[len(key) :].split()[:count] for line in lines if line.startswith(key)]
    return np.array(rows, np.float64).reshape(-1, count)


def _padded(corners: list[list[list[str]]], column: int, size: int) -> Int[np.ndarray, "polygons corners"]:
    """Indices from 0, padded with -1. OBJ counts from 1, or backwards from the end with negative numbers."""
    width = max((len(polygon) for polygon in corners), default=3)
    table = np.full((len(corners), width), -1, np.int64)
    for row, polygon in enumerate(corners):
        for i, corner in enumerate(polygon):
            index = int(corner[column])
            index = index - 1 if index > 0 else size + index
            if not 0 <= index < size:
                raise ValueError(f"face {row + 1} names an item that is not there")
            table[row, i] = index
    return table
