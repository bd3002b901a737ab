"""The CUDA driver behind the functions of the CPU module: scratch memory, sorting for the backward passes, streams.

float32 only. Unlike the CPU module it does not stop at bad input (that would mean waiting for the device): faces with
an index out of range or with a vertex that is not finite are not drawn.

`vertex_normals` and `closest_point` are plain torch here (fallback.py), in either precision; the latter compares every
point with every face and does stop at bad input. `antialias` has no CUDA version.
"""

from importlib import import_module
from types import ModuleType

import torch
from torch import Tensor

from . import fallback
from .native import BUILD, RasterError

CUDA_BUILD = f"HEADLAB_CUDA=ON {BUILD}"


def _module() -> ModuleType:
    try:
        return import_module(".._cuda", __package__)
    except ImportError as error:
        raise RasterError(
            f"headlab's CUDA module is missing ({error}); with nvcc installed build it with: {CUDA_BUILD}"
        ) from error


def _stream(tensor: Tensor) -> int:
    return torch.cuda.current_stream(tensor.device).cuda_stream


def _single(tensor: Tensor) -> Tensor:
    if tensor.dtype != torch.float32:
        raise RasterError(f"on CUDA the rasteriser takes float32, got {tensor.dtype}; double precision runs on the CPU")
    return tensor


def rasterize(
    points: Tensor,
    faces: Tensor,
    height: int,
    width: int,
    layers: int,
    near: float,
    cull: bool,
    _threads: int,
    face: Tensor,
    bary: Tensor,
    depth: Tensor,
) -> int:
    """As the CPU module's; fills face, bary, depth."""
    pixels = (points.shape[0], height, width)
    nearest = torch.empty(pixels, dtype=torch.int64, device=points.device)
    last = torch.empty_like(nearest) if layers > 1 else None
    count = points.shape[0] * faces.shape[-2]
    if count >= 2**30:
        raise RasterError(f"{count} faces at once are too many for the CUDA rasteriser; split the batch")
    large = torch.empty(1 + 2 * count, dtype=torch.int32, device=points.device)
    args = (_single(points), faces.int(), near, cull, nearest, last, large, face, bary, depth)
    _module().rasterize(*args, _stream(points))
    return 0


def pixel_lists(face: Tensor, faces: int) -> tuple[Tensor, Tensor]:
    """Pixels sorted by (batch item, face), and where each face's begin: (batch * faces + 1)."""
    batch = face.shape[0]
    item = torch.arange(batch, device=face.device).view(batch, *(1,) * (face.ndim - 1))
    inside = (face >= 0) & (face < faces)
    key = torch.where(inside, item * faces + face, batch * faces).reshape(-1)
    key, order = torch.sort(key, stable=True)
    return order, torch.searchsorted(key, torch.arange(batch * faces + 1, device=face.device))


def corner_lists(faces: Tensor, verts: int) -> tuple[Tensor, Tensor]:
    """Corners sorted by vertex, one list per face list: (lists, 3 * faces), and where each vertex's begin."""
    corners = faces.reshape(1 if faces.ndim == 2 else faces.shape[0], -1).long()
    corners = torch.where((corners < 0) | (corners >= verts), verts, corners)
    corners, order = torch.sort(corners, dim=-1, stable=True)
    wanted = torch.arange(verts + 1, device=faces.device).expand(corners.shape[0], -1).contiguous()
    return order, torch.searchsorted(corners, wanted)


def rasterize_backward(
    points: Tensor,
    faces: Tensor,
    _threads: int,
    face: Tensor,
    grad_bary: Tensor | None,
    grad_depth: Tensor | None,
    grad_points: Tensor,
) -> int:
    """As the CPU module's; fills grad_points. Deterministic."""
    batch, height, width, layers = face.shape
    count, verts = faces.shape[-2], points.shape[1]
    faces = faces.int()
    corners = torch.empty((batch, 3 * count, 4), device=points.device)
    lists = pixel_lists(face, count)
    module, stream = _module(), _stream(points)
    module.rasterize_backward(
        _single(points), faces, height, width, layers, *lists, grad_bary, grad_depth, corners, stream
    )
    module.gather(corners, *corner_lists(faces, verts), False, grad_points, stream)
    return 0


def interpolate(attributes: Tensor, faces: Tensor, _threads: int, face: Tensor, bary: Tensor, out: Tensor) -> int:
    """As the CPU module's; fills out."""
    _module().interpolate(_single(attributes), faces.int(), face, bary, out, _stream(attributes))
    return 0


def interpolate_backward(
    attributes: Tensor,
    faces: Tensor,
    _threads: int,
    face: Tensor,
    bary: Tensor,
    grad_out: Tensor,
    grad_attributes: Tensor | None,
    grad_bary: Tensor | None,
) -> int:
    """As the CPU module's; fills grad_attributes and grad_bary. Deterministic."""
    faces = faces.int()
    module, stream = _module(), _stream(attributes)
    lists: tuple[Tensor | None, Tensor | None] = (None, None)
    corners = None
    if grad_attributes is not None:
        lists = pixel_lists(face, faces.shape[-2])
        shape = (face.shape[0], 3 * faces.shape[-2], attributes.shape[-1])
        corners = torch.empty(shape, device=attributes.device)
    args = (_single(attributes), faces, face, bary, grad_out, grad_bary, *lists, corners)
    module.interpolate_backward(*args, stream)
    if grad_attributes is not None:
        summed = attributes.shape[0] == 1
        module.gather(corners, *corner_lists(faces, attributes.shape[1]), summed, grad_attributes, stream)
    return 0


def vertex_normals(vertices: Tensor, faces: Tensor, _threads: int, out: Tensor) -> int:
    """As the CPU module's, in plain torch."""
    fallback.vertex_normals(vertices, faces, out)
    return 0


def vertex_normals_backward(vertices: Tensor, faces: Tensor, _threads: int, grad: Tensor, out: Tensor) -> int:
    """As the CPU module's, in plain torch."""
    fallback.vertex_normals_backward(vertices, faces, grad, out)
    return 0


def closest_point(vertices: Tensor, faces: Tensor, _threads: int, points: Tensor, face: Tensor, bary: Tensor) -> int:
    """As the CPU module's, in plain torch."""
    return fallback.closest_point(vertices, faces, points, face, bary)


def __getattr__(name: str) -> None:
    if name in ("antialias", "antialias_backward"):
        raise RasterError("antialias has no CUDA version; move the tensors to the CPU for it")
    raise AttributeError(name)
