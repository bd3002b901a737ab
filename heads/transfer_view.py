"""HeadView: a head seen through a window of its photo, and what of it the photo shows."""

import math
from dataclasses import dataclass
from functools import cached_property

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn.functional import normalize

from ..geometry.camera import Camera
from ..geometry.code import HeadCode
from ..geometry.models.head_model import HeadModel
from ..geometry.raster import Raster, interpolate, rasterize, shade_sh, vertex_normals


@dataclass(frozen=True, eq=False)
class HeadView:
    """A head seen through the window's camera. Maps are (height, width, ...) of the window."""

    model: HeadModel
    code: HeadCode
    camera: Camera
    vertices: Float[Tensor, "verts 3"]
    bend: Float[Tensor, "verts 2"]  #: pixels that the photo's landmarks add to the projection
    unfolded: Float[Tensor, "verts 3"]  #: `unfolded` of the model

    @cached_property
    def raster(self) -> Raster:
        points = self.camera.to_homogeneous(self.vertices)
        bent = torch.cat([points[:, :2] + self.bend * points[:, 3:], points[:, 2:]], 1)
        return rasterize(bent[None], self.model.faces, self.camera.size)

    @cached_property
    def covered(self) -> Bool[Tensor, "height width"]:
        return self.raster.mask[0]

    @cached_property
    def normals(self) -> Float[Tensor, "verts 3"]:
        return vertex_normals(self.vertices, self.model.faces)

    @cached_property
    def facing(self) -> Float[Tensor, "verts 1"]:
        """Cosine between each vertex's normal and the direction to the camera."""
        eye = -self.camera.R.mT @ self.camera.t
        return (self.normals * normalize(eye - self.vertices, dim=-1)).sum(-1, keepdim=True)

    @cached_property
    def shading(self) -> Float[Tensor, "verts 3"]:
        """Light on each vertex."""
        assert self.code.light is not None
        return shade_sh(normalize(self.normals, dim=-1), self.code.light)

    @cached_property
    def pixel_size(self) -> float:
        """Metres that a pixel covers at the head's distance."""
        return float(self.camera.to_camera(self.vertices)[:, 2].median() / self.camera.K[0, 0])

    @cached_property
    def kinds(self) -> "Kinds":
        return Kinds.of(self)

    @cached_property
    def unfolded_map(self) -> Float[Tensor, "height width 4"]:
        """The unfolded surface point of every pixel, and 1 where there is one."""
        return torch.cat([self.attribute(self.unfolded), self.covered[..., None].to(self.vertices.dtype)], -1)

    def attribute(self, values: Float[Tensor, "verts chan"]) -> Float[Tensor, "height width chan"]:
        return interpolate(self.raster, values[None], self.model.faces)[0]


@dataclass(frozen=True, eq=False)
class Kinds:
    """What each pixel of a head belongs to."""

    face: Bool[Tensor, "height width"]  #: skin of the face, lips, lids, eyeballs: what expressions move
    mouth: Bool[Tensor, "height width"]  #: teeth, tongue, inside of the mouth
    fillable: Bool[Tensor, "height width"]  #: lids, eyes, lips: the model may fill what the photo does not show
    skin: Bool[Tensor, "height width"]  #: of the face, without eyeballs and lips

    @classmethod
    def of(cls, head: HeadView) -> "Kinds":
        regions, none = head.model.regions, torch.zeros(len(head.vertices), dtype=torch.bool)
        eyes, lids, lips = (regions.get(name, none) for name in ("eyes", "eyelids", "lips"))
        inner = torch.stack([regions.get(name, none) for name in ("mouth", "teeth", "tongue")]).any(0) & ~lips
        face = head.raster.face[0].clamp(min=0).long()

        def shown(vertices: Bool[Tensor, "verts"], every: bool) -> Bool[Tensor, "height width"]:
            corners = vertices[head.model.faces]
            faces = corners.all(1) if every else corners.any(1)
            return faces[face] & head.covered

        mouth = shown(inner, every=True)
        moving = shown((regions["face"] | eyes | lids | lips) & ~inner, every=False) & ~mouth
        fillable = shown(eyes | lids | lips, every=False) & ~mouth
        return cls(moving, mouth, fillable, moving & ~shown(eyes | lips | inner, every=False))


def unfolded(model: HeadModel) -> Float[Tensor, "verts 3"]:
    """A head whose lips and lids lie apart, so that points near each other on it are near on the skin."""
    code = model.neutral()
    names = {name: i for i, name in enumerate(model.expression_names)}
    if "jawOpen" in names:
        expression = code.expression.clone()
        expression[names["jawOpen"]] = 0.6
        for lid in ("eyeBlinkLeft", "eyeBlinkRight"):
            if lid in names:
                expression[names[lid]] = 0.5
        return model.vertices(code.with_(expression=expression))
    return model.vertices(code.with_(jaw=code.jaw + code.jaw.new_tensor([0.3, 0.0, 0.0])))


def same_point(
    old: HeadView, new: HeadView, was: Float[Tensor, "height width 2"], tolerance: float
) -> Bool[Tensor, "height width"]:
    """Whether the photo shows, at `was`, the very surface point that the new head shows here.

    Args:
        old: the head as it is in the photo.
        new: the changed head.
        was: where each pixel's surface point lay in the photo, pixels of the window.
        tolerance: metres on the unfolded surface.
    """
    height, width = new.covered.shape
    rows, columns = new.covered.nonzero(as_tuple=True)
    if not len(rows):
        return new.covered.clone()
    here = new.unfolded_map[rows, columns, :3]
    at = was[rows, columns]
    corner = at.floor().long()
    stacked = old.unfolded_map.flatten(0, 1)
    best = torch.full((len(rows),), math.inf)
    for dy in (-1, 0, 1):
        row = (corner[:, 1] + dy).clamp(0, height - 1) * width
        for dx in (-1, 0, 1):
            found = stacked[row + (corner[:, 0] + dx).clamp(0, width - 1)]
            distance = (found[:, :3] - here).square().sum(-1)
            best = torch.minimum(best, torch.where(found[:, 3] > 0, distance, math.inf))
    inside = (at >= 0).all(-1) & (at[:, 0] <= width) & (at[:, 1] <= height)
    out = torch.zeros_like(new.covered)
    out[rows, columns] = inside & (best < tolerance**2)
    return out


def shrinkage(was: Float[Tensor, "height width 2"]) -> Float[Tensor, "height width"]:
    """Area that each pixel's surroundings had in the photo, 1 where nothing changes."""
    right, down = torch.zeros_like(was), torch.zeros_like(was)
    right[..., 0], down[..., 1] = 1.0, 1.0
    right[:, 1:-1] = (was[:, 2:] - was[:, :-2]) / 2
    down[1:-1] = (was[2:] - was[:-2]) / 2
    return (right[..., 0] * down[..., 1] - right[..., 1] * down[..., 0]).abs()
