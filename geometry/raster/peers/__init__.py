"""Other people's rasterisers behind `rasterize(..., backend=name)`: for comparison, and for users who have them.

A peer only decides which face each pixel sees, one batch item at a time; weights, depth and their gradients follow from
that face map by `oracle.weights`, in our conventions and exactly. So whatever a peer adds to its own weights (epsilons,
clamps, biased depth) does not come through, and gradients have no silhouette term, as with the native backend. Their
face maps still differ from ours at some pixels; each file says where.

None of them is a dependency, and none is on PyPI: each is imported when first asked for.
"""

from importlib import import_module

import torch
from torch import Tensor

from .. import oracle
from ..native import RasterError, check_values

NAMES = ("pytorch3d", "nvdiffrast", "kaolin")


def rasterize(
    name: str,
    points: Tensor,
    faces: Tensor,
    size: tuple[int, int],
    near: float,
    cull: bool,
    layers: int,
) -> tuple[Tensor, Tensor, Tensor]:
    """Same meaning as `headlab.geometry.raster.rasterize`; returns (face, bary, depth) with a layer axis.

    Raises:
        RasterError: the peer is not installed, or cannot do what is asked (layers, device).
    """
    peer = import_module(f".{name}", __name__)
    check_values(points, faces)
    per_item = faces if faces.ndim == 3 else faces.expand(points.shape[0], -1, -1)
    with torch.no_grad():
        maps = [_one(peer.face_map, p, f, size, near, cull, layers) for p, f in zip(points, per_item, strict=True)]
    shape = (0, *size, layers)
    face = torch.stack(maps) if maps else torch.empty(shape, dtype=torch.int32, device=points.device)
    bary, depth = oracle.weights(points, faces, face)
    return face, bary, depth


def _one(face_map, points: Tensor, faces: Tensor, size, near: float, cull: bool, layers: int) -> Tensor:
    """(height, width, layers) int32. The peer gets no padding, and is asked only if something lies in front."""
    used = (faces[:, 0] >= 0).nonzero().squeeze(1)
    if 0 in size or not bool((points[faces[used].long(), 3] >= near).any()):
        return torch.full((*size, layers), -1, dtype=torch.int32, device=points.device)
    face = face_map(points.float(), faces[used], size, near, cull, layers)
    return torch.where(face >= 0, used[face.clamp(min=0).long()], -1).int()


def missing(name: str, error: ImportError, install: str) -> RasterError:
    """What to raise where a peer cannot be imported."""
    return RasterError(f"the rasteriser backend {name!r} is not installed here ({error}); install it: {install}")


def facing(points: Tensor, faces: Tensor) -> Tensor:
    """Whether each face is a front face, also where some of its vertices have w <= 0: (faces,) bool."""
    a, b, c = points[faces.long()][..., [0, 1, 3]].double().unbind(1)
    return torch.linalg.det(torch.stack([a, b, c], -2)) < 0


def nearness(points: Tensor) -> Tensor:
    """A number that grows towards the camera and is affine over the screen: (verts,), for w > 0.

    (1 - z) / w is 1 / w - 1 for pinhole cameras (z = w) and 1 - z for orthographic ones (w = 1).
    """
    return (1 - points[..., 2]) / points[..., 3]
