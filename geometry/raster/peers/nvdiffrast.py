"""nvdiffrast's CUDA rasteriser (Laine et al., "Modular primitives for high-performance differentiable rendering",
2020) as a backend. Its licence allows non-commercial use only. CUDA tensors only; here run only against fakes.

Where its face map differs from ours:
- coordinates are snapped to 1/16 pixel, so that silhouettes shift by up to that much, and faces smaller than a snap
  vanish;
- depth has 32 bits over the scene's range, float32 throughout: nearly equal depths may swap;
- triangle numbers come as float32: at most 2^24 faces;
- near clipping is by depth, which equals `near` for pinhole cameras (z = w).
"""

import torch
from torch import Tensor

from ..native import RasterError
from . import facing, missing, nearness

INSTALL = "pip install --no-build-isolation git+https://github.com/NVlabs/nvdiffrast"
DEVICE = "cuda"

_CONTEXTS: dict[torch.device, object] = {}


def face_map(points: Tensor, faces: Tensor, size: tuple[int, int], near: float, cull: bool, layers: int) -> Tensor:
    """Faces hit at every pixel, nearest first, -1 for none: (height, width, layers)."""
    try:
        import nvdiffrast.torch as dr  # type: ignore[import-not-found]
    except ImportError as error:
        raise missing("nvdiffrast", error, INSTALL) from error
    if points.device.type != DEVICE:
        raise RasterError(f"backend 'nvdiffrast' takes CUDA tensors, got {points.device}; move them or use 'native'")
    if len(faces) > 2**24:
        raise RasterError(f"backend 'nvdiffrast' numbers at most 2^24 faces, got {len(faces)}; use 'native'")
    kept = facing(points, faces).nonzero().squeeze(1) if cull else torch.arange(len(faces), device=faces.device)
    if len(kept) == 0:
        return torch.full((*size, layers), -1, device=points.device)
    context = _CONTEXTS.get(points.device)
    if context is None:
        context = _CONTEXTS[points.device] = dr.RasterizeCudaContext(device=points.device)
    # Some versions take sides divisible by 8 only.
    padded = ((size[0] + 7) // 8 * 8, (size[1] + 7) // 8 * 8)
    clip, triangles = to_clip(points, faces, padded, near)[None], faces[kept].int().contiguous()
    if layers == 1:
        maps = [dr.rasterize(context, clip, triangles, padded, grad_db=False)[0]]
    else:
        with dr.DepthPeeler(context, clip, triangles, padded, grad_db=False) as peeler:
            maps = [peeler.rasterize_next_layer()[0] for _ in range(layers)]
    number = torch.stack([m[0, : size[0], : size[1], 3] for m in maps], -1).long()  # counted from 1
    return torch.where(number > 0, kept[(number - 1).clamp(min=0)], -1)


def to_clip(points: Tensor, faces: Tensor, size: tuple[int, int], near: float) -> Tensor:
    """(V, 4) OpenGL clip coordinates. Row 0 of its pictures is y = -1: with y down nothing needs flipping."""
    height, width = size
    x, y, z, w = points.unbind(-1)
    used = torch.zeros(len(points), dtype=torch.bool, device=points.device)
    used[faces.reshape(-1).long()] = True
    front = nearness(points)[used & (w >= near)]
    low, high = front.min(), front.max()
    behind = bool((w[used] < near).any())
    if behind:
        high = torch.full_like(high, (1 - near) / near)  # z / w = -1, where OpenGL clips, at the near plane
    margin = (high - low).clamp(min=1e-6) * 1e-3
    low, high = low - margin, high if behind else high + margin
    # -1 nearest, 1 farthest, affine in (z, w).
    depth = w - 2 * ((1 - z) - low * w) / (high - low)
    return torch.stack([2 * x / width - w, 2 * y / height - w, depth, w], -1).contiguous()
