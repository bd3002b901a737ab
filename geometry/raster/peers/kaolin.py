"""NVIDIA Kaolin's `rasterize` (DIB-R: Chen et al., "Learning to predict 3D objects with an interpolation-based
differentiable renderer", 2019) as a backend. CUDA tensors only; here run only against fakes.

Where its face map differs from ours:
- one layer only;
- centres exactly on an edge count as inside every face there, the nearest, then the first wins;
- faces that cross the near plane are dropped whole (it has no clipping);
- float32 throughout, weights divided by area + 1e-8: the thinnest faces may go missing or win wrongly.
"""

import torch
from torch import Tensor

from ..native import RasterError
from . import facing, missing, nearness

INSTALL = "pip install kaolin -f https://nvidia-kaolin.s3.us-east-2.amazonaws.com/torch-<TORCH>_cu<CUDA>.html"
DEVICE = "cuda"


def face_map(points: Tensor, faces: Tensor, size: tuple[int, int], near: float, cull: bool, layers: int) -> Tensor:
    """Faces hit at every pixel, -1 for none: (height, width, 1)."""
    try:
        from kaolin.render.mesh import rasterize  # type: ignore[import-not-found]
    except ImportError as error:
        raise missing("kaolin", error, INSTALL) from error
    if layers != 1:
        raise RasterError(f"backend 'kaolin' gives one layer, {layers} were asked for; use 'native'")
    if points.device.type != DEVICE:
        raise RasterError(f"backend 'kaolin' takes CUDA tensors, got {points.device}; move them or use 'native'")
    valid = (points[faces.long(), 3] >= near).all(-1)
    if cull:
        valid &= facing(points, faces)
    height, width = size
    safe = torch.where(points[:, 3] >= near, points[:, 3], 1)
    # x right, y up, the picture -1..1 both ways; the larger "z" is the nearer. It is interpolated over the screen.
    image = torch.stack([2 * points[:, 0] / safe / width - 1, 1 - 2 * points[:, 1] / safe / height], -1)
    key = nearness(torch.cat([points[:, :3], safe[:, None]], -1))
    corners = faces.long()
    features = torch.zeros(1, len(faces), 3, 1, device=points.device)
    _, face = rasterize(
        height, width, key[corners][None], image[corners][None], features, valid_faces=valid[None], backend="cuda"
    )
    return face[0, :, :, None]
