"""Read meshes and clouds of heads: .ply, .obj, .stl, .off, .glb, with landmarks where a file beside them has some."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float, Int
from numpy import ndarray

from ..geometry.errors import HeadlabError
from ..geometry.models.obj import fan, read_obj
from . import scan_file

KINDS = (".ply", ".obj", ".stl", ".off", ".glb")
_MOST_VERTICES = 5_000_000
#: How large a head (with neck, perhaps shoulders) is across, in these units; and metres per unit.
_UNITS = (("metres", 0.15, 1.2, 1.0), ("centimetres", 15.0, 120.0, 0.01), ("millimetres", 150.0, 1200.0, 0.001))


@dataclass(frozen=True)
class HeadScan:
    """One scan, in metres where its unit could be told."""

    name: str
    vertices: Float[ndarray, "verts 3"]
    faces: Int[ndarray, "faces 3"] | None  #: None: a cloud of points
    landmarks: Float[ndarray, "68 3"] | None  #: of a file beside it; NaN where it has none
    unit: str  #: metres, centimetres, millimetres; "unknown": as in the file


def find_scans(folder: Path) -> list[Path]:
    """The meshes and clouds of a folder, sorted.

    Raises:
        HeadlabError: no such folder, or none in it.
    """
    if not folder.is_dir():
        raise HeadlabError(f"{folder} is no folder; name one with scans or registered heads in it")
    found = sorted(path for path in folder.iterdir() if path.suffix.lower() in KINDS and path.is_file())
    if not found:
        raise HeadlabError(f"{folder} holds no meshes; expected files ending in {', '.join(KINDS)}")
    return found


def read_head_scan(path: Path) -> HeadScan:
    """Read one scan. Vertices keep their order, so that registered heads stay in correspondence.

    Landmarks: `NAME.landmarks.txt`, 68 lines of x y z in the scan's unit (nan where unknown).

    Raises:
        HeadlabError: damaged, empty, too large, or not numbers; landmarks that are not 68 points.
    """
    if path.suffix.lower() == ".obj":  # texture seams would double vertices in other readers
        mesh = read_obj(path)
        vertices, faces = mesh.vertices.astype(np.float64), fan(mesh.polygons)[0]
    else:
        scan = scan_file.read_scan(path)
        vertices = np.asarray(scan.points, np.float64)
        faces = np.zeros((0, 3), np.int64) if scan.faces is None else np.asarray(scan.faces, np.int64)
    if len(vertices) < 100 or not np.isfinite(vertices).all():
        raise HeadlabError(f"{path} has {len(vertices)} vertices, or some that are not finite; at least 100 are needed")
    if len(vertices) > _MOST_VERTICES:
        raise HeadlabError(f"{path} has {len(vertices)} vertices, over {_MOST_VERTICES}; decimate it")
    extent = float(np.linalg.norm(vertices.max(0) - vertices.min(0))) / 3**0.5
    unit, scale = next(((name, scale) for name, low, high, scale in _UNITS if low < extent < high), ("unknown", 1.0))
    marks = _landmarks(path.with_name(path.stem + ".landmarks.txt"))
    return HeadScan(
        path.stem,
        vertices * scale,
        faces if len(faces) else None,
        None if marks is None else marks * scale,
        unit,
    )


def _landmarks(path: Path) -> Float[ndarray, "68 3"] | None:
    if not path.is_file():
        return None
    try:
        marks = np.loadtxt(path, dtype=np.float64, ndmin=2)
    except (OSError, ValueError) as error:
        raise HeadlabError(f"{path} cannot be read ({error}); expected 68 lines of x y z") from error
    if marks.shape != (68, 3):
        raise HeadlabError(f"{path} holds {marks.shape[0]} x {marks.shape[1]} numbers; expected 68 lines of x y z")
    return marks
