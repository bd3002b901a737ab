"""Triangle meshes from files, as tensors: what surfaces are sampled from and compared by."""

from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from ..geometry.errors import HeadlabError, MissingAssetError
from .scan_file import read_scan


def read_surface(path: Path) -> tuple[Float[Tensor, "verts 3"], Int[Tensor, "faces 3"]]:
    """Vertices and triangles of a mesh, in the file's unit.

    Raises:
        MissingAssetError: the file is not there.
        HeadlabError: it cannot be read, or has no triangles, wrong ones, or vertices that are no numbers.
    """
    if not path.is_file():
        raise MissingAssetError(f"{path} is not there; give a mesh")
    scan = read_scan(path)
    if scan.faces is None or len(scan.faces) == 0:
        raise HeadlabError(f"{path} has points but no triangles; give a surface")
    vertices = torch.from_numpy(np.asarray(scan.points, np.float32).copy())
    faces = torch.from_numpy(np.asarray(scan.faces, np.int64).copy())
    if not bool(vertices.isfinite().all()) or int(faces.min()) < 0 or int(faces.max()) >= len(vertices):
        raise HeadlabError(f"{path} has vertices that are no numbers, or triangles between none; export it again")
    return vertices, faces
