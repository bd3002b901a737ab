"""The inside of the mouth: where the photo's is kept, and how the model's is lit.

The light there comes through the opening. It is dim far behind the lips, where the walls are red, and dimmer still
where the lips shade it: towards the corners and under the upper lip, light mostly coming from above.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn.functional import interpolate, normalize

from ..diffusion.conditions import Conditions
from ..geometry.landmarks.mesh478 import INNER_LIPS
from ..geometry.models.head_model import HeadModel
from ..geometry.raster import shade_sh
from ..geometry.texture.default_albedo import default_albedo
from ..geometry.texture.uv_raster import rasterize_uv, to_uv
from .transfer_field import extend_field
from .transfer_pixels import box, pixel_centres, step
from .transfer_view import HeadView

#: Angles about the middle of the dental arch of the borders between teeth, radians from the midline: the usual widths
#: of incisors, canines and premolars on an arch of 4 cm.
_UPPER = (0.0, 0.24, 0.43, 0.63, 0.82, 1.01)
_LOWER = (0.0, 0.15, 0.32, 0.51, 0.70, 0.89)
_ARCH = 0.039  # metres from the front teeth back to the middle of the arch
_BAND = 640  # vertices below which a model's teeth are a plain band


_BEHIND_TEETH = ("tongue", "mouth")


def plain_mouth(model: HeadModel, albedo: Float[Tensor, "3 rows columns"]) -> Float[Tensor, "3 rows columns"]:
    """The texture with the model's own tongue and palate.

    What a photo shows there are teeth, which the fitted mesh misses by a pixel or two: right in the photo's own view
    and expression, wrong in any other.
    """
    behind = [model.regions[name] for name in _BEHIND_TEETH if name in model.regions]
    if not behind or model.uvs is None:
        return albedo
    hidden = torch.stack(behind).any(0) & ~model.regions.get("lips", torch.zeros_like(behind[0]))
    size = (albedo.shape[-2], albedo.shape[-1])
    inside = to_uv(rasterize_uv(model, max(size)), model, hidden[:, None].float())[..., 0]
    inside = interpolate(inside[None, None], size, mode="nearest")[0] > 0
    plain = interpolate(default_albedo(model).mean[None].to(albedo), size, mode="bilinear", align_corners=False)[0]
    return torch.where(inside, plain, albedo)


@dataclass(frozen=True)
class MouthConfig:
    """Light in the mouth. Lengths are in metres."""

    kept: tuple[float, float] = (0.6, 0.7)  #: old over new opening: below, the model's mouth; above, the photo's
    #: Behind the lips, over which the light falls to 1/e: red travels farthest between red walls.
    depth: tuple[float, float, float] = (0.032, 0.021, 0.020)
    floor: float | int = 0.12  #: light that reaches any depth
    shade: float = 0.018  #: behind the lips, from where on their shadow is full
    flat: float = 0.65  #: how much of the light has no direction
    teeth: float = 0.007  #: how far behind the lips the light has not lost anything yet
    line: float = 0.0007  #: half the width of the dark line between lips that have closed
    line_shade: float = 0.5  #: its brightness over the lips'


def mouth_kept(old: HeadView, new: HeadView, config: MouthConfig) -> float:
    """How far the inside of the mouth is taken from the photo: 1 where it was about as open as it shall be."""
    before, after = (int(head.kinds.mouth.sum()) * head.pixel_size**2 for head in (old, new))
    if after == 0:
        return 1.0
    return float(step(torch.tensor(before / after), *config.kept))


def light_mouth(
    head: HeadView, maps: Conditions, gain: Float[Tensor, "3"], config: MouthConfig
) -> Float[Tensor, "3 height width"]:
    """The mouth's pixels; others are of no use.

    Args:
        head: the changed head.
        maps: what it looks like.
        gain: brightness of the photo around the mouth over the model's.
        config: see `MouthConfig`.
    """
    mouth = head.kinds.mouth
    shading = torch.ones_like(maps.albedo)
    if head.code.light is not None:
        ahead = head.normals[head.model.regions["lips"]].mean(0)
        bent = normalize(torch.lerp(head.normals, normalize(ahead, dim=0).expand_as(head.normals), config.flat), dim=-1)
        shading = head.attribute(shade_sh(bent, head.code.light)).permute(2, 0, 1)
    picture = (maps.albedo * _teeth(head) * shading.clamp(min=0)) * gain[:, None, None]
    lips = extend_field(maps.depth[None], head.covered & ~mouth, None)[0]
    behind = (maps.depth - lips - config.teeth).clamp(min=0)
    dim = torch.exp(-behind / picture.new_tensor(config.depth)[:, None, None])
    lit = torch.lerp(torch.ones_like(behind), _opening(mouth, head.pixel_size), (behind / config.shade).clamp(max=1))
    return picture * (config.floor + (1 - config.floor) * dim * lit)


def close_lips(
    picture: Float[Tensor, "3 height width"], old: HeadView, new: HeadView, config: MouthConfig
) -> Float[Tensor, "3 height width"]:
    """A dark line where lips have met that were apart in the photo; what teeth are left between them goes.

    Args:
        picture: the window of the photo, warped.
        old: the head in the photo.
        new: the changed head.
        config: see `MouthConfig`.
    """
    embedding, lips = new.model.landmarks.get("478"), new.model.regions.get("lips")
    if embedding is None or lips is None:
        return picture
    half = len(INNER_LIPS) // 2
    ends = [INNER_LIPS[0], INNER_LIPS[half]]
    lower, upper = list(INNER_LIPS[1:half]), list(INNER_LIPS[:half:-1])
    gaps = [
        (points[lower] - points[upper]).norm(dim=1).mean()
        # The mean head's lips are closed.
        for points in (new.model.surface_points(x, embedding) for x in (old.vertices, new.vertices, new.model.template))
    ]
    strength = float(step(gaps[0] - gaps[1], 0.001, 0.003) * step(gaps[1] - gaps[2], 0.0012, 0.0004))
    if strength == 0:
        return picture
    seen = new.camera.project(new.model.surface_points(new.vertices, embedding))
    middle = (seen[lower] + seen[upper]) / 2
    line = torch.cat([seen[ends[0]][None], middle, seen[ends[1]][None]])
    margin = 8 * config.line / new.pixel_size
    low, high = (line.amin(0) - margin).floor().long().tolist(), (line.amax(0) + margin).ceil().long().tolist()
    rows = slice(max(0, low[1]), min(picture.shape[1], high[1]))
    columns = slice(max(0, low[0]), min(picture.shape[2], high[0]))
    part = picture[:, rows, columns]
    if part.numel() == 0:
        return picture
    dense = interpolate(line.mT[None], size=16 * len(line), mode="linear", align_corners=True)[0].mT
    centres = pixel_centres(part.shape[1:], part) + part.new_tensor([columns.start, rows.start])
    distance = torch.cdist(centres.flatten(0, 1), dense).amin(1).unflatten(0, part.shape[1:])
    width = max(config.line / new.pixel_size, 0.6)
    # The lips' own colour, from beyond what the teeth have touched.
    trusted = (distance > 2 * width) & _of(new, lips)[rows, columns]
    if not bool(trusted.any()):
        return picture
    share = trusted.to(part.dtype)[None]
    blurred = box(torch.cat([part * share, share]), max(1, round(4 * width)))
    colour = torch.where(blurred[3:] > 1e-3, blurred[:3] / blurred[3:].clamp(min=1e-3), part)
    toothless = torch.minimum(part, torch.lerp(part, colour, step(distance, 3 * width, 2 * width)))
    dark = 1 - (1 - config.line_shade) * torch.exp(-0.5 * (distance / width).square())
    out = picture.clone()
    out[:, rows, columns] = torch.lerp(part, toothless * dark, strength)
    return out


def _of(head: HeadView, vertices: Bool[Tensor, "verts"]) -> Bool[Tensor, "height width"]:
    return vertices[head.model.faces].any(1)[head.raster.face[0].clamp(min=0).long()] & head.covered


def _opening(mouth: Bool[Tensor, "height width"], pixel: float) -> Float[Tensor, "height width"]:
    """How much of the opening each pixel faces, looking up and out; 1 in the middle of a wide one."""
    radius, up = max(1, round(0.005 / pixel)), max(1, round(0.0045 / pixel))
    faced = box(box(mouth.to(torch.float32)[None], radius), radius)[0]
    faced = torch.cat([faced.new_zeros(min(up, len(faced)), faced.shape[1]), faced[:-up]])
    return step(faced, 0.05, 0.95)


def _teeth(head: HeadView) -> Float[Tensor, "height width"]:
    """Brightness of teeth: darker in the gaps between them. 1 elsewhere, and on models with teeth apart."""
    model = head.model
    teeth, names = model.regions.get("teeth"), model.part_names
    out = torch.ones(head.covered.shape)
    if teeth is None or int(teeth.sum()) > _BAND or model.face_parts is None or "upper_teeth" not in names:
        return out
    front = model.template[teeth][:, 2].amax()
    offset = model.template - torch.stack([front * 0, front * 0, front - _ARCH])
    places = head.attribute(offset)
    part = model.face_parts[head.raster.face[0].clamp(min=0).long()]
    angle = torch.atan2(places[..., 0].abs(), places[..., 2].clamp(min=1e-4))
    pixel = head.pixel_size / _ARCH  # radians
    width = max(0.012, 0.5 * pixel)
    for name, borders in (("upper_teeth", _UPPER), ("lower_teeth", _LOWER)):
        gap = torch.zeros_like(angle)
        for border in borders:
            # The midline counts once; a line thinner than a pixel is fainter.
            gap = torch.maximum(gap, torch.exp(-0.5 * ((angle - border) / width).square()))
        shown = head.covered & (part == names.index(name))
        out = torch.where(shown, 1 - 0.3 * min(1.0, 0.012 / width) * gap, out)
    return out
