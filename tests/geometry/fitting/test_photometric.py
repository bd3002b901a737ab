"""Photometric refinement on renders of known heads, and on real photos."""

from dataclasses import dataclass, replace

import numpy as np
import pytest
import torch
from jaxtyping import Float
from torch import Tensor

from headlab.geometry.camera import Camera
from headlab.geometry.code import HeadCode
from headlab.geometry.fitting.landmark_fit import fit_landmarks
from headlab.geometry.fitting.photometric import PhotometricConfig, PhotometricFit, refine_photometric
from headlab.geometry.landmarks.mesh478 import FACE_OVAL
from headlab.geometry.models.head_model import HeadModel
from headlab.heads.fit import FitTools
from headlab.viewers.pictures import render_head

SIZE = 320
SEEDS = range(4)


@dataclass(frozen=True, eq=False)
class Scene:
    """A photo of a known head, and a landmark fit to noisy landmarks of it."""

    code: HeadCode
    camera: Camera
    image: Float[Tensor, "3 height width"]
    points: Float[Tensor, "478 2"]
    fitted: HeadCode
    cameras: tuple[Camera, ...]


def scene(tools: FitTools, seed: int) -> Scene:
    model, albedo = tools.model, tools.albedo
    generator = torch.Generator().manual_seed(seed)

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator)

    assert model.expression_std is not None
    active = torch.rand(model.expressions, generator=generator) < 0.4
    light = torch.zeros(9, 3)
    light[0] = 3.0 * (1 + 0.05 * normal(3))
    light[1:4] = 0.3 * normal(3, 1)
    light[3] += 0.3
    code = model.neutral().with_(
        shape=0.9 * normal(model.shapes),
        expression=(0.5 * normal(model.expressions) * model.expression_std).clamp(0, 1) * active,
        rotation=torch.tensor([0.15, 0.3, 0.08]) * normal(3),
        translation=torch.tensor([0.0, 0.0, -0.9]),
        light=light,
    )
    # Blotches that the albedo model does not know, a plain background, and sensor noise.
    blotches = torch.nn.functional.interpolate(normal(1, 3, 64, 64), 256, mode="bilinear")[0]
    texture = (albedo.texture(0.8 * normal(albedo.components)) + 0.02 * blotches).clamp(0.02, 1)
    camera = Camera.frontal(2.6 * SIZE, (SIZE, SIZE))
    render = render_head(model, code, camera, texture)
    image = render[:3] + (1 - render[3:]) * torch.rand(3, 1, 1, generator=generator)
    image = (image + 0.01 * normal(3, SIZE, SIZE)).clamp(0, 1)
    points = camera.project(model.landmarks3d(model.vertices(code), "478"))
    eyes = (points[33] - points[263]).norm()
    near = torch.exp(-((torch.cdist(points, points) / eyes / 0.25) ** 2))
    near = near / near.square().sum(1, keepdim=True).sqrt()
    points = points + eyes * (0.015 * near @ normal(478, 2) + 0.006 * normal(478, 2))  # neighbours err alike
    found = fit_landmarks(tools.basis, points[None], [camera.size])
    single = torch.float32
    return Scene(
        code, camera, image, points, found.codes.to(dtype=single), tuple(c.to(dtype=single) for c in found.cameras)
    )


def aligned_error(points: Float[Tensor, "n 3"], target: Float[Tensor, "n 3"]) -> float:
    """Mean distance after the best similarity (focal length and distance trade off against each other), metres."""
    a, b = (x.double().numpy() - x.double().numpy().mean(0) for x in (points, target))
    u, s, vt = np.linalg.svd(a.T @ b)
    sign = np.array([1, 1, np.sign(np.linalg.det(u @ vt))])
    scale = (s * sign).sum() / (a**2).sum()
    return float(np.linalg.norm(scale * a @ (u * sign) @ vt - b, axis=1).mean())


@pytest.fixture(scope="module")
def scenes(fit_tools: FitTools) -> list[Scene]:
    return [scene(fit_tools, seed) for seed in SEEDS]


def refined(fit_tools, item: Scene, config: PhotometricConfig | None = None) -> PhotometricFit:
    return refine_photometric(
        fit_tools.model, fit_tools.albedo, item.fitted, item.cameras, [item.image], item.points[None], config
    )


@pytest.fixture(scope="module")
def results(fit_tools, scenes: list[Scene]) -> list[PhotometricFit]:
    return [refined(fit_tools, item) for item in scenes]


def test_colours_come_closer(results: list[PhotometricFit]) -> None:
    for result in results:
        assert result.error_after < result.error_before
    before, after = (np.mean([getattr(r, name) for r in results]) for name in ("error_before", "error_after"))
    assert after < 0.95 * before


def test_the_face_comes_closer_to_the_true_one(default_head: HeadModel, scenes, results) -> None:
    face = default_head.regions["face"]
    before, after = [], []
    for item, result in zip(scenes, results, strict=True):
        true = default_head.vertices(item.code)[face]
        before.append(aligned_error(default_head.vertices(item.fitted[0])[face], true))
        after.append(aligned_error(default_head.vertices(result.codes[0])[face], true))
    assert np.mean(after) < 0.95 * np.mean(before), (before, after)
    assert all(b < 1.03 * a for a, b in zip(before, after, strict=True)), (before, after)


def test_the_light_is_that_of_the_scene(default_head: HeadModel, scenes, results) -> None:
    """Up to brightness, which light and skin share: the direction from which most light comes."""
    cosines = []
    for item, result in zip(scenes, results, strict=True):
        assert item.code.light is not None and result.codes.light is not None
        true, found = (light[1:4].mean(-1) for light in (item.code.light, result.codes.light[0]))
        cosines.append(float(torch.nn.functional.cosine_similarity(true, found, dim=0)))
    assert np.mean(cosines) > 0.8, cosines


def test_expressions_stay_within_their_bounds(default_head: HeadModel, results) -> None:
    assert default_head.expression_bounds is not None
    low, high = default_head.expression_bounds.unbind(-1)
    for result in results:
        assert (result.codes.expression >= low).all() and (result.codes.expression <= high).all()


def test_the_outlines_landmarks_do_not_pull(fit_tools, scenes, results) -> None:
    """They slide over the surface with the view, so where they are makes no difference."""
    moved = scenes[0].points.clone()
    low, high = moved.amin(0), moved.amax(0)
    moved[list(FACE_OVAL)] = (moved[list(FACE_OVAL)] + torch.tensor([6.0, -4.0])).clamp(low, high)
    moved = torch.minimum(torch.maximum(moved, low), high)
    keep = [int(moved[:, axis].argmin()) for axis in (0, 1)] + [int(moved[:, axis].argmax()) for axis in (0, 1)]
    moved[keep] = scenes[0].points[keep]
    if not torch.equal(moved.amin(0), low) or not torch.equal(moved.amax(0), high):
        pytest.skip("the crop would move as well")
    again = refined(fit_tools, replace(scenes[0], points=moved))
    torch.testing.assert_close(again.codes.shape, results[0].codes.shape, atol=1e-3, rtol=0)


def test_the_same_input_gives_the_same_result(fit_tools, scenes, results) -> None:
    again = refined(fit_tools, scenes[1])
    torch.testing.assert_close(again.codes.shape, results[1].codes.shape, atol=1e-3, rtol=0)
    assert again.error_after == pytest.approx(results[1].error_after, rel=1e-3)


def test_photos_of_one_person_share_shape_and_albedo(default_head: HeadModel, fit_tools, scenes) -> None:
    item = scenes[0]
    codes = item.fitted.map(lambda value: value.expand(2, *value.shape[1:]).clone())
    images, points = [item.image, 0.5 * item.image], item.points.expand(2, -1, -1)
    result = refine_photometric(
        default_head, fit_tools.albedo, codes, item.cameras * 2, images, points, PhotometricConfig(steps=10)
    )
    code = result.codes
    assert code.albedo is not None and code.light is not None
    assert torch.equal(code.shape[0], code.shape[1]) and torch.equal(code.albedo[0], code.albedo[1])
    brightness = code.light[:, 0].mean(-1)
    assert float(brightness[1] / brightness[0]) == pytest.approx(0.5, abs=0.05)


def test_an_occluder_changes_little(default_head: HeadModel, fit_tools, scenes, results) -> None:
    """A dark bar over a sixth of the face is an outlier, not a dent in the head."""
    item = scenes[2]
    low, high = item.points.amin(0), item.points.amax(0)
    width, height = (high - low).tolist()
    left, top = (low + torch.tensor([0.55 * width, 0.4 * height])).long().tolist()
    image = item.image.clone()
    image[:, top : top + int(0.4 * height), left : left + int(0.4 * width)] = torch.tensor([0.05, 0.1, 0.05])[
        :, None, None
    ]
    barred = refined(fit_tools, replace(item, image=image))
    face = default_head.regions["face"]
    true = default_head.vertices(item.code)[face]
    clean, marred = (aligned_error(default_head.vertices(r.codes[0])[face], true) for r in (results[2], barred))
    start = aligned_error(default_head.vertices(item.fitted[0])[face], true)
    assert marred < max(clean, start) + 2e-4, (start, clean, marred)


@pytest.mark.slow
def test_real_photos_are_explained_better_without_losing_the_landmarks(shared, fit_tools, detector) -> None:
    from headlab.datasets.photo import read_photo
    from headlab.geometry.landmarks import IBUG68

    model = fit_tools.model
    for name in ("p01", "p03", "p06", "p09", "p11", "p14"):
        frame = read_photo(shared / "data/photos" / f"{name}.jpg")
        points = detector.detect(frame.image)[0].points
        geometry = fit_landmarks(fit_tools.basis, points[None], [frame.size], focal=[frame.focal])
        codes = geometry.codes.to(dtype=torch.float32)
        cameras = tuple(camera.to(dtype=torch.float32) for camera in geometry.cameras)
        result = refine_photometric(model, fit_tools.albedo, codes, cameras, [frame.image], points[None])
        assert result.error_after < result.error_before, name
        eyes = (points[33] - points[263]).norm()

        def error(code: HeadCode, camera=cameras[0], points=points, eyes=eyes) -> float:
            found = camera.project(model.landmarks3d(model.vertices(code), "68"))
            return float((found - points[list(IBUG68)]).norm(dim=1).mean() / eyes)

        assert error(result.codes[0]) < error(codes[0]) + 0.003, name
