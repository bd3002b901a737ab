"""Surfaces to look at: a mesh with how it is coloured."""

from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import torch
from jaxtyping import Float, Int, UInt8
from torch import Tensor

from ...geometry.models.head_model import HeadModel
from ...geometry.raster import vertex_normals
from ..export.ply import vertex_colors
from .mouth_shade import shaded_mouth


@dataclass(frozen=True, eq=False)
class Surface:
    """A mesh in the world, metres, with a texture or a colour per vertex; neither: clay."""

    vertices: Float[Tensor, "verts 3"]
    faces: Int[Tensor, "faces 3"]  #: counter-clockwise seen from outside
    colors: Float[Tensor, "verts 3"] | None = None  #: sRGB 0..1
    texture: UInt8[np.ndarray, "rows columns 3"] | None = None  #: sRGB, row 0 at v = 1
    uvs: Float[Tensor, "texcoords 2"] | None = None
    uv_faces: Int[Tensor, "faces 3"] | None = None
    owner: Int[Tensor, "texcoords"] | None = None  #: the vertex of each texture coordinate

    @cached_property
    def normals(self) -> Float[Tensor, "verts 3"]:
        """Unit, outwards; 0 where a vertex has no area."""
        return vertex_normals(self.vertices, self.faces)

    @property
    def textured(self) -> bool:
        return self.texture is not None and self.uvs is not None

    def moved(self, vertices: Float[Tensor, "verts 3"]) -> "Surface":
        """The same surface with its vertices elsewhere."""
        return replace(self, vertices=vertices)


def surface_of(model: HeadModel, albedo: Float[Tensor, "3 rows columns"] | None) -> Surface:
    """A head model's surface at rest, as a fit colours it.

    Args:
        model: head model.
        albedo: UV texture, sRGB 0..1; without it, or without texture coordinates, parts have plain colours.
    """
    faces = model.faces.int()
    if albedo is None or model.uvs is None or model.uv_faces is None:
        return Surface(model.template, faces, colors=vertex_colors(model, None))
    with torch.inference_mode():  # which is also what keeps torch's compiler from being loaded
        albedo = shaded_mouth(model, albedo)
    texture = (albedo.clamp(0, 1) * 255).round().byte().permute(1, 2, 0).contiguous().numpy()
    owner = torch.zeros(len(model.uvs), dtype=torch.long)
    owner[model.uv_faces.flatten().long()] = model.faces.flatten().long()
    return Surface(model.template, faces, None, texture, model.uvs.float(), model.uv_faces.int(), owner)
