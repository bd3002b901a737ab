"""Photometric refinement: make the rendered face look like the photo.

The face is rendered through the differentiable rasteriser at a modest resolution; albedo code and light are solved in
closed form (`light_albedo.py`), shape, expression and pose follow the gradient of

    robust colour difference + landmark distance + distance of beta and psi from the landmark fit

with Adam. Hair, glasses, beards and shadows are outliers of the robust difference; only the face region counts. The
landmark fit has already paid for its beta and psi, so the prior is on what changes. The landmarks only hold on to the
face: weighted more, their noise is fitted, and heads of known shape come out worse than they went in.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import grid_sample, normalize

from ..camera import Camera
from ..code import HeadCode
from ..landmarks.mesh478 import FACE_OVAL
from ..models.head_model import HeadModel
from ..raster import interpolate, rasterize, sample_texture, sh_basis, vertex_normals
from ..texture.albedo_model import AlbedoModel
from .light_albedo import Samples, geman_mcclure, geman_mcclure_weight, solve_light_albedo

#: Landmarks that stay put on the surface. Those of the outline slide to wherever the head's edge is seen.
_INNER = [index for index in range(478) if index not in FACE_OVAL]


@dataclass(frozen=True)
class PhotometricConfig:
    resolution: int = 176  #: side of the square around the face, pixels
    steps: int = 60
    resolve_every: int = 20  #: steps between closed-form solves of light and albedo
    colour_scale: float = 0.12  #: colour difference from which a pixel is an outlier
    landmark_weight: float = 1.5  #: of the squared landmark error in eye distances
    shape_prior: float = 6e-3  #: of the mean squared change of beta from the landmark fit
    expression_prior: float = 2e-3  #: likewise of psi, in its standard deviations
    rate_shape: float = 0.04
    rate_expression: float = 0.012
    rate_rotation: float = 0.004  # radians
    rate_translation: float = 0.0015  # relative to the distance
    warmup: int = 0  #: steps over which the rates rise: Adam's first ones are as long as its rates, wherever they lead


@dataclass(frozen=True)
class PhotometricFit:
    codes: HeadCode  #: with albedo and light; leading photo axis
    cameras: tuple[Camera, ...]
    error_before: float  #: robust colour difference over the face (`_robust_error`), both with light and albedo solved
    error_after: float
    seconds: float


def refine_photometric(
    model: HeadModel,
    albedo: AlbedoModel,
    codes: HeadCode,
    cameras: tuple[Camera, ...],
    images: list[Float[Tensor, "3 _ _"]],
    landmarks: Float[Tensor, "photos points 2"],
    config: PhotometricConfig | None = None,
    hold: Callable[[HeadCode], Float[Tensor, ""]] | None = None,
) -> PhotometricFit:
    """Refine a landmark fit by the photos' pixels.

    Args:
        model: head model with UVs, the regions of `default_albedo.face_parts` and 478 landmarks.
        albedo: skin colour model in the model's texture layout.
        codes: the landmark fit, leading axis over photos; `codes.shape` rows equal.
        cameras: one per photo.
        images: the photos, sRGB 0..1.
        landmarks: detected points of each photo, pixels.
        config: weights and step sizes.
        hold: a further energy of the codes (leading axis over photos), such as the distance from measured depth.
    """
    config = config or PhotometricConfig()
    start = time.perf_counter()
    views = [_View.crop(*item, config.resolution) for item in zip(cameras, images, landmarks, strict=True)]
    faces = _face_triangles(model)
    shape = codes.shape[0].clone().requires_grad_()
    expression = codes.expression.clone().requires_grad_()
    rotation = codes.rotation.clone().requires_grad_()
    translation = codes.translation.clone().requires_grad_()
    groups = [
        {"params": [shape], "lr": config.rate_shape},
        {"params": [expression], "lr": config.rate_expression},
        {"params": [rotation], "lr": config.rate_rotation},
        {"params": [translation], "lr": config.rate_translation * float(codes.translation.norm(dim=-1).mean())},
    ]
    optimiser = torch.optim.Adam(groups, betas=(0.9, 0.95))
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimiser, lambda step: 0.02 ** (step / config.steps) * min(1.0, (step + 1) / (config.warmup + 1))
    )
    bounds = model.expression_bounds
    spread = model.expression_std if model.expression_std is not None else torch.ones(model.expressions)

    def current() -> HeadCode:
        count = len(views)
        return codes.with_(
            shape=shape.expand(count, -1), expression=expression, rotation=rotation, translation=translation
        )

    albedo_code = torch.zeros(albedo.components)
    texture = albedo.mean
    lights = None
    before = float("nan")
    for step in range(config.steps):
        if step % config.resolve_every == 0:
            with torch.no_grad():
                samples = [_samples(model, faces, albedo, current()[i], view) for i, view in enumerate(views)]
                albedo_code, lights = solve_light_albedo(
                    samples,
                    albedo_code,
                    lights,
                    rounds=6 if step == 0 else 2,
                    scale=config.colour_scale,
                    widening=8.0 if step == 0 else 1.0,
                )
                if step == 0:
                    before = _robust_error(samples, albedo_code, lights, config.colour_scale)
            texture = albedo.texture(albedo_code).clamp(0, 1)
        assert lights is not None
        loss = config.shape_prior * (shape - codes.shape[0]).square().mean()
        loss = loss + config.expression_prior * ((expression - codes.expression) / spread).square().mean()
        for i, view in enumerate(views):
            loss = loss + _view_loss(model, faces, texture, current()[i], lights[i], view, config) / len(views)
        if hold is not None:
            loss = loss + hold(current())
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        optimiser.step()
        schedule.step()
        if bounds is not None:
            with torch.no_grad():
                expression.copy_(torch.minimum(torch.maximum(expression, bounds[:, 0]), bounds[:, 1]))
    with torch.no_grad():
        fitted = current().map(lambda x: x.detach().clone())
        samples = [_samples(model, faces, albedo, fitted[i], view) for i, view in enumerate(views)]
        albedo_code, lights = solve_light_albedo(samples, albedo_code, lights, rounds=3, scale=config.colour_scale)
        after = _robust_error(samples, albedo_code, lights, config.colour_scale)
    fitted = replace(fitted, albedo=albedo_code.expand(len(views), -1).clone(), light=lights)
    return PhotometricFit(fitted, cameras, before, after, time.perf_counter() - start)


def colour_error(
    model: HeadModel,
    albedo: AlbedoModel,
    codes: HeadCode,
    cameras: tuple[Camera, ...],
    images: list[Float[Tensor, "3 _ _"]],
    landmarks: Float[Tensor, "photos points 2"],
    config: PhotometricConfig | None = None,
) -> float:
    """Robust colour difference over the face, light and albedo solved from nothing. Arguments as above."""
    config = config or PhotometricConfig()
    faces = _face_triangles(model)
    with torch.no_grad():
        views = [_View.crop(*item, config.resolution) for item in zip(cameras, images, landmarks, strict=True)]
        samples = [_samples(model, faces, albedo, codes[i], view) for i, view in enumerate(views)]
        start = torch.zeros(albedo.components)
        code, lights = solve_light_albedo(samples, start, rounds=14, scale=config.colour_scale, widening=8.0)
        return _robust_error(samples, code, lights, config.colour_scale)


@dataclass(frozen=True)
class _View:
    """A photo's square around the face."""

    camera: Camera
    image: Float[Tensor, "size size 3"]
    landmarks: Float[Tensor, "points 2"]
    eye_distance: float

    @classmethod
    def crop(
        cls, camera: Camera, image: Float[Tensor, "3 height width"], landmarks: Float[Tensor, "points 2"], size: int
    ) -> "_View":
        low, high = landmarks.amin(0), landmarks.amax(0)
        centre, side = (low + high) / 2, float((high - low).amax()) * 1.25
        left, top = (centre - side / 2).tolist()
        scale = size / side
        camera = camera.cropped(left, top, (round(side), round(side)))
        camera = replace(camera, K=camera.K * camera.K.new_tensor([[scale], [scale], [1.0]]), size=(size, size))
        # Average rather than skip pixels of large photos.
        height, width = image.shape[-2:]
        shrink = max(1.0, 0.7 / scale)
        small = image[None]
        if shrink > 1:
            target = (max(1, round(height / shrink)), max(1, round(width / shrink)))
            small = torch.nn.functional.interpolate(small, target, mode="area")
        centres = (torch.arange(size) + 0.5) / scale
        x, y = (centres + left) / width * 2 - 1, (centres + top) / height * 2 - 1
        grid = torch.stack(torch.meshgrid(x, y, indexing="xy"), -1)[None]
        crop = grid_sample(small, grid, mode="bilinear", padding_mode="border", align_corners=False)[0]
        moved = (landmarks - torch.tensor([left, top])) * scale
        eyes = float((moved[33] - moved[263]).norm())
        return cls(camera, crop.permute(1, 2, 0).contiguous(), moved, max(eyes, 0.25 * size))


def _face_triangles(model: HeadModel) -> Tensor:
    """1 for triangles of the face and eyes, whose pixels count; others only hide."""
    region = model.regions["face"] | model.regions["eyes"]
    return region[model.faces].all(1)


def _render_buffers(
    model: HeadModel, face_triangles: Tensor, code: HeadCode, view: _View
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Projected vertices; unit normal, texture coordinate and weight of each pixel."""
    vertices = model.vertices(code)
    points = view.camera.to_homogeneous(vertices)[None]
    raster = rasterize(points, model.faces, view.camera.size)
    normal = interpolate(raster, vertex_normals(vertices, model.faces)[None], model.faces)[0]
    assert model.uvs is not None and model.uv_faces is not None
    uv = interpolate(raster, model.uvs[None], model.uv_faces)
    counts = (raster.mask[0] & face_triangles[raster.face[0].clamp(min=0).long()]).float()
    return points, normalize(normal, dim=-1), uv, counts


def _samples(model: HeadModel, faces: Tensor, albedo: AlbedoModel, code: HeadCode, view: _View) -> Samples:
    _, normal, uv, counts = _render_buffers(model, faces, code, view)
    chosen = counts > 0
    stacked = torch.cat([albedo.mean[..., None], albedo.basis], -1).permute(0, 3, 1, 2).flatten(0, 1)
    found = sample_texture(stacked[None], uv)[0][chosen].unflatten(-1, (3, -1))
    return Samples(view.image[chosen], normal[chosen], found[..., 0], found[..., 1:], counts[chosen])


def _robust_error(samples: list[Samples], code: Tensor, lights: Tensor, scale: float) -> float:
    """Root mean Geman-McClure colour difference: the usual one for small differences, `scale` for outliers."""
    errors = []
    for photo, light in zip(samples, lights, strict=True):
        predicted = (photo.mean + photo.basis @ code) * (sh_basis(photo.normal) @ light)
        errors.append(geman_mcclure(photo.colour - predicted, scale))
    return float(torch.cat(errors).mean().sqrt())


def _view_loss(
    model: HeadModel,
    faces: Tensor,
    texture: Float[Tensor, "3 rows columns"],
    code: HeadCode,
    light: Float[Tensor, "9 3"],
    view: _View,
    config: PhotometricConfig,
) -> Float[Tensor, ""]:
    points, normal, uv, counts = _render_buffers(model, faces, code, view)
    colour = sample_texture(texture[None], uv)[0] * (sh_basis(normal) @ light)
    difference = colour - view.image
    with torch.no_grad():
        weight = counts * geman_mcclure_weight(difference, config.colour_scale)
    pixels = (difference.square().sum(-1) * weight).sum() / counts.sum().clamp(min=1)
    embedding = model.landmarks["478"]
    # The points of `points` are already projected: landmarks are blends of them in space, then divided.
    corners = points[0][model.faces[embedding.faces[_INNER]]]
    blended = (corners * embedding.weights[_INNER, :, None]).sum(-2)
    error = (blended[:, :2] / blended[:, 3:] - view.landmarks[_INNER]) / view.eye_distance
    square = error.square().sum(-1)
    landmark = (square / (1 + square / 0.05**2)).mean()  # robust beyond 5 % of the eye distance
    return pixels + config.landmark_weight * landmark
