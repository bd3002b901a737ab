"""Analytic antialiasing of silhouettes, and through it gradients of pictures to vertices at silhouettes."""

from jaxtyping import Float, Int
from torch import Tensor

from . import ops
from .raster import Raster, RasterError, checked_faces


def antialias(
    image: Float[Tensor, "batch height width chan"],
    raster: Raster,
    points: Float[Tensor, "batch verts 4"],
    faces: Int[Tensor, "faces 3"] | Int[Tensor, "batch faces 3"],
    *,
    near: float = 1e-3,
) -> Float[Tensor, "batch height width chan"]:
    """Blend neighbouring pixels where a silhouette passes between their centres.

    Where two neighbours (left-right or top-bottom) see different faces, the mesh is walked from the nearer one's face
    along the line between the centres, up to the edge where the mesh ends or folds back. The pixel whose half of the
    line that edge cuts is mixed with its neighbour by the length cut off. The crossing moves with the edge, so the
    picture becomes a continuous function of the vertices (Laine et al., "Modular primitives for high-performance
    differentiable rendering", 2020, who look for the edge in the visible face alone and so miss most silhouettes of
    fine meshes).

    Args:
        image: shaded picture belonging to `raster`, background included; any number of channels. Differentiable.
        raster: a raster of one layer.
        points: what was rasterised; differentiable.
        faces: what was rasterised. Silhouettes need shared vertices: at a seam of doubled vertices the mesh ends.
        near: as in `rasterize`; nothing is blended across faces that it cuts.

    Raises:
        RasterError: (a ValueError) shapes disagree, or the raster has several layers.
    """
    if raster.face.ndim != 3:
        raise RasterError("antialias takes a raster of one layer; rasterise again with layers=1")
    if image.ndim != 4 or image.shape[:3] != raster.face.shape:
        raise RasterError(f"image {tuple(image.shape)} does not belong to a raster of {tuple(raster.face.shape)}")
    if not image.dtype == points.dtype == raster.depth.dtype:
        raise RasterError(f"image is {image.dtype}, points {points.dtype}, raster {raster.depth.dtype}; convert them")
    if points.ndim != 3 or points.shape[-1] != 4 or points.shape[0] != image.shape[0]:
        raise RasterError(f"points must have shape ({image.shape[0]}, verts, 4), got {tuple(points.shape)}")
    faces = checked_faces(faces, points)
    return ops.call(
        ops.antialias,
        image,
        points,
        faces,
        raster.face,
        raster.depth.detach(),
        near,
    )
