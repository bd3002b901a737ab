"""Bring a photo into a head's texture layout: which texel sees which pixel, and how well."""

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn.functional import grid_sample, interpolate, max_pool2d, normalize

from ..camera import Camera
from ..code import HeadCode
from ..models.head_model import HeadModel
from ..raster import Raster, rasterize, shade_sh, vertex_normals
from .uv_raster import to_uv

_TOLERANCE = 0.0025  # metres a surface point may lie behind the visible one and still count as visible
_GRAZING = 0.12  # cosine below which a texel is not taken
_RIM = 0.03  # of the head's width: how far the silhouette is distrusted
_DARKEST = 0.25  # shading below this is not divided out: it would only bring up noise


@dataclass(frozen=True)
class Unwrapped:
    """A photo in the texture layout: albedo and how far to trust it (0 where unseen)."""

    colour: Float[Tensor, "3 size size"]
    weight: Float[Tensor, "size size"]


def unwrap(
    model: HeadModel,
    uv_raster: Raster,
    code: HeadCode,
    camera: Camera,
    image: Float[Tensor, "3 height width"],
    trusted: Float[Tensor, "height width"] | None = None,
) -> Unwrapped:
    """Sample the photo at every texel and divide the light out.

    Args:
        model: head model with UVs.
        uv_raster: its texture layout at the wanted size (`rasterize_uv`).
        code: the fitted head, without batch axes; its light (if set) is divided out.
        camera: the photo's camera.
        image: the photo, sRGB 0..1.
        trusted: weight 0..1 of each pixel, 0 where something hides the head.

    Returns:
        Albedo and weight per texel. The weight is the cosine of the viewing angle, squared, and 0 for texels that are
        hidden, grazing, outside the photo or at the head's silhouette.
    """
    vertices = model.vertices(code)
    texels = to_uv(uv_raster, model, torch.cat([vertices, vertex_normals(vertices, model.faces)], 1))
    position, normal = texels[..., :3], normalize(texels[..., 3:], dim=-1)
    eye = -camera.R.mT @ camera.t
    facing = (normal * normalize(eye - position, dim=-1)).sum(-1)

    size = uv_raster.face.shape[-1]
    projected = camera.to_homogeneous(position.reshape(-1, 3))
    pixel, depth = projected[:, :2] / projected[:, 3:].clamp(min=1e-6), projected[:, 2]
    height, width = camera.size
    seen = rasterize(camera.to_homogeneous(vertices)[None], model.faces, camera.size)
    # The farthest depth among neighbours: a texel is visible if it is no deeper than the surface around its pixel.
    far = max_pool2d(torch.where(seen.mask, seen.depth, 0.0)[None], 3, 1, 1)
    inside = _inside(seen.mask[0])[None, None]
    if trusted is not None:
        inside = inside * trusted
    grid = (pixel / pixel.new_tensor([width, height]) * 2 - 1).reshape(1, size, size, 2)
    nearest = grid_sample(torch.cat([far, inside], 1), grid, mode="nearest", align_corners=False)[0]
    visible = (depth.reshape(size, size) < nearest[0] + _TOLERANCE) & (grid.abs() < 1).all(-1)[0]
    weight = facing.clamp(min=0) ** 2 * (facing > _GRAZING) * visible * nearest[1] * uv_raster.mask[0]

    photo = _softened(image, pixel, size)
    colour = grid_sample(photo, grid, mode="bilinear", padding_mode="border", align_corners=False)[0]
    if code.light is not None:
        shading = shade_sh(normal, code.light).clamp(min=_DARKEST).permute(2, 0, 1)
        colour = colour / shading
    # Where the light was taken for too dark, the texture shall be too dark, but not of another hue.
    colour = colour.clamp(min=0) / colour.amax(0).clamp(min=1)
    return Unwrapped(colour, weight)


def _inside(mask: Bool[Tensor, "height width"]) -> Float[Tensor, "height width"]:
    """0 at the head's silhouette, where the fit is least sure and the background mixes in, rising to 1 inside."""
    from scipy.ndimage import distance_transform_edt

    height, width = mask.shape
    if not bool(mask.any()):
        return mask.float()
    rows, columns = torch.nonzero(mask.any(1)), torch.nonzero(mask.any(0))
    top, bottom, left, right = int(rows[0]), int(rows[-1]) + 1, int(columns[0]), int(columns[-1]) + 1
    # The photo's border hides nothing: only background inside the picture counts.
    distance = torch.zeros(height, width)
    pads = ((int(top > 0), int(bottom < height)), (int(left > 0), int(right < width)))
    window = np.pad(mask.numpy()[top:bottom, left:right], pads)
    edt = torch.from_numpy(np.asarray(distance_transform_edt(window))).float()
    edt = edt[pads[0][0] : pads[0][0] + bottom - top, pads[1][0] : pads[1][0] + right - left]
    distance[top:bottom, left:right] = edt
    soft = max(2.0, _RIM * (right - left))
    return ((distance - 1.5) / soft).clamp(0, 1)


def _softened(
    image: Float[Tensor, "3 height width"], pixel: Float[Tensor, "texels 2"], size: int
) -> Float[Tensor, "1 3 rows columns"]:
    """The photo, shrunk where it is much finer than the texture, so that texels average rather than skip pixels."""
    step = (pixel.reshape(size, size, 2)[:, 1:] - pixel.reshape(size, size, 2)[:, :-1]).norm(dim=-1)
    stride = float(step.flatten().median())
    if stride <= 1.5:
        return image[None]
    height, width = image.shape[-2:]
    shrunk = (max(1, round(height / stride)), max(1, round(width / stride)))
    return interpolate(image[None], shrunk, mode="area")
