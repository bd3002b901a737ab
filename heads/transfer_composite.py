"""Put a changed head back into its photo: the photo's own pixels follow the mesh, the model fills what it uncovers.

    photo ──> warped: each pixel is fetched from where its surface point lay in the photo; beside the face the motion
              is continued smoothly to nothing (`transfer_field`), so that no old chin or lip is left behind
          ──> times the ratio of new to old shading (expression ratio image, Liu et al. 2001)
    model ──> what the photo does not show (inside of the mouth, lids that come down, eyes that open): rendered with
              the person's own texture and light, matched in colour to the photo around it
"""

import math
from dataclasses import dataclass, replace
from functools import cached_property

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn.functional import avg_pool2d, grid_sample, max_pool2d, normalize

from ..diffusion.conditions import Conditions
from ..geometry.camera import Camera
from ..geometry.code import HeadCode
from ..geometry.models.head_model import HeadModel
from ..geometry.raster import Raster, interpolate, rasterize, shade_sh, vertex_normals
from .transfer_field import extend_field


@dataclass(frozen=True)
class CompositeConfig:
    """How to put a head back into its photo. Lengths are in metres on the head unless said otherwise."""

    reach: float = 0.05  #: over which the motion beside the face falls to nothing
    same_point: float = 0.002  #: two surface points nearer than that are one: decides what the photo shows
    feather: float = 0.0012  #: width of the transition from photo to model
    ratio_limit: float = 1.6  #: largest change of brightness by changed normals, up or down
    mouth_kept: tuple[float, float] = (0.45, 0.75)  #: old over new opening: below, the model's mouth; above, the photo's
    mouth_depth: float = 0.018  #: behind the lips: over which the light in the mouth falls to 1/e


def composite(
    model: HeadModel,
    photo: Float[Tensor, "3 height width"],
    camera: Camera,
    old: HeadCode,
    new: HeadCode,
    albedo: Float[Tensor, "3 rows columns"],
    config: CompositeConfig | None = None,
) -> Float[Tensor, "3 height width"]:
    """The photo as if its head had another code.

    Args:
        model: head model with texture and the regions face, lips, eyelids and eyes.
        photo: sRGB 0..1.
        camera: the photo's camera.
        old: the head as it is in the photo, without batch axes.
        new: the head as it shall be.
        albedo: the person's texture.
        config: see `CompositeConfig`.

    Returns:
        The edited photo at full resolution. Pixels far from the head are the photo's, bit by bit; with `new` equal
        to `old` all are.
    """
    config = config or CompositeConfig()
    vertices = torch.stack([model.vertices(old), model.vertices(new)])
    left, top, right, bottom = _window(camera, vertices, config.reach)
    if right - left < 2 or bottom - top < 2:
        return photo.clone()
    window = camera.cropped(left, top, (bottom - top, right - left))
    heads = (_Head(model, old, window, vertices[0]), _Head(model, new, window, vertices[1]))
    source = photo[:, top:bottom, left:right]
    edited = _edit(source, *heads, albedo, config)
    out = photo.clone()
    out[:, top:bottom, left:right] = edited
    return out


@dataclass(frozen=True)
class _Head:
    """A head seen through the window's camera."""

    model: HeadModel
    code: HeadCode
    camera: Camera
    vertices: Float[Tensor, "verts 3"]

    @cached_property
    def raster(self) -> Raster:
        return rasterize(self.camera.to_homogeneous(self.vertices)[None], self.model.faces, self.camera.size)

    @cached_property
    def pixel_size(self) -> float:
        """Metres that a pixel covers at the head's distance."""
        return float(self.camera.to_camera(self.vertices)[:, 2].median() / self.camera.K[0, 0])

    def attribute(self, values: Float[Tensor, "verts chan"]) -> Float[Tensor, "height width chan"]:
        return interpolate(self.raster, values[None], self.model.faces)[0]

    def shading(self, normal: Float[Tensor, "*batch 3"]) -> Float[Tensor, "*batch 3"]:
        assert self.code.light is not None
        return shade_sh(normalize(normal, dim=-1), self.code.light)


def _edit(
    photo: Float[Tensor, "3 height width"], old: _Head, new: _Head, albedo: Tensor, config: CompositeConfig
) -> Float[Tensor, "3 height width"]:
    model, pixel = new.model, new.pixel_size
    feather = max(1.0, config.feather / pixel)
    covered = new.raster.mask[0]
    kinds = _kinds(new)

    # Where each visible surface point lay in the photo, and whether it was visible there.
    was = new.camera.project(new.attribute(old.vertices).flatten(0, 1)).unflatten(0, covered.shape)
    seen = covered & _same_point(old, new, was, config)

    moved_rigidly = not torch.equal(old.code.rotation, new.code.rotation) or not torch.equal(
        old.code.translation, new.code.translation
    )
    anchors = seen & (covered if moved_rigidly else kinds.face) & ~kinds.mouth
    # Nothing at the window's rim may move: the picture goes on there.
    here = _pixel_centres(covered.shape, photo)
    motion = torch.where(anchors[..., None], was - here, 0).permute(2, 0, 1)
    field = extend_field(motion, anchors, config.reach / pixel) * _rim_fade(covered.shape, photo)
    field = torch.where(anchors, motion, field)
    warped = _sample(photo, here + field.permute(1, 2, 0))

    ratio = _ratio(old, new, anchors, config)
    warped = (warped * ratio).clamp(0, 1)

    hidden = covered & ~seen & kinds.fillable
    keep_mouth = _mouth_kept(old, new, config)
    alpha = torch.where(kinds.mouth, 1 - keep_mouth, hidden.to(photo.dtype)) * covered
    alpha = _soft(alpha, feather) * torch.where(covered, 1.0, 0.0)
    if not bool((alpha > 0).any()):
        return warped
    model_picture = _rendered(new, albedo, warped, seen & ~kinds.mouth, kinds, config)
    return torch.lerp(warped, model_picture, alpha).clamp(0, 1)


@dataclass(frozen=True)
class _Kinds:
    """What each pixel of the new head belongs to."""

    face: Bool[Tensor, "height width"]  #: skin of the face, lips, lids, eyeballs: what expressions move
    mouth: Bool[Tensor, "height width"]  #: teeth, tongue, inside of the mouth
    fillable: Bool[Tensor, "height width"]  #: lids, eyes, lips: the model may fill what the photo does not show
