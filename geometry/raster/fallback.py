"""Operations without a CUDA kernel, in plain torch on any device: not fused, and on CUDA their sums are not ordered
(`index_add`), so that runs may differ in the last bits. `cuda.py` uses them; they fill the native calls' outputs.

Written without autograd: the registered operations supply the gradients.
"""

import torch
from torch import Tensor

#: Point-face pairs looked at together, which bounds the memory (about 200 bytes each).
PAIRS = 1 << 22


def vertex_normals(vertices: Tensor, faces: Tensor, out: Tensor) -> None:
    """As the CPU module's; faces with an index out of range are left out."""
    used = _used(faces, vertices.shape[1])
    total = _area_sums(vertices, used)
    length = total.norm(dim=-1, keepdim=True)
    out.copy_(torch.where(length > 0, total / torch.where(length > 0, length, 1), 0))


def vertex_normals_backward(vertices: Tensor, faces: Tensor, grad: Tensor, out: Tensor) -> None:
    """As the CPU module's."""
    used = _used(faces, vertices.shape[1])
    total = _area_sums(vertices, used)
    length = total.norm(dim=-1, keepdim=True)
    safe = torch.where(length > 0, length, 1)
    unit = total / safe
    grad_total = torch.where(length > 0, (grad - unit * (unit * grad).sum(-1, keepdim=True)) / safe, 0)
    grad_area = grad_total[:, used].sum(2)
    a, b, c = vertices[:, used].unbind(2)
    grad_b = torch.linalg.cross(c - a, grad_area)
    grad_c = torch.linalg.cross(grad_area, b - a)
    out.zero_()
    for corner, part in enumerate((-grad_b - grad_c, grad_b, grad_c)):
        out.index_add_(1, used[:, corner], part)


def _used(faces: Tensor, verts: int) -> Tensor:
    return faces[((faces >= 0) & (faces < verts)).all(-1)].long()


def _area_sums(vertices: Tensor, faces: Tensor) -> Tensor:
    """Sum of the adjacent faces' normals, twice their areas long."""
    a, b, c = vertices[:, faces].unbind(2)
    area = torch.linalg.cross(b - a, c - a)
    total = torch.zeros_like(vertices)
    for corner in range(3):
        total.index_add_(1, faces[:, corner], area)
    return total


def closest_point(vertices: Tensor, faces: Tensor, points: Tensor, face: Tensor, bary: Tensor) -> int:
    """As the CPU module's, status included; every point is compared with every face."""
    padding = (faces == -1).all(-1)
    if not bool((padding | ((faces >= 0) & (faces < vertices.shape[-2])).all(-1)).all()):
        return 1
    if not bool(vertices.isfinite().all() & points.isfinite().all()):
        return 2
    used = (~padding).nonzero().squeeze(1)
    if points.numel() == 0:
        return 0
    if len(used) == 0:
        return 5
    step = max(1, PAIRS // len(used))
    for item in range(points.shape[0]):
        corners = vertices[min(item, vertices.shape[0] - 1)][faces[used].long()]
        for begin in range(0, points.shape[1], step):
            chunk = points[item, begin : begin + step]
            weights, squared = _project(chunk[:, None], corners[None])
            index = squared.argmin(1)
            # argmin may give any of equal values; the smaller face is wanted
            equal = squared == squared.gather(1, index[:, None])
            index = equal.to(torch.uint8).argmax(1)
            face[item, begin : begin + step] = used[index].int()
            bary[item, begin : begin + step] = weights[torch.arange(len(chunk), device=chunk.device), index]
    return 0


def _project(point: Tensor, corners: Tensor) -> tuple[Tensor, Tensor]:
    """Weights of the nearest points on triangles, and squared distances. Shapes broadcast: (..., 3), (..., 3, 3)."""
    a, b, c = corners.unbind(-2)
    best, distance = _on_segment(point, a, b, 0, 1)
    for start, end, i, j in ((b, c, 1, 2), (c, a, 2, 0)):
        weights, squared = _on_segment(point, start, end, i, j)
        nearer = squared < distance
        best, distance = torch.where(nearer[..., None], weights, best), torch.where(nearer, squared, distance)
    u, v, p = b - a, c - a, point - a
    uu, uv, vv = (u * u).sum(-1), (u * v).sum(-1), (v * v).sum(-1)
    pu, pv = (p * u).sum(-1), (p * v).sum(-1)
    det = uu * vv - uv * uv
    flat = det <= 1e-12 * uu * vv  # no plane: an edge is nearest
    safe = torch.where(flat, 1, det)
    wb, wc = (vv * pu - uv * pv) / safe, (uu * pv - uv * pu) / safe
    inside = ~flat & (wb >= 0) & (wc >= 0) & (wb + wc <= 1)
    weights = torch.stack([1 - wb - wc, wb, wc], -1)
    squared = (p - wb[..., None] * u - wc[..., None] * v).square().sum(-1)
    inside &= squared <= distance
    return torch.where(inside[..., None], weights, best), torch.where(inside, squared, distance)


def _on_segment(point: Tensor, start: Tensor, end: Tensor, i: int, j: int) -> tuple[Tensor, Tensor]:
    """Nearest point of a triangle's edge from corner i to corner j: weights of the three corners, squared distance."""
    along, offset = end - start, point - start
    length = (along * along).sum(-1)
    t = ((offset * along).sum(-1) / torch.where(length > 0, length, 1)).clamp(0, 1)
    parts = [torch.zeros_like(t)] * 3
    parts[i], parts[j] = 1 - t, t
    return torch.stack(parts, -1), (offset - t[..., None] * along).square().sum(-1)
