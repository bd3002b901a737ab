"""Pictures of heads by our own rasteriser: renders, overlays, turntables. No display or GL needed."""

import math
from dataclasses import replace

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import interpolate as resize
from torch.nn.functional import normalize

from ..geometry.camera import Camera
from ..geometry.code import HeadCode
from ..geometry.models.head_model import HeadModel
from ..geometry.raster import antialias, interpolate, rasterize, sample_texture, shade_sh, vertex_normals
from ..geometry.rodrigues import rotvec_to_rotmat
from ..heads.view.lighting import STUDIO as STUDIO_LIGHT
from .canvas import CLAY


def render_head(
    model: HeadModel,
    code: HeadCode,
    camera: Camera,
    albedo: Float[Tensor, "3 rows columns"] | None,
) -> Float[Tensor, "4 height width"]:
    """The head through a camera: RGB (not clamped below black outside) and coverage 0..1.

    Args:
        model: head model.
        code: one head, without batch axes; its light is used, or a studio light where it has none.
        camera: where from.
        albedo: texture, or None for plain clay.
    """
    vertices = model.vertices(code)
    points = camera.to_homogeneous(vertices)[None]
    raster = rasterize(points, model.faces, camera.size)
    normal = interpolate(raster, vertex_normals(vertices, model.faces)[None], model.faces)[0]
    light = code.light if code.light is not None else vertices.new_tensor(STUDIO_LIGHT).expand(9, 3)
    colour = shade_sh(normalize(normal, dim=-1), light).clamp(min=0)
    if albedo is not None and model.uvs is not None and model.uv_faces is not None:
        uv = interpolate(raster, model.uvs[None], model.uv_faces)
        colour = colour * sample_texture(albedo[None], uv)[0]
    else:
        colour = colour * vertices.new_tensor(CLAY)
    covered = raster.mask[0, ..., None].to(colour.dtype)
    image = torch.cat([colour.clamp(0, 1) * covered, covered], -1)[None]
    return antialias(image, raster, points, model.faces)[0].permute(2, 0, 1)


def overlay(
    photo: Float[Tensor, "3 height width"], model: HeadModel, code: HeadCode, camera: Camera, albedo: Tensor | None
) -> Float[Tensor, "3 rows columns"]:
    """Photo, mesh over the photo, textured render: side by side, cropped around the head, 640 pixels high.

    Small faces are enlarged three times at most.
    """
    window, camera = _around_head(model, code, camera)
    left, top, right, bottom = window
    photo = photo[:, top:bottom, left:right]
    scale = min(3.0, 640 / photo.shape[1])
    camera = camera.scaled(scale)
    photo = resize(photo[None], camera.size, mode="bilinear", antialias=True, align_corners=False)[0]
    textured = render_head(model, code, camera, albedo)
    clay = render_head(model, replace(code, light=None), camera, None)
    mesh = photo * (1 - 0.75 * clay[3:]) + 0.75 * clay[:3]
    return torch.cat([photo, mesh, textured[:3]], 2).clamp(0, 1)


def turntable(
    model: HeadModel, code: HeadCode, albedo: Tensor | None, *, size: int = 320, steps: int = 6
) -> Float[Tensor, "3 rows columns"]:
    """The head from the left profile to the right in even steps: textured above, clay below, in studio light."""
    upright = code.with_(
        rotation=torch.zeros_like(code.rotation), translation=torch.zeros_like(code.translation), light=None
    )
    vertices = model.vertices(upright)
    centre = (vertices.amax(0) + vertices.amin(0)) / 2
    extent = float((vertices.amax(0) - vertices.amin(0)).max())
    distance = 5 * extent
    camera = Camera.frontal(0.92 * size * distance / extent, (size, size))
    rows = []
    for texture in (albedo, None):
        row = []
        for step in range(steps):
            yaw = math.radians(90 - 180 * step / (steps - 1))
            turn = rotvec_to_rotmat(torch.tensor([0.0, yaw, 0.0]))
            rotation = camera.R @ turn
            view = replace(camera, R=rotation, t=-rotation @ centre + torch.tensor([0.0, 0.0, distance]))
            image = render_head(model, upright, view, texture)
            row.append(image[:3] + (1 - image[3:]) * 0.94)
        rows.append(torch.cat(row, 2))
    return torch.cat(rows, 1).clamp(0, 1)


def _around_head(model: HeadModel, code: HeadCode, camera: Camera) -> tuple[tuple[int, int, int, int], Camera]:
    """Window (left, top, right, bottom) of the photo around the head with a margin, and its camera."""
    pixels = camera.project(model.vertices(code))
    low, high = pixels.amin(0), pixels.amax(0)
    margin = 0.15 * float((high - low).amax())
    height, width = camera.size
    left, top = (max(0, math.floor(float(x) - margin)) for x in low)
    right, bottom = min(width, math.ceil(float(high[0]) + margin)), min(height, math.ceil(float(high[1]) + margin))
    if right - left < 2 or bottom - top < 2:
        return (0, 0, width, height), camera
    return (left, top, right, bottom), camera.cropped(left, top, (bottom - top, right - left))
