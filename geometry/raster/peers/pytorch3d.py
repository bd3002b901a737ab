"""PyTorch3D's `rasterize_meshes` (Ravi et al., "Accelerating 3D deep learning with PyTorch3D", 2020) as a backend.

Written against version 0.7.9's interface; here run only against recorded arrays of it and against fakes.

Where its face map differs from ours (parity/raster, headlab's golden data, has examples):
- a pixel centre exactly on an edge belongs to no face, so shared edges on centres leave holes;
- faces of at most 1e-8 (half the shorter side = 1)^2 twice the area are dropped whole;
- float32 throughout: at thin faces and nearly equal depths the other face may win;
- cameras whose z is neither w nor independent of it are sorted by w.
On the CPU it visits every pixel for every face: seconds at 224 x 224.
"""

import torch
from torch import Tensor

from . import missing

INSTALL = "pip install --no-build-isolation git+https://github.com/facebookresearch/pytorch3d"


def face_map(points: Tensor, faces: Tensor, size: tuple[int, int], near: float, cull: bool, layers: int) -> Tensor:
    """Faces hit at every pixel, nearest first, -1 for none: (height, width, layers)."""
    try:
        from pytorch3d.renderer.mesh.rasterize_meshes import (  # type: ignore[import-not-found]
            rasterize_meshes,
        )
        from pytorch3d.structures import Meshes  # type: ignore[import-not-found]
    except ImportError as error:
        raise missing("pytorch3d", error, INSTALL) from error
    verts, perspective = to_ndc(points, size)
    face, _, _, _ = rasterize_meshes(
        Meshes(verts=[verts], faces=[faces.long()]),
        image_size=size,
        blur_radius=0.0,
        faces_per_pixel=layers,
        perspective_correct=perspective,
        cull_backfaces=cull,
        z_clip_value=near if perspective and bool((points[:, 3] < near).any()) else None,
    )
    return face[0]


def to_ndc(points: Tensor, size: tuple[int, int]) -> tuple[Tensor, bool]:
    """(V, 3) x left, y up, the shorter side -1..1, z the perspective divisor or any positive depth; and which."""
    height, width = size
    rx, ry = max(1.0, width / height), max(1.0, height / width)
    x, y, z, w = points.unbind(-1)
    perspective = bool((w != w[0]).any())
    divisor = torch.where(w == 0, torch.finfo(w.dtype).tiny ** 0.5, w)
    # z only orders the faces here. Nothing may lie at or behind 0: PyTorch3D would drop it.
    depth = w if perspective else z - z.min() + 1
    return torch.stack(
        [rx - 2 * rx / width * (x / divisor), ry - 2 * ry / height * (y / divisor), depth], -1
    ), perspective
