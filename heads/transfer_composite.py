"""Put a changed head back into its photo: the photo's own pixels follow the mesh, the model fills what it uncovers.

photo ──> warped: each pixel is fetched from where its surface point lay in the photo; beside the face the motion
          is continued smoothly to nothing (`transfer_field`), so that no old chin or lip is left behind
      ──> times the ratio of new to old shading (expression ratio image, Liu et al. 2001)
model ──> what the photo does not show (inside of the mouth, lids that come down, eyes that open): rendered with
          the person's own texture and light, matched in colour to the photo around it
"""

import math
from dataclasses import dataclass
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
from .transfer_align import bend_to_landmarks
from .transfer_field import extend_field

_DARKEST = 0.15  # shading below this is not divided by: it would only bring up noise


@dataclass(frozen=True)
class CompositeConfig:
    """How to put a head back into its photo. Lengths are in metres on the head unless said otherwise."""

    reach: float = 0.05  #: over which the motion beside the face falls to nothing
    same_point: float = 0.002  #: two surface points nearer than that are one: decides what the photo shows
    feather: float = 0.0012  #: width of the transition from photo to model
    stretch: float = 0.3  #: area that a pixel had in the photo, below which lids and lips are not spread out further
    ratio_limit: float = 1.6  #: largest change of brightness by changed normals, up or down
    light_limit: float = 3.0  #: likewise by another light
    mouth_kept: tuple[float, float] = (
        0.45,
        0.75,
    )  #: old over new opening: below, the model's mouth; above, the photo's
    #: Behind the lips, over which the light in the mouth falls to 1/e: red travels farthest between red walls.
    mouth_depth: tuple[float, float, float] = (0.032, 0.021, 0.020)
    mouth_floor: float = 0.2  #: light that reaches any depth
    grazing: tuple[float, float] = (0.3, 0.15)  #: cosine below which the photo shows too little; gain that matters


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
    config = config or CompositeConfig()
    vertices = torch.stack([model.vertices(old), model.vertices(new)])
    left, top, right, bottom = _window(camera, vertices, config.reach)
    if right - left < 2 or bottom - top < 2:
        return photo.clone()
    window = camera.cropped(left, top, (bottom - top, right - left))
    unfolded = _unfolded(model)
    bends = torch.zeros(2, len(model.template), 2)
    if landmarks is not None and "478" in model.landmarks:
        bend = bend_to_landmarks(model, unfolded, vertices[0], vertices[1], camera, landmarks)
        bends = torch.stack([bend.old, bend.new])
    pair = zip((old, new), vertices, bends, strict=True)
    heads = tuple(_Head(model, code, window, points, bend, unfolded) for code, points, bend in pair)
    source = photo[:, top:bottom, left:right]
    goes_on = (left > 0, top > 0, right < photo.shape[2], bottom < photo.shape[1])
    edited = _edit(source, heads[0], heads[1], albedo, goes_on, config)
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
    bend: Float[Tensor, "verts 2"]  #: pixels that the photo's landmarks add to the projection
    unfolded: Float[Tensor, "verts 3"]  #: `_unfolded` of the model

    @cached_property
    def raster(self) -> Raster:
        points = self.camera.to_homogeneous(self.vertices)
        bent = torch.cat([points[:, :2] + self.bend * points[:, 3:], points[:, 2:]], 1)
        return rasterize(bent[None], self.model.faces, self.camera.size)

    @cached_property
    def normals(self) -> Float[Tensor, "verts 3"]:
        return vertex_normals(self.vertices, self.model.faces)

    @cached_property
    def facing(self) -> Float[Tensor, "verts 1"]:
        """Cosine between each vertex's normal and the direction to the camera."""
        eye = -self.camera.R.mT @ self.camera.t
        return (self.normals * normalize(eye - self.vertices, dim=-1)).sum(-1, keepdim=True)

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
    photo: Float[Tensor, "3 height width"],
    old: _Head,
    new: _Head,
    albedo: Tensor,
    goes_on: tuple[bool, bool, bool, bool],
    config: CompositeConfig,
) -> Float[Tensor, "3 height width"]:
    pixel, covered, kinds = new.pixel_size, new.raster.mask[0], _Kinds.of(new)

    # Where each visible surface point lay in the photo, and whether the photo shows it there.
    was = new.camera.project(new.attribute(old.vertices).flatten(0, 1)).unflatten(0, covered.shape)
    was = was + new.attribute(old.bend)
    seen = covered & _same_point(old, new, was, config)

    turned = any(
        not torch.equal(getattr(old.code, n), getattr(new.code, n)) for n in ("rotation", "translation", "neck")
    )
    anchors = seen & (covered if turned else kinds.face) & ~kinds.mouth
    here = _pixel_centres(covered.shape, photo)
    motion = torch.where(anchors[..., None], was - here, 0).permute(2, 0, 1)
    field = extend_field(motion, anchors, config.reach / pixel)
    field = torch.where(anchors, motion, field * _rim_fade(covered.shape, photo, goes_on, config.reach / pixel))
    warped = _sample(photo, here + field.permute(1, 2, 0))
    warped = (warped * _ratio(old, new, anchors, config)).clamp(0, 1)

    # Lids and lips that the photo shows edge-on have too few pixels there to be spread out.
    least, gain = config.grazing
    before, after = new.attribute(old.facing)[..., 0], new.attribute(new.facing)[..., 0]
    edge_on = (before < least) & (after > before + gain) | (_shrinkage(was) < config.stretch)
    hidden = (covered & (~seen | edge_on) & kinds.fillable).to(photo.dtype)
    alpha = torch.where(kinds.mouth, 1 - _mouth_kept(old, new, config), hidden)
    alpha = _soft(alpha, max(1, round(config.feather / pixel))) * covered
    if not bool((alpha > 0).any()):
        return warped
    picture = _rendered(new, albedo, warped, seen & ~kinds.mouth, kinds, config)
    return torch.lerp(warped, picture, alpha)


@dataclass(frozen=True)
class _Kinds:
    """What each pixel of a head belongs to."""

    face: Bool[Tensor, "height width"]  #: skin of the face, lips, lids, eyeballs: what expressions move
    mouth: Bool[Tensor, "height width"]  #: teeth, tongue, inside of the mouth
    fillable: Bool[Tensor, "height width"]  #: lids, eyes, lips: the model may fill what the photo does not show

    @classmethod
    def of(cls, head: _Head) -> "_Kinds":
        regions, none = head.model.regions, torch.zeros(len(head.vertices), dtype=torch.bool)
        eyes, lids, lips = (regions.get(name, none) for name in ("eyes", "eyelids", "lips"))
        inner = torch.stack([regions.get(name, none) for name in ("mouth", "teeth", "tongue")]).any(0) & ~lips

        def shown(vertices: Bool[Tensor, "verts"], every: bool) -> Bool[Tensor, "height width"]:
            corners = vertices[head.model.faces]
            faces = corners.all(1) if every else corners.any(1)
            return faces[head.raster.face[0].clamp(min=0).long()] & head.raster.mask[0]

        mouth = shown(inner, every=True)
        face = shown((regions["face"] | eyes | lids | lips) & ~inner, every=False) & ~mouth
        return cls(face, mouth, shown(eyes | lids | lips, every=False) & ~mouth)


def _unfolded(model: HeadModel) -> Float[Tensor, "verts 3"]:
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


def _same_point(
    old: _Head, new: _Head, was: Float[Tensor, "height width 2"], config: CompositeConfig
) -> Bool[Tensor, "height width"]:
    """Whether the photo shows, at `was`, the very surface point that the new head shows here."""
    here, there = new.attribute(new.unfolded), old.attribute(old.unfolded)
    height, width = here.shape[:2]
    tolerance = max(config.same_point, 2 * new.pixel_size)
    best = torch.full((height, width), math.inf)
    stacked = torch.cat([there, old.raster.mask[0, ..., None].to(there.dtype)], -1)
    for dy in (-1, 0, 1):
        for dx in (-1, 0, 1):
            column = (was[..., 0].floor().long() + dx).clamp(0, width - 1)
            row = (was[..., 1].floor().long() + dy).clamp(0, height - 1)
            found = stacked[row, column]
            distance = (found[..., :3] - here).norm(dim=-1)
            best = torch.minimum(best, torch.where(found[..., 3] > 0, distance, math.inf))
    inside = (was >= 0).all(-1) & (was[..., 0] <= width) & (was[..., 1] <= height)
    return inside & (best < tolerance)


def _shrinkage(was: Float[Tensor, "height width 2"]) -> Float[Tensor, "height width"]:
    """Area that each pixel's surroundings had in the photo, 1 where nothing changes."""
    right, down = torch.ones_like(was), torch.ones_like(was)
    right[:, 1:-1] = (was[:, 2:] - was[:, :-2]) / 2
    down[1:-1] = (was[2:] - was[:-2]) / 2
    return (right[..., 0] * down[..., 1] - right[..., 1] * down[..., 0]).abs()


def _ratio(
    old: _Head, new: _Head, anchors: Bool[Tensor, "height width"], config: CompositeConfig
) -> Float[Tensor, "3 height width"]:
    """New over old shading of each surface point, continued to 1 beside the face."""
    if old.code.light is None or new.code.light is None:
        return torch.ones(3, *anchors.shape)
    before = old.shading(new.attribute(old.normals))
    after = new.shading(new.attribute(new.normals))
    relit = not torch.equal(old.code.light, new.code.light)
    limit = math.log(config.light_limit if relit else config.ratio_limit)
    change = (after.clamp(min=_DARKEST) / before.clamp(min=_DARKEST)).log().clamp(-limit, limit)
    known = anchors & new.raster.mask[0]
    pixels = config.reach / 2 / new.pixel_size
    return extend_field(torch.where(known[..., None], change, 0).permute(2, 0, 1), known, pixels).exp()


def _mouth_kept(old: _Head, new: _Head, config: CompositeConfig) -> float:
    """How far the inside of the mouth is taken from the photo: 1 where it was about as open as it shall be."""
    before, after = (int(_Kinds.of(head).mouth.sum()) * head.pixel_size**2 for head in (old, new))
    if after == 0:
        return 1.0
    low, high = config.mouth_kept
    t = min(1.0, max(0.0, (before / after - low) / (high - low)))
    return t * t * (3 - 2 * t)


def _rendered(
    new: _Head,
    albedo: Float[Tensor, "3 rows columns"],
    warped: Float[Tensor, "3 height width"],
    trusted: Bool[Tensor, "height width"],
    kinds: _Kinds,
    config: CompositeConfig,
) -> Float[Tensor, "3 height width"]:
    """The model's own picture of the new head, in the colours of the photo around it, dim inside the mouth."""
    maps = Conditions.of_raster(new.model, new.vertices, new.raster, albedo, new.code.light)
    picture = maps.shaded.clamp(min=0)
    if bool(trusted.any()):
        radius = max(1, round(4 * config.feather / new.pixel_size))
        share = trusted.to(picture.dtype)
        blurred = _box(torch.cat([warped * share, picture * share]), radius)
        floor = _DARKEST * _box(share[None], radius)
        log_gain = ((blurred[:3] + floor) / (blurred[3:] + floor).clamp(min=1e-6)).log().clamp(-0.35, 0.35)
        log_gain = extend_field(log_gain, trusted, None)
        if bool(kinds.mouth.any()):
            # The lips' colour says nothing about teeth; their brightness does, about the light.
            log_gain = torch.where(kinds.mouth, log_gain[:, kinds.mouth].mean(), log_gain)
        picture = picture * log_gain.exp()
    if bool(kinds.mouth.any()):
        outside = new.raster.mask[0] & ~kinds.mouth
        lips = extend_field(maps.depth[None], outside, None)[0]
        behind = (maps.depth - lips).clamp(min=0)
        dim = torch.exp(-behind / picture.new_tensor(config.mouth_depth)[:, None, None])
        picture = torch.where(kinds.mouth, picture * (config.mouth_floor + (1 - config.mouth_floor) * dim), picture)
        # Edges of teeth and lips are stairs of pixels until they are smoothed a little.
        radius = max(1, round(config.feather / 2 / new.pixel_size))
        near = _soft(kinds.mouth.to(picture.dtype), radius)
        picture = torch.lerp(picture, _box(picture, radius), near)
    return picture.clamp(0, 1)


def _window(camera: Camera, vertices: Float[Tensor, "two verts 3"], reach: float) -> tuple[int, int, int, int]:
    """(left, top, right, bottom) of the photo around both heads and what moves beside them."""
    pixels = camera.project(vertices).flatten(0, 1)
    scale = float(camera.K[0, 0] / camera.to_camera(vertices)[..., 2].median())
    margin = 2.5 * reach * scale
    height, width = camera.size
    low, high = pixels.amin(0) - margin, pixels.amax(0) + margin
    left, top = (max(0, math.floor(float(x))) for x in low)
    return left, top, min(width, math.ceil(float(high[0]))), min(height, math.ceil(float(high[1])))


def _pixel_centres(shape: torch.Size, like: Tensor) -> Float[Tensor, "height width 2"]:
    y, x = (torch.arange(n, dtype=like.dtype) + 0.5 for n in shape)
    return torch.stack(torch.meshgrid(x, y, indexing="xy"), -1)


def _sample(
    photo: Float[Tensor, "3 height width"], pixels: Float[Tensor, "height width 2"]
) -> Float[Tensor, "3 height width"]:
    """Bicubic lookup; within a hundredth of a pixel of its centre, the pixel itself."""
    height, width = photo.shape[-2:]
    grid = pixels / pixels.new_tensor([width, height]) * 2 - 1
    picture = grid_sample(photo[None], grid[None], mode="bicubic", padding_mode="border", align_corners=False)[0]
    still = (pixels - _pixel_centres(photo.shape[-2:], photo)).abs().amax(-1) < 0.01
    return torch.where(still, photo, picture.clamp(0, 1))


def _rim_fade(shape: torch.Size, like: Tensor, sides: tuple[bool, bool, bool, bool], margin: float) -> Tensor:
    """1 inside, falling smoothly to 0 at those sides (left, top, right, bottom) where the photo goes on."""
    height, width = shape
    x, y = torch.arange(width, dtype=like.dtype) + 0.5, torch.arange(height, dtype=like.dtype) + 0.5
    fade = torch.ones(height, width, dtype=like.dtype)
    for wanted, distance in zip(sides, (x[None], y[:, None], width - x[None], height - y[:, None]), strict=True):
        if wanted:
            t = (distance / margin).clamp(0, 1)
            fade = fade * t * t * (3 - 2 * t)
    return fade


def _box(image: Float[Tensor, "chan height width"], radius: int) -> Float[Tensor, "chan height width"]:
    return avg_pool2d(image[None], 2 * radius + 1, 1, radius, count_include_pad=False)[0]


def _soft(mask: Float[Tensor, "height width"], radius: int) -> Float[Tensor, "height width"]:
    """A mask grown by `radius` pixels and blurred over as many."""
    grown = max_pool2d(mask[None, None], 2 * radius + 1, 1, radius)[0]
    return _box(grown, radius)[0]
