"""Code -> head, step by step: mesh and landmarks, detail maps, textures, pictures (DECA's `decode`)."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from ..models.flame_landmarks import flame_landmarks, visible_landmarks
from ..models.head_model import HeadModel
from ..raster import vertex_normals
from .assets import DetailAssets
from .codes import DecaCode
from .detail import detail_normals, photo_texture
from .render import HeadRaster, shade_map
from .uv_maps import UvSpace


@dataclass(frozen=True)
class CoarseHead:
    """The FLAME mesh of a code. "ndc" coordinates are -1..1 over the crop, x right, y down, z forward."""

    model: HeadModel
    vertices: Float[Tensor, "batch verts 3"]  #: world, metres
    normals: Float[Tensor, "batch verts 3"]  #: unit
    ndc: Float[Tensor, "batch verts 3"]  #: projected vertices
    ndc_normals: Float[Tensor, "batch verts 3"]  #: unit normals of the projected mesh
    landmarks2d: Float[Tensor, "batch 68 2"]  #: ndc; the contour slides with the pose
    landmarks3d: Float[Tensor, "batch 68 3"]  #: ndc; fixed on the surface
    landmarks3d_world: Float[Tensor, "batch 68 3"]  #: the same, metres
    landmarks105: Float[Tensor, "batch 105 2"] | None  #: ndc; EMOCA's MediaPipe points, where the model has their table
    visible: Float[Tensor, "batch 68"]  #: 1 where the landmarks3d face the camera

    def raster(self, size: tuple[int, int]) -> HeadRaster:
        """Rasterise it on a picture of the crop."""
        return HeadRaster.of(self.model, self.ndc, self.normals, self.ndc_normals, size)


@dataclass(frozen=True)
class DetailMaps:
    """Maps in texture space; row 0 at v = 1."""

    offset: Float[Tensor, "batch 1 size size"]  #: the decoder's own displacement, metres
    displacement: Float[Tensor, "batch 1 size size"]  #: with the fixed part: what moves the dense mesh
    normals: Float[Tensor, "batch 3 size size"]
    shading: Float[Tensor, "batch 3 size size"]  #: light on these normals


@dataclass(frozen=True)
class Pictures:
    """The head on the crop; 0 beside it."""

    raster: HeadRaster
    albedo: Float[Tensor, "batch 3 height width"]
    lit: Float[Tensor, "batch 3 height width"]  #: albedo under the code's light
    normals: Float[Tensor, "batch 3 height width"]
    shape: Float[Tensor, "batch 3 height width"]  #: grey
    shape_detail: Float[Tensor, "batch 3 height width"] | None  #: grey, with detail normals
    mask: Float[Tensor, "batch 1 height width"] | None  #: where the detail mask's face is


@dataclass(frozen=True)
class Decoded:
    """Everything DECA makes of a code."""

    coarse: CoarseHead
    albedo: Float[Tensor, "batch 3 size size"]
    pictures: Pictures
    detail: DetailMaps | None
    texture: Float[Tensor, "batch 3 size size"] | None  #: albedo under the light on the detail normals
    photo_texture: Float[Tensor, "batch 3 size size"] | None  #: the photo inside the mask, `texture` outside


def decode_coarse(code: DecaCode, model: HeadModel) -> CoarseHead:
    """Mesh, landmarks and their projections.

    Args:
        code: one batch axis.
        model: FLAME with at least 100 shape and 50 expression components and its landmark tables.

    Raises:
        HeadlabError: the model has no landmark tables.
    """
    head, camera = code.head_code(), code.weak_perspective
    vertices = model.vertices(head)
    points = flame_landmarks(model, head, vertices)
    ndc = camera.project_ndc(vertices)
    ndc_normals = vertex_normals(ndc, model.faces)
    mediapipe = points.landmarks_mediapipe
    return CoarseHead(
        model=model,
        vertices=vertices,
        normals=vertex_normals(vertices, model.faces),
        ndc=ndc,
        ndc_normals=ndc_normals,
        landmarks2d=camera.project_ndc(points.landmarks2d)[..., :2],
        landmarks3d=camera.project_ndc(points.landmarks3d),
        landmarks3d_world=points.landmarks3d,
        landmarks105=None if mediapipe is None else camera.project_ndc(mediapipe)[..., :2],
        visible=visible_landmarks(model, ndc_normals).to(vertices.dtype),
    )


def decode_detail(
    code: DecaCode,
    coarse: CoarseHead,
    space: UvSpace,
    assets: DetailAssets,
    decoder: Callable[[Tensor], Tensor],
    *,
    blend: bool = True,
) -> DetailMaps:
    """Displacement, detail normals and the light on them.

    For animation, hand in the code of the target with its `detail` replaced by the source's.

    Args:
        code: with its detail part.
        coarse: the mesh.
        space: the model's texture layout.
        assets: DECA's maps.
        decoder: DECA's detail decoder.
        blend: as in `detail_normals`.
    """
    offset = decoder(code.latent)
    normals = detail_normals(space, coarse.vertices, coarse.normals, offset, assets, blend=blend)
    return DetailMaps(offset, offset + assets.fixed_displacement, normals, shade_map(normals, code.light))


def decode_pictures(
    code: DecaCode,
    coarse: CoarseHead,
    albedo: Float[Tensor, "batch 3 size size"],
    size: tuple[int, int],
    detail: DetailMaps | None = None,
    assets: DetailAssets | None = None,
) -> Pictures:
    """Render the head on a picture of the crop.

    Args:
        code: for its light.
        coarse: the mesh.
        albedo: texture.
        size: (height, width), pixels.
        detail: adds `shape_detail`.
        assets: adds `mask`.
    """
    raster = coarse.raster(size)
    return Pictures(
        raster=raster,
        albedo=raster.texture_image(albedo),
        lit=raster.lit_image(albedo, code.light),
        normals=raster.normal_image,
        shape=raster.shape_image(),
        shape_detail=None if detail is None else raster.shape_image(detail.normals),
        mask=None if assets is None else raster.texture_image(assets.mask[None, None]),
    )


def merge_textures(
    space: UvSpace,
    coarse: CoarseHead,
    images: Float[Tensor, "batch 3 height width"],
    outside: Float[Tensor, "batch 3 size size"],
    assets: DetailAssets,
) -> Float[Tensor, "batch 3 size size"]:
    """The photo's own pixels inside of the mask, another texture outside.

    Args:
        space: the model's texture layout.
        coarse: the mesh over the crop.
        images: the crops.
        outside: the other texture.
        assets: for the mask.
    """
    return torch.lerp(outside, photo_texture(space, coarse.ndc, images), assets.mask)
