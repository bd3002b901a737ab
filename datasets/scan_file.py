"""Scans from files: PLY, OBJ, STL, OFF, GLB meshes and clouds; XYZ and NPY clouds; NPZ with vertices and triangles."""

import zipfile
from pathlib import Path
from typing import Any

import numpy as np
from numpy import ndarray

from ..geometry.errors import HeadlabError
from ..geometry.sdf.scan_points import Scan

#: What trimesh reads for us.
_MESHES = (".ply", ".obj", ".stl", ".off", ".glb")
_TABLES = (".xyz", ".txt", ".npy", ".npz")
SCAN_SUFFIXES = (*_MESHES, *_TABLES)

#: Bytes.
_LARGEST = 4 << 30


def read_scan(path: Path) -> Scan:
    """Read a mesh or a cloud of points.

    Args:
        path: a file; its ending says what it is. Rows of .xyz, .txt and .npy hold x y z, then colours (0..255 or
            0..1) where there are six columns. An .npz holds `points` or `vertices`, and maybe `triangles` or `faces`.

    Raises:
        HeadlabError: it is not there, is of another kind, is damaged, or holds no points.
    """
    suffix = path.suffix.lower()
    if not path.is_file():
        raise HeadlabError(f"{path} is not a file; give a scan ({', '.join(SCAN_SUFFIXES)})")
    if suffix not in SCAN_SUFFIXES:
        raise HeadlabError(f"{path} is no scan that can be read; give one of {', '.join(SCAN_SUFFIXES)}")
    if path.stat().st_size > _LARGEST:
        raise HeadlabError(f"{path} has more than {_LARGEST >> 30} GiB; thin it out first")
    try:
        scan = _read_mesh(path) if suffix in _MESHES else _read_table(path)
    except HeadlabError:
        raise
    # The readers of so many formats fail in as many ways.
    except Exception as error:
        raise HeadlabError(f"{path} cannot be read ({type(error).__name__}: {error}); export it again") from error
    if len(scan.points) == 0:
        raise HeadlabError(f"{path} holds no points; export it again")
    return scan


def _read_mesh(path: Path) -> Scan:
    import trimesh

    loaded: Any = trimesh.load(path, process=False)
    if isinstance(loaded, trimesh.Scene):
        parts = [part for part in loaded.dump() if isinstance(part, trimesh.Trimesh | trimesh.PointCloud)]
        if not parts:
            raise HeadlabError(f"{path} holds no points; export it again")
        meshes = [part for part in parts if isinstance(part, trimesh.Trimesh)]
        loaded = trimesh.util.concatenate(meshes) if meshes else parts[0]
    if isinstance(loaded, trimesh.Trimesh):
        visual: Any = loaded.visual
        colors = visual.vertex_colors if visual.kind == "vertex" else None
        faces = np.asarray(loaded.faces) if len(loaded.faces) else None
        return Scan(np.asarray(loaded.vertices, dtype=np.float64), faces, _colors(colors, len(loaded.vertices)))
    points = np.asarray(loaded.vertices, dtype=np.float64)
    return Scan(points, None, _colors(getattr(loaded, "colors", None), len(points)))


def _read_table(path: Path) -> Scan:
    if path.suffix.lower() == ".npz":
        try:
            # Opened here, since np.load leaves the files open that it cannot read.
            with path.open("rb") as stream, np.load(stream, allow_pickle=False) as file:
                data = {name: file[name] for name in file.files if name in ("points", "vertices", "triangles", "faces")}
        except zipfile.BadZipFile as error:
            raise HeadlabError(f"{path} is damaged; export it again") from error
        points = data.get("points", data.get("vertices"))
        if points is None or points.ndim != 2 or points.shape[1] != 3:
            raise HeadlabError(f"{path} holds no `points` or `vertices` of three columns; add them")
        return Scan(points.astype(np.float64), data.get("triangles", data.get("faces")))
    table = np.load(path, allow_pickle=False) if path.suffix.lower() == ".npy" else np.loadtxt(path, ndmin=2)
    if table.ndim != 2 or table.shape[1] < 3:
        raise HeadlabError(f"{path} has no rows of x y z; export it again")
    return Scan(
        table[:, :3].astype(np.float64), None, _colors(table[:, 3:6] if table.shape[1] >= 6 else None, len(table))
    )


def _colors(values: ndarray | None, count: int) -> ndarray | None:
    if values is None or len(values) != count or count == 0:
        return None
    colors = np.asarray(values, dtype=np.float64)[:, :3]
    return colors / 255 if colors.max() > 1 else colors
