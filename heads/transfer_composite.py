"""Put a changed head back into its photo: the photo's own pixels follow the mesh, the model fills what it uncovers.

photo ──> warped: each pixel is fetched from where its surface point lay in the photo; beside the face the motion
          is continued smoothly to nothing (`transfer_field`), so that no old chin or lip is left behind
      ──> times the ratio of new to old shading (expression ratio image, Liu et al. 2001)
      ──> mended: skin drawn out of too few pixels is smoothed, edges of lids and lips lose their stairs
model ──> what the photo does not show (inside of the mouth, lids that come down, eyes that open): rendered with
          the person's own texture and light, matched in colour to the photo around it
"""

import math
from dataclasses import dataclass, field, replace
from functools import cached_property

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from ..diffusion.conditions import Conditions
from ..geometry.camera import Camera
from ..geometry.code import HeadCode
from ..geometry.models.head_model import HeadModel
from .transfer_align import bend_to_landmarks
from .transfer_field import extend_field
from .transfer_mouth import MouthConfig, close_lips, light_mouth, mouth_kept
from .transfer_pixels import box, pixel_centres, rim_fade, sample, soft, step
from .transfer_view import HeadView, same_point, shrinkage, unfolded

_DARKEST = 0.15  # shading below this is not divided by: it would only bring up noise


@dataclass(frozen=True)
class CompositeConfig:
    """How to put a head back into its photo. Lengths are in metres on the head unless said otherwise."""

    reach: float = 0.05  #: over which the motion beside the face falls to nothing
    same_point: float = 0.002  #: two surface points nearer than that are one: decides what the photo shows
    feather: float = 0.0012  #: width of the transition from photo to model
    stretch: float = 0.3  #: area that a pixel had in the photo, below which lids and lips are not spread out further
    drawn: tuple[float, float] = (0.65, 0.35)  #: likewise of skin: smoothed from the first on, wholly from the second
    smooth: float = 0.0022  #: radius of that smoothing
    even: float = 0.6  #: share of the surrounding skin's colour in it
    seam: float = 1.5  #: pixels by which neighbours come from places further apart than they are: an edge
    ratio_limit: float = 1.6  #: largest change of brightness by changed normals, up or down
    light_limit: float = 3.0  #: likewise by another light
    grazing: tuple[float, float] = (0.3, 0.15)  #: cosine below which the photo shows too little; gain that matters
    mouth: MouthConfig = field(default_factory=MouthConfig)


def composite(
    model: HeadModel,
    photo: Float[Tensor, "3 height width"],
    camera: Camera,
    old: HeadCode,
    new: HeadCode,
    albedo: Float[Tensor, "3 rows columns"],
    landmarks: Float[Tensor, "478 2"] | None = None,
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
        landmarks: detected in the photo, pixels: lips meet where these say they are.
        config: see `CompositeConfig`.

    Returns:
        The edited photo at full resolution. Pixels far from the head are the photo's, bit by bit; with `new` equal
        to `old` all are.
    """
    return Canvas(model, photo, camera, old, albedo, landmarks, config or CompositeConfig()).picture(new)


@dataclass(frozen=True, eq=False)
class Canvas:
    """A photo and its head, prepared for any number of other codes."""

    model: HeadModel
    photo: Float[Tensor, "3 height width"]
    camera: Camera
    code: HeadCode
    albedo: Float[Tensor, "3 rows columns"]
    landmarks: Float[Tensor, "478 2"] | None = None
    config: CompositeConfig = field(default_factory=CompositeConfig)

    @cached_property
    def vertices(self) -> Float[Tensor, "verts 3"]:
        return self.model.vertices(self.code)

    @cached_property
    def unfolded(self) -> Float[Tensor, "verts 3"]:
        return unfolded(self.model)

    def picture(self, new: HeadCode) -> Float[Tensor, "3 height width"]:
        """The photo with another code: see `composite`."""
        moved = self.model.vertices(new)
        turned = any(
            not torch.equal(getattr(self.code, n), getattr(new, n)) for n in ("rotation", "translation", "neck")
        )
        both = torch.stack([self.vertices, moved])
        left, top, right, bottom = self._window(both if turned else both[:, self.model.regions["face"]])
        if right - left < 2 or bottom - top < 2:
            return self.photo.clone()
        window = self.camera.cropped(left, top, (bottom - top, right - left))
        bends = torch.zeros(2, len(moved), 2)
        if self.landmarks is not None and "478" in self.model.landmarks:
            bend = bend_to_landmarks(self.model, self.unfolded, self.vertices, moved, self.camera, self.landmarks)
            bends = torch.stack([bend.old, bend.new])
        before, after = (
            HeadView(self.model, code, window, points, bend, self.unfolded)
            for code, points, bend in zip((self.code, new), both, bends, strict=True)
        )
        goes_on = (left > 0, top > 0, right < self.photo.shape[2], bottom < self.photo.shape[1])
        out = self.photo.clone()
        out[:, top:bottom, left:right] = _edit(
            self.photo[:, top:bottom, left:right], before, after, self.albedo, turned, goes_on, self.config
        )
        return out

    def _window(self, vertices: Float[Tensor, "two verts 3"]) -> tuple[int, int, int, int]:
        """(left, top, right, bottom) of the photo around both heads and what moves beside them."""
        pixels = self.camera.project(vertices).flatten(0, 1)
        scale = float(self.camera.K[0, 0] / self.camera.to_camera(vertices)[..., 2].median())
        margin = 2.5 * self.config.reach * scale
        height, width = self.camera.size
        low, high = pixels.amin(0) - margin, pixels.amax(0) + margin
        left, top = (max(0, math.floor(float(x))) for x in low)
        return left, top, min(width, math.ceil(float(high[0]))), min(height, math.ceil(float(high[1])))


def _edit(
    photo: Float[Tensor, "3 height width"],
    old: HeadView,
    new: HeadView,
    albedo: Tensor,
    turned: bool,
    goes_on: tuple[bool, bool, bool, bool],
    config: CompositeConfig,
) -> Float[Tensor, "3 height width"]:
    pixel, covered, kinds = new.pixel_size, new.covered, new.kinds
    values = [old.vertices, old.bend, old.facing, new.facing, _log_ratio(old, new, config)]
    points, bend, before, after, ratio = new.attribute(torch.cat(values, 1)).split([3, 2, 1, 1, 3], -1)

    # Where each visible surface point lay in the photo, and whether the photo shows it there.
    here = pixel_centres(covered.shape, photo)
    was = new.camera.project(points.flatten(0, 1)).unflatten(0, covered.shape) + bend
    was = torch.where(covered[..., None], was, here)
    seen = same_point(old, new, was, max(config.same_point, 2 * pixel))

    anchors = seen & (covered if turned else kinds.face) & ~kinds.mouth
    motion = torch.where(anchors[..., None], was - here, 0).permute(2, 0, 1)
    move = extend_field(motion, anchors, config.reach / pixel)
    move = torch.where(anchors, motion, move * rim_fade(covered.shape, photo, goes_on, config.reach / pixel))
    gain = extend_field(torch.where(anchors[..., None], ratio, 0).permute(2, 0, 1), anchors, config.reach / 2 / pixel)
    warped = (sample(photo, here + move.permute(1, 2, 0)) * gain.exp()).clamp(0, 1)
    area = shrinkage(was)
    warped = _mended(warped, move, area, new, config)

    # Lids and lips that the photo shows edge-on have too few pixels there to be spread out.
    least, more = config.grazing
    edge_on = ((before < least) & (after > before + more))[..., 0] | (area < config.stretch)
    hidden = (covered & (~seen | edge_on) & kinds.fillable).to(photo.dtype)
    alpha = torch.where(kinds.mouth, 1 - mouth_kept(old, new, config.mouth), hidden)
    radius = max(1, round(config.feather / pixel))
    part = _around(alpha > 0, 2 * radius)
    if part is None:
        return close_lips(warped, old, new, config.mouth)
    alpha[part] = soft(alpha[part], radius) * covered[part]
    # The colours around what is filled matter, too.
    part = _around(alpha > 0, 8 * radius)
    assert part is not None
    every = (slice(None), *part)
    filled = _filled(_cropped(new, part), albedo, warped[every], seen[part], config)
    warped[every] = torch.lerp(warped[every], filled, alpha[part])
    return close_lips(warped, old, new, config.mouth)


def _log_ratio(old: HeadView, new: HeadView, config: CompositeConfig) -> Float[Tensor, "verts 3"]:
    """Logarithm of new over old shading of each vertex."""
    if old.code.light is None or new.code.light is None:
        return torch.zeros_like(old.vertices)
    relit = not torch.equal(old.code.light, new.code.light)
    limit = math.log(config.light_limit if relit else config.ratio_limit)
    return (new.shading.clamp(min=_DARKEST) / old.shading.clamp(min=_DARKEST)).log().clamp(-limit, limit)


def _mended(
    warped: Float[Tensor, "3 height width"],
    move: Float[Tensor, "2 height width"],
    area: Float[Tensor, "height width"],
    new: HeadView,
    config: CompositeConfig,
) -> Float[Tensor, "3 height width"]:
    """Without the streaks of skin that was drawn out of a few pixels (lids that close), and without stairs at edges.

    Args:
        move: where each pixel came from, relative to it.
        area: what it had in the photo, pixels.
    """
    skin = new.kinds.skin
    drawn = step(area, *config.drawn) * skin
    radius = max(1, round(config.smooth / new.pixel_size))
    part = _around(drawn > 0, 4 * radius)
    if part is not None:
        every = (slice(None), *part)
        # Pixels that show more of the skin say more about its colour; brows and lashes say nothing.
        share = skin[part] * area[part].clamp(0.02, 1)
        bright = warped[every].mean(0)
        share = (share * step(bright / bright[skin[part]].median(), 0.5, 0.75))[None]
        mixed = torch.cat([warped[every] * share, share])
        near, far = (box(box(mixed, r), r) for r in (radius, 3 * radius))
        near, far = (blurred[:3] / blurred[3:].clamp(min=1e-6) for blurred in (near, far))
        # A gleam under the brow shall not fill the lid.
        smooth = torch.lerp(near, far, config.even)
        weight = box(drawn[part][None], max(1, radius // 2))
        warped[every] = torch.lerp(warped[every], smooth, weight * skin[part])
    edge = torch.zeros_like(new.covered)
    across = (move[:, :, 1:] - move[:, :, :-1]).abs().amax(0) > config.seam
    down = (move[:, 1:] - move[:, :-1]).abs().amax(0) > config.seam
    edge[:, 1:] |= across
    edge[1:] |= down
    part = _around(edge & new.covered, 3)
    if part is not None:
        every = (slice(None), *part)
        weight = soft((edge & new.covered)[part].to(warped.dtype), 1)
        warped[every] = torch.lerp(warped[every], box(warped[every], 1), weight)
    return warped


def _filled(
    new: HeadView,
    albedo: Float[Tensor, "3 rows columns"],
    warped: Float[Tensor, "3 height width"],
    seen: Bool[Tensor, "height width"],
    config: CompositeConfig,
) -> Float[Tensor, "3 height width"]:
    """The model's own picture of the new head, in the colours of the photo around it, dim inside the mouth."""
    kinds = new.kinds
    trusted = seen & ~kinds.mouth
    maps = Conditions.of_raster(new.model, new.vertices, new.raster, albedo, new.code.light)
    picture = maps.shaded.clamp(min=0)
    log_gain = torch.zeros_like(picture)
    if bool(trusted.any()):
        radius = max(1, round(4 * config.feather / new.pixel_size))
        share = trusted.to(picture.dtype)
        blurred = box(torch.cat([warped * share, picture * share, share[None]]), radius)
        floor = _DARKEST * blurred[6:]
        here, there = ((x + floor).clamp(min=1e-6) for x in (blurred[:3], blurred[3:6]))
        log_gain = (here / there).log().clamp(-0.35, 0.35)
        log_gain = extend_field(log_gain, trusted, None)
        picture = picture * log_gain.exp()
    if bool(kinds.mouth.any()):
        # The lips' colour says nothing about teeth; their brightness does, about the light.
        gain = log_gain[:, kinds.mouth].mean().exp().expand(3)
        picture = torch.where(kinds.mouth, light_mouth(new, maps, gain, config.mouth), picture)
        # Edges of teeth and lips are stairs of pixels until they are smoothed a little.
        radius = max(1, round(config.feather / 2 / new.pixel_size))
        near = soft(kinds.mouth.to(picture.dtype), radius)
        picture = torch.lerp(picture, box(picture, radius), near)
    return picture.clamp(0, 1)


def _cropped(head: HeadView, part: tuple[slice, slice]) -> HeadView:
    """The same head through a part of its window."""
    rows, columns = part
    size = (rows.stop - rows.start, columns.stop - columns.start)
    return replace(head, camera=head.camera.cropped(columns.start, rows.start, size))


def _around(mask: Bool[Tensor, "height width"], margin: int) -> tuple[slice, slice] | None:
    """Rows and columns of what is set and some more; None where nothing is."""
    spans = []
    for axis in (1, 0):
        found = mask.any(axis).nonzero()[:, 0]
        if not len(found):
            return None
        spans.append(slice(max(0, int(found[0]) - margin), min(mask.shape[1 - axis], int(found[-1]) + 1 + margin)))
    return spans[0], spans[1]
