"""DECA's pictures of a head: rasterise a projected mesh, then look up textures, normals and light per pixel.

All pictures are of one rasterisation. Upstream makes three, and moves the mesh 10 further away each time, in place;
with its weak perspective that changes nothing but which of two faces wins a pixel on their common edge. It also
gathers every vertex attribute from the first item of a batch; here each item has its own.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from ..camera import WeakPerspective
from ..models.head_model import HeadModel
from ..raster import Raster, interpolate, rasterize, shade_sh
from .lights import directional_lights, show_lights
from .uv_maps import sample

#: Grey of shapes shown without texture.
GREY = 180 / 255

#: A pixel belongs to a shown shape if its normal's z, in the camera's axes (z forward), is below this.
_FACING = 0.15


@dataclass(frozen=True)
class HeadRaster:
    """A head rasterised on a picture."""

    model: HeadModel
    raster: Raster
    normals: Float[Tensor, "batch verts 3"]  #: unit, world
    projected_normals: Float[Tensor, "batch verts 3"]  #: unit, of the projected mesh (y and z flipped)

    @classmethod
    def of(
        cls,
        model: HeadModel,
        ndc: Float[Tensor, "batch verts 3"],
        normals: Float[Tensor, "batch verts 3"],
        projected_normals: Float[Tensor, "batch verts 3"],
        size: tuple[int, int],
    ) -> "HeadRaster":
        """Args:
        model: whose faces and texture coordinates to use.
        ndc: projected vertices: x, y in -1..1 over the picture, z forward.
        normals: unit normals of the mesh in the world.
        projected_normals: unit normals of the projected mesh.
        size: (height, width) of the picture, pixels.
        """
        flipped = ndc * ndc.new_tensor([1.0, -1.0, -1.0])
        points = WeakPerspective(flipped.new_tensor([1.0, 0.0, 0.0])).to_homogeneous(flipped, size)
        return cls(model, rasterize(points, model.faces, size), normals, projected_normals)

    @property
    def alpha(self) -> Float[Tensor, "batch 1 height width"]:
        """1 where the head is."""
        return self.raster.mask.unsqueeze(1).to(self.normals.dtype)

    @property
    def grid(self) -> Float[Tensor, "batch height width 2"]:
        """Texture coordinates of each pixel as `sample` takes them; 0 beside the head."""
        assert self.model.uvs is not None and self.model.uv_faces is not None
        grid = self.model.uvs * self.model.uvs.new_tensor([2.0, -2.0]) + self.model.uvs.new_tensor([-1.0, 1.0])
        return interpolate(self.raster, grid[None], self.model.uv_faces)

    @property
    def normal_image(self) -> Float[Tensor, "batch 3 height width"]:
        """Interpolated world normals (not unit between vertices); 0 beside the head."""
        return interpolate(self.raster, self.normals, self.model.faces).movedim(-1, 1)

    def texture_image(
        self, texture: Float[Tensor, "#batch chan rows columns"]
    ) -> Float[Tensor, "batch chan height width"]:
        """A texture on the head; 0 beside it."""
        return sample(texture, self.grid) * self.alpha

    def lit_image(
        self, albedo: Float[Tensor, "#batch 3 rows columns"], light: Float[Tensor, "#batch 9 3"]
    ) -> Float[Tensor, "batch 3 height width"]:
        """Albedo times spherical-harmonics light; 0 beside the head."""
        return self.texture_image(albedo) * shade_map(self.normal_image, light)

    def shape_image(
        self, detail: Float[Tensor, "batch 3 rows columns"] | None = None
    ) -> Float[Tensor, "batch 3 height width"]:
        """The grey head under five lights; black beside it and where it turns away.

        Args:
            detail: normals in texture space that take the place of the mesh's.
        """
        normals = self.normal_image
        facing = interpolate(self.raster, self.projected_normals, self.model.faces)[..., 2] < _FACING
        alpha = self.alpha * facing.unsqueeze(1)
        if detail is not None:
            normals = sample(detail, self.grid) * alpha
        flat = normals.flatten(-2).mT
        shading = directional_lights(flat, show_lights(normals)[None])
        return GREY * shading.mT.unflatten(-1, normals.shape[-2:]) * alpha


def shade_map(
    normals: Float[Tensor, "batch 3 rows columns"], light: Float[Tensor, "#batch 9 3"]
) -> Float[Tensor, "batch 3 rows columns"]:
    """Spherical-harmonics light for a picture of normals, used as they are, unit or not."""
    return shade_sh(normals.movedim(1, -1), light[:, None, None]).movedim(-1, 1)


def blank_albedo(like: Tensor, batch: int, size: int) -> Float[Tensor, "batch 3 size size"]:
    """What DECA takes without a texture model: black."""
    return torch.zeros(batch, 3, size, size, dtype=like.dtype, device=like.device)
