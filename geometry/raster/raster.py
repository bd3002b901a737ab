"""Rasterise triangle meshes and interpolate their attributes, differentiably.

Screen: u right, v down, pixel (row i, column j) has its centre at (j + 0.5, i + 0.5). A triangle covers the pixels
whose centres lie inside it; centres exactly on an edge belong to the triangle below a top edge or right of a left edge,
so that meshes are watertight. The nearest depth wins, then the smaller face index. Faces without area on screen are not
drawn.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from . import ops, oracle, peers
from .native import RasterError

#: Largest picture side, pixels.
MAX_SIDE = 32768

BACKENDS = ("native", "torch", *peers.NAMES)


@dataclass(frozen=True)
class Raster:
    """What each pixel sees. With more than one layer every field has one more axis after the width: nearest first."""

    face: Int[Tensor, "batch height width *layers"]  #: int32 face index, -1 where nothing is hit
    bary: Float[Tensor, "batch height width *layers 3"]  #: perspective-correct weights in face order, 0 where none
    depth: Float[Tensor, "batch height width *layers"]  #: camera depth (the points' z), 0 where none

    @property
    def mask(self) -> Bool[Tensor, "batch height width *layers"]:
        """Where something is hit."""
        return self.face >= 0


def rasterize(
    points: Float[Tensor, "batch verts 4"],
    faces: Int[Tensor, "faces 3"] | Int[Tensor, "batch faces 3"],
    size: tuple[int, int],
    *,
    near: float = 1e-3,
    cull: bool = False,
    layers: int = 1,
    backend: str | None = None,
) -> Raster:
    """Rasterise a batch of meshes.

    Args:
        points: homogeneous pixel coordinates (x, y, z, w) as `Camera.to_homogeneous` gives: the pixel is
            (x / w, y / w), the depth z. float32 or float64. Gradients flow from `bary` and `depth`; where a triangle
            covers a pixel is not differentiated (see `antialias`).
        faces: vertex indices, one list for all or one per batch item; rows of three -1 are padding.
        size: (height, width) in pixels.
        near: parts with w below it are clipped away (pinhole cameras have w = z, metres; orthographic ones w = 1, which
            clips nothing). Faces cut so keep their index and the weights of their own three vertices.
        cull: drop back faces. Front faces are counter-clockwise as seen, that is
            (u1 - u0) (v2 - v0) - (u2 - u0) (v1 - v0) < 0 with v down.
        layers: number of hits kept per pixel, nearest first (depth peeling).
        backend: "native" (default); "torch", the slow reference; or another project's rasteriser, which decides only
            what each pixel sees: "pytorch3d", "nvdiffrast", "kaolin" (see `peers`; they must be installed).

    Raises:
        RasterError: (a ValueError) wrong shapes, types or devices, face indices out of range, NaN or infinite points,
            a picture side over 32768, a backend that is not installed.
    """
    if backend not in (None, *BACKENDS):
        raise RasterError(f"unknown rasteriser backend {backend!r}; choose one of {', '.join(BACKENDS)}")
    height, width = size
    if points.ndim != 3 or points.shape[-1] != 4 or points.dtype not in (torch.float32, torch.float64):
        raise RasterError(
            f"points must be float32 or float64 of shape (batch, verts, 4), got {points.dtype} {tuple(points.shape)}"
        )
    if not (0 <= height <= MAX_SIDE and 0 <= width <= MAX_SIDE):
        raise RasterError(f"picture size must be within 0..{MAX_SIDE} pixels a side, got {height} x {width}")
    if not near > 0:
        raise RasterError(f"near must be positive, got {near}")
    if layers < 1:
        raise RasterError(f"layers must be at least 1, got {layers}")
    faces = checked_faces(faces, points)
    if backend == "torch":
        face, bary, depth = oracle.rasterize(points, faces, (height, width), near, cull, layers)
    elif backend in peers.NAMES:
        face, bary, depth = peers.rasterize(backend, points, faces, (height, width), near, cull, layers)
    else:
        face, bary, depth = ops.call(ops.rasterize, points, faces, height, width, near, cull, layers)
    if layers == 1:
        # squeeze, not indexing: its gradient is a view as well
        face, bary, depth = face.squeeze(3), bary.squeeze(3), depth.squeeze(3)
    return Raster(face, bary, depth)


def interpolate(
    raster: Raster,
    attributes: Float[Tensor, "#batch verts chan"],
    faces: Int[Tensor, "faces 3"] | Int[Tensor, "batch faces 3"],
    *,
    backend: str | None = None,
) -> Float[Tensor, "batch height width *layers chan"]:
    """Attributes at every pixel, 0 where nothing is hit. Differentiable in the attributes and in `raster.bary`.

    Args:
        raster: what `rasterize` gave.
        attributes: values per vertex, any number of channels; one set for all or one per batch item.
        faces: the rasterised faces, or faces of the same order into other vertices (UV faces with UV coordinates).
        backend: as in `rasterize`; the other projects' leave this to the native one.

    Raises:
        RasterError: (a ValueError) shapes or devices disagree, or a face index is out of range.
    """
    if backend not in (None, *BACKENDS):
        raise RasterError(f"unknown rasteriser backend {backend!r}; choose one of {', '.join(BACKENDS)}")
    batch = raster.face.shape[0]
    if attributes.ndim != 3 or attributes.shape[0] not in (1, batch):
        raise RasterError(f"attributes must have shape (1 or {batch}, verts, chan), got {tuple(attributes.shape)}")
    if attributes.dtype != raster.bary.dtype:
        raise RasterError(f"attributes are {attributes.dtype} but the raster is {raster.bary.dtype}; convert one")
    if attributes.device != raster.face.device:
        raise RasterError(f"attributes are on {attributes.device} but the raster is on {raster.face.device}")
    faces = checked_faces(faces, attributes, batch)
    if backend == "torch":
        return oracle.interpolate(raster.face, raster.bary, attributes, faces)
    return ops.call(ops.interpolate, attributes, faces, raster.face, raster.bary)


def checked_faces(faces: Tensor, points: Tensor, batch: int | None = None) -> Tensor:
    """int32 or int64 faces of a sensible shape on the points' device; the values are checked natively."""
    batch = points.shape[0] if batch is None else batch
    if faces.dtype not in (torch.int32, torch.int64):
        raise RasterError(f"faces must be int32 or int64, got {faces.dtype}")
    if faces.shape[-1:] != (3,) or not (faces.ndim == 2 or (faces.ndim == 3 and faces.shape[0] == batch)):
        raise RasterError(f"faces must have shape (faces, 3) or ({batch}, faces, 3), got {tuple(faces.shape)}")
    if faces.device != points.device:
        raise RasterError(f"faces are on {faces.device} but the vertices are on {points.device}; move one")
    return faces
