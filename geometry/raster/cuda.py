"""The CUDA driver behind the functions of the CPU module: scratch memory, sorting, streams.

float32 only, except closest points and normals. Every sum is taken in a fixed order: runs agree to the last bit.
Unlike the CPU module it does not stop at bad input (that would mean waiting for the device): faces with an index out of
range or with a vertex that is not finite are not drawn, faces with an index out of range add to no normal. Only
`closest_point` waits, and does stop.
"""

from functools import cache
from importlib import import_module
from types import ModuleType

import torch
from torch import Tensor

from .native import BUILD, RasterError, passing_capsules

CUDA_BUILD = f"HEADLAB_CUDA=ON {BUILD}"


@cache
def _module() -> ModuleType:
    try:
        return passing_capsules(import_module(".._cuda", __package__))
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


def adjacency(faces: Tensor, verts: int) -> Tensor:
    """For edge k (corner k to k + 1) of face f, 4 * neighbour + its edge at [f, k]; -1 where the mesh ends or more than
    two faces meet: (lists, faces, 4)."""
    faces = (faces if faces.ndim == 3 else faces[None]).long()
    lists, count = faces.shape[:2]
    used = ((faces >= 0) & (faces < verts)).all(-1, keepdim=True)
    other = faces.roll(-1, 2)
    edge = torch.where(used, torch.minimum(faces, other) * verts + torch.maximum(faces, other), verts * verts)
    edge, order = torch.sort(edge.reshape(lists, -1), dim=-1, stable=True)
    slot = order // 3 * 4 + order % 3
    # equal[i]: places i and i + 1 hold the same edge; a pair that stands alone makes two faces neighbours
    equal = (edge[:, 1:] == edge[:, :-1]) & (edge[:, 1:] < verts * verts)
    none = equal.new_zeros(lists, 1)
    alone = equal & ~torch.cat([none, equal[:, :-1]], 1) & ~torch.cat([equal[:, 1:], none], 1)
    first, second = torch.cat([alone, none], 1)[:, : 3 * count], torch.cat([none, alone], 1)[:, : 3 * count]
    neighbour = torch.where(first, slot.roll(-1, 1), torch.where(second, slot.roll(1, 1), -1))
    across = slot.new_full((lists, 4 * count), -1)
    return across.scatter_(1, slot, neighbour).reshape(lists, count, 4)


def antialias(
    points: Tensor, faces: Tensor, near: float, _threads: int, face: Tensor, depth: Tensor, image: Tensor, out: Tensor
) -> int:
    """As the CPU module's; fills out."""
    faces, across = faces.int(), adjacency(faces, points.shape[1])
    weight = torch.empty((*face.shape, 2), device=points.device)
    args = (_single(points), faces, across, near, face, depth, image, weight)
    _module().antialias(*args, None, out, _stream(points))
    return 0


def antialias_backward(
    points: Tensor,
    faces: Tensor,
    near: float,
    _threads: int,
    face: Tensor,
    depth: Tensor,
    image: Tensor,
    grad: Tensor,
    grad_image: Tensor | None,
    grad_points: Tensor | None,
) -> int:
    """As the CPU module's; fills grad_image and grad_points. Deterministic."""
    batch, count = points.shape[0], faces.shape[-2]
    faces, across = faces.int(), adjacency(faces, points.shape[1])
    module, stream = _module(), _stream(points)
    weight = torch.empty((*face.shape, 2), device=points.device)
    silhouette = torch.empty(weight.shape, dtype=torch.int32, device=points.device)
    args = (_single(points), faces, across, near, face, depth, image, weight)
    module.antialias(*args, silhouette, None, stream)
    lists: tuple[Tensor | None, Tensor | None] = (None, None)
    corners = None
    if grad_points is not None:
        lists = pixel_lists(silhouette, count)
        corners = torch.empty((batch, 3 * count, 4), device=points.device)
    module.antialias_backward(*args, grad, grad_image, *lists, corners, stream)
    if grad_points is not None:
        module.gather(corners, *corner_lists(faces, points.shape[1]), False, grad_points, stream)
    return 0


def vertex_normals(vertices: Tensor, faces: Tensor, _threads: int, out: Tensor) -> int:
    """As the CPU module's; fills out. Deterministic."""
    lists = corner_lists(faces, vertices.shape[1])
    _module().vertex_normals(vertices, faces.int(), *lists, out, _stream(vertices))
    return 0


def vertex_normals_backward(vertices: Tensor, faces: Tensor, _threads: int, grad: Tensor, out: Tensor) -> int:
    """As the CPU module's; fills out. Deterministic."""
    lists = corner_lists(faces, vertices.shape[1])
    args = (vertices, faces.int(), *lists, grad, torch.empty_like(vertices), out)
    _module().vertex_normals_backward(*args, _stream(vertices))
    return 0


def closest_point(vertices: Tensor, faces: Tensor, _threads: int, points: Tensor, face: Tensor, bary: Tensor) -> int:
    """As the CPU module's, status included; fills face and bary."""
    padding = (faces == -1).all(-1)
    wrong = ~(padding | ((faces >= 0) & (faces < vertices.shape[-2])).all(-1))
    finite = vertices.isfinite().all() & points.isfinite().all()
    wrong_faces, finite, padded = torch.stack([wrong.any().long(), finite.long(), padding.sum()]).tolist()
    count = faces.shape[0] - padded
    if wrong_faces or not finite:
        return 1 if wrong_faces else 2
    if points.numel() == 0:
        return 0
    if count == 0:
        return 5
    corners = vertices[:, faces.clamp(min=0).long()]  # (meshes, faces, 3, 3)
    low, high = vertices.amin(1, keepdim=True), vertices.amax(1, keepdim=True)
    code = curve_position((corners.amin(2) + corners.amax(2)) / 2, low, high)
    code = torch.where(padding, torch.iinfo(torch.int64).max, code)
    code, order = (x[:, :count].contiguous() for x in torch.sort(code, dim=-1, stable=True))
    triangles = corners.gather(1, order[..., None, None].expand(-1, -1, 3, 3))
    place = curve_position(points, low, high)
    start = torch.searchsorted(code.expand(points.shape[0], -1).contiguous(), place).clamp(max=count - 1)
    boxes = torch.empty((vertices.shape[0], count + 16, 6), dtype=vertices.dtype, device=vertices.device)
    args = (triangles, order, points, torch.argsort(place, dim=-1, stable=True), start, boxes, face, bary)
    _module().closest_point(*args, _stream(points))
    return 0


def curve_position(points: Tensor, low: Tensor, high: Tensor) -> Tensor:
    """Places along a Morton curve through a box, 2^10 steps a side: (batch, points, 3) -> (batch, points) int64."""
    span = torch.where(high > low, high - low, 1)
    x = ((points - low) / span * 1024).clamp(0, 1023).long()
    for shift, mask in ((16, 0x030000FF), (8, 0x0300F00F), (4, 0x030C30C3), (2, 0x09249249)):
        x = (x | x << shift) & mask
    return x[..., 0] << 2 | x[..., 1] << 1 | x[..., 2]
