"""Conditions: what a denoiser, or a compositor, sees of a head: maps at the picture's size, from any code.

    HeadFit + any code ──> rasterise ──> normal, texture coordinates, depth, mask
                                     ──> albedo (texture looked up) ──> shaded (times spherical-harmonics light)

The values are DiffusionRig's (Ding et al., "DiffusionRig: Learning personalized priors for facial appearance editing",
2023): normals in -1..1 as interpolated, neither renormalised nor mapped to 0..1; albedo about 0..1; shaded may leave
0..1. All maps are 0 where no head is.
"""

from dataclasses import dataclass, replace

import torch
from jaxtyping import Float
from torch import Tensor

from ..geometry.camera import Camera
from ..geometry.code import HeadCode
from ..geometry.errors import HeadlabError
from ..geometry.models.head_model import HeadModel
from ..geometry.raster import Raster, interpolate, rasterize, sample_texture, shade_sh, vertex_normals
from ..geometry.trees import map_tensors

#: A soft light from above and the left, and some from everywhere (spherical harmonics, grey): for codes without light.
STUDIO_LIGHT = ((2.45,), (0.10,), (0.22,), (0.30,), (0.0,), (0.0,), (0.0,), (0.0,), (0.0,))


@dataclass(frozen=True)
class Conditions:
    """Maps of one head, or of a batch of heads, at the picture's size."""

    normal: Float[Tensor, "*batch 3 height width"]  #: world axes (+X subject's left, +Y up, +Z forward), -1..1
    albedo: Float[Tensor, "*batch 3 height width"]  #: sRGB, nominally 0..1, not clamped
    shaded: Float[Tensor, "*batch 3 height width"]  #: albedo times light, not clamped
    depth: Float[Tensor, "*batch height width"]  #: metres along the camera's z, 0 = none
    mask: Float[Tensor, "*batch height width"]  #: 1 where the head is
    uv: Float[Tensor, "*batch 2 height width"]  #: texture coordinates 0..1, v up

    @classmethod
    def of(
        cls,
        model: HeadModel,
        code: HeadCode,
        camera: Camera,
        albedo: Float[Tensor, "3 rows columns"],
    ) -> "Conditions":
        """The maps of one head through a camera.

        Args:
            model: head model with texture coordinates.
            code: one head, without batch axes; where it has no light, `STUDIO_LIGHT` shines.
            camera: where from; its size is the maps' size.
            albedo: texture of the head, row 0 at v = 1.

        Raises:
            HeadlabError: the model has no texture coordinates.
        """
        vertices = model.vertices(code)
        raster = rasterize(camera.to_homogeneous(vertices)[None], model.faces, camera.size)
        return cls.of_raster(model, vertices, raster, albedo, code.light)

    @classmethod
    def of_raster(
        cls,
        model: HeadModel,
        vertices: Float[Tensor, "verts 3"],
        raster: Raster,
        albedo: Float[Tensor, "3 rows columns"],
        light: Float[Tensor, "9 3"] | None,
    ) -> "Conditions":
        """The maps of a head that has been rasterised already (batch axis of one, one layer).

        Raises:
            HeadlabError: the model has no texture coordinates.
        """
        if model.uvs is None or model.uv_faces is None:
            raise HeadlabError(f"{model.name} has no texture coordinates; conditions need a model with a texture")
        normal = interpolate(raster, vertex_normals(vertices, model.faces)[None], model.faces)
        uv = interpolate(raster, model.uvs[None], model.uv_faces)
        mask = raster.mask.to(vertices.dtype)
        colour = sample_texture(albedo[None], uv) * mask[..., None]
        if light is None:
            light = vertices.new_tensor(STUDIO_LIGHT).expand(9, 3)
        normal, colour = normal.movedim(-1, 1)[0], colour.movedim(-1, 1)[0]
        shaded = shade(normal, colour, light)
        return cls(normal, colour, shaded, raster.depth[0], mask[0], uv.movedim(-1, 1)[0])

    @property
    def size(self) -> tuple[int, int]:
        """(height, width), pixels."""
        height, width = self.mask.shape[-2:]
        return int(height), int(width)

    def relit(self, light: Float[Tensor, "*#batch 9 3"]) -> "Conditions":
        """The same head under another light."""
        return replace(self, shaded=shade(self.normal, self.albedo, light))

    def diffusion_rig(self) -> Float[Tensor, "*batch 9 height width"]:
        """DiffusionRig's nine condition channels, as its denoiser takes them: rendered, normal, albedo.

        They follow the three channels of the noisy picture and, unlike that, are not mapped to -1..1.
        """
        return torch.cat([self.shaded, self.normal, self.albedo], -3)

    def to(self, device: torch.device | str | None = None, dtype: torch.dtype | None = None) -> "Conditions":
        return map_tensors(self, lambda x: x.to(device=device, dtype=dtype))


def shade(
    normal: Float[Tensor, "*batch 3 height width"],
    albedo: Float[Tensor, "*batch 3 height width"],
    light: Float[Tensor, "*#batch 9 3"],
) -> Float[Tensor, "*batch 3 height width"]:
    """Albedo times spherical-harmonics light. The normals are used as they are, unit or not, as DECA does."""
    shading = shade_sh(normal.movedim(-3, -1), light[..., None, None, :, :])
    return albedo * shading.movedim(-1, -3)


def stack(conditions: list[Conditions]) -> Conditions:
    """Conditions of several heads, all of one size, as one batch."""
    fields = {name: [getattr(item, name) for item in conditions] for name in Conditions.__dataclass_fields__}
    return Conditions(**{name: torch.stack(maps) for name, maps in fields.items()})
