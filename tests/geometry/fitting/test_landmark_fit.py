"""Landmark fitting on projections of known heads."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from synthetic import tiny_head
from torch import Tensor

from headlab.geometry.camera import Camera
from headlab.geometry.code import HeadCode
from headlab.geometry.errors import HeadlabError
from headlab.geometry.fitting.contour import ContourLines, outward_normals
from headlab.geometry.fitting.landmark_fit import LandmarkBasis, LandmarkFitConfig, fit_landmarks
from headlab.geometry.fitting.landmark_layout import MEDIAPIPE
from headlab.geometry.fitting.lm import LMConfig
from headlab.geometry.fitting.pose_init import weak_perspective_pose
from headlab.geometry.fitting.priors import LandmarkPriors
from headlab.geometry.fitting.so3 import rotation_matrix
from headlab.geometry.landmarks.mesh478 import FACE_OVAL
from headlab.geometry.models.head_model import HeadModel

SIZE = (600, 500)
FOCAL = 900.0
#: Landmarks fixed to the surface and trusted: the truth is then the only minimum.
EXACT = LandmarkFitConfig(
    noise=1e-4,
    contour_noise=(1.0, 1.0),
    systematic=0.0,
    outline="fixed",
    fit_jaw=True,
    solver=LMConfig(cost_tolerance=1e-9),
)


@pytest.fixture(scope="module")
def model() -> HeadModel:
    return tiny_head()


@pytest.fixture(scope="module")
def basis(model: HeadModel) -> LandmarkBasis:
    return LandmarkBasis.build(model)


def random_code(model: HeadModel, photos: int, seed: int, yaw: float = 0.3) -> HeadCode:
    """One person in some photos, about a metre in front of the camera."""
    generator = torch.Generator().manual_seed(seed)

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    def uniform(low: float, high: float, *shape: int) -> Tensor:
        return low + (high - low) * torch.rand(*shape, generator=generator, dtype=torch.float64)

    eyes = torch.cat([uniform(-0.2, 0.2, photos, 1, 2).expand(-1, 2, -1), torch.zeros(photos, 2, 1)], -1)
    return HeadCode(
        normal(1, model.shapes).expand(photos, -1),
        uniform(0, 0.8, photos, model.expressions),
        normal(photos, 3) * torch.tensor([0.1, yaw, 0.1], dtype=torch.float64),
        torch.zeros(photos, 3, dtype=torch.float64),
        torch.cat([uniform(0, 0.3, photos, 1), uniform(-0.02, 0.02, photos, 2)], -1),
        eyes.double(),
        torch.cat([uniform(-0.1, 0.1, photos, 2), uniform(-1.3, -0.8, photos, 1)], -1),
    )


def project(model: HeadModel, code: HeadCode, which: str = "478") -> Tensor:
    points = model.landmarks3d(model.vertices(code), which)
    return Camera.frontal(FOCAL, SIZE, torch.float64).project(points)


@pytest.mark.parametrize("photos", [1, 3])
@pytest.mark.parametrize("known_focal", [True, False])
def test_recovers_what_was_projected(model, basis, photos: int, known_focal: bool):
    code = random_code(model, photos, seed=photos)
    fit = fit_landmarks(
        basis, project(model, code), [SIZE] * photos, focal=[FOCAL] * photos if known_focal else None, config=EXACT
    )
    assert fit.report.converged
    assert max(fit.report.nme) < 1e-4
    torch.testing.assert_close(fit.codes.shape, code.shape, atol=0.02, rtol=0)
    torch.testing.assert_close(fit.codes.expression, code.expression, atol=0.01, rtol=0)
    torch.testing.assert_close(fit.codes.rotation, code.rotation, atol=1e-3, rtol=0)
    torch.testing.assert_close(fit.codes.jaw, code.jaw, atol=0.01, rtol=0)
    torch.testing.assert_close(fit.codes.eyes, code.eyes, atol=0.02, rtol=0)
    for camera in fit.cameras:
        assert abs(float(camera.K[0, 0]) / FOCAL - 1) < (1e-9 if known_focal else 0.005)
    torch.testing.assert_close(fit.codes.translation, code.translation, atol=0.005, rtol=0)


def test_points_are_those_of_the_returned_code_and_camera(model, basis):
    code = random_code(model, 2, seed=4)
    fit = fit_landmarks(basis, project(model, code), [SIZE] * 2, config=replace(EXACT, noise=0.02))
    seen = model.landmarks3d(model.vertices(fit.codes), "478")
    for camera, points, expected in zip(fit.cameras, seen, fit.points, strict=True):
        torch.testing.assert_close(camera.project(points), expected, atol=1e-6, rtol=0)


def test_float32_model_gives_float32(basis):
    model = tiny_head().to(dtype=torch.float32)
    code = random_code(tiny_head(), 1, seed=2)
    fit = fit_landmarks(model, project(tiny_head(), code).float(), [SIZE], focal=[FOCAL], config=EXACT)
    assert fit.codes.shape.dtype == fit.cameras[0].K.dtype == fit.points.dtype == torch.float32
    assert max(fit.report.nme) < 1e-3


@pytest.mark.parametrize("yaw", [-90.0, -45.0, 0.0, 60.0, 90.0])
@pytest.mark.parametrize("roll", [0.0, 90.0, 180.0])
def test_closed_form_pose(basis, yaw: float, roll: float):
    rotation = rotation_matrix(np.array([0, 0, np.deg2rad(roll)])) @ rotation_matrix(np.array([0, np.deg2rad(yaw), 0]))
    points = basis.mean_points - basis.centre
    pixels = 1500 * (points @ rotation.T)[:, :2] * np.array([1, -1]) + np.array([200, 300])
    rng = np.random.default_rng(0)
    pixels[rng.choice(len(pixels), 40, replace=False)] += rng.uniform(-200, 200, (40, 2))
    found, scale, offset = weak_perspective_pose(points, pixels, np.ones(len(points)))
    angle = np.arccos(np.clip((np.trace(found.T @ rotation) - 1) / 2, -1, 1))
    assert np.rad2deg(angle) < 3
    assert abs(scale / 1500 - 1) < 0.03
    np.testing.assert_allclose(offset, [200, 300], atol=4)


def test_finds_large_rotations(model, basis):
    code = random_code(model, 1, seed=6)
    for vector in ([0.1, 1.2, 0.0], [0.0, -1.3, 0.2], [0.2, 0.1, 3.0]):
        turned = code.with_(rotation=torch.tensor([vector], dtype=torch.float64))
        fit = fit_landmarks(basis, project(model, turned), [SIZE], focal=[FOCAL], config=EXACT)
        assert max(fit.report.nme) < 1e-3


@pytest.mark.parametrize("pixels", [0.2, 1.0, 3.0])
def test_noise_is_averaged_out(model, basis, pixels: float):
    code = random_code(model, 1, seed=3)
    exact = project(model, code)
    generator = torch.Generator().manual_seed(0)
    noisy = exact + pixels * torch.randn(exact.shape, generator=generator, dtype=torch.float64)
    noise = pixels * float(-code.translation[0, 2]) / FOCAL / basis.eye_distance
    fit = fit_landmarks(basis, noisy, [SIZE], focal=[FOCAL], config=replace(EXACT, noise=noise))
    # 33 variables of 956 numbers: the error left is about sqrt(33 / 956) of the noise
    assert torch.linalg.norm(fit.points - exact, dim=-1).mean() < 0.35 * pixels


@pytest.mark.parametrize("kernel", ["charbonnier", "geman-mcclure"])
def test_outliers_hardly_matter(model, basis, kernel: str):
    code = random_code(model, 1, seed=5)
    exact = project(model, code)
    generator = torch.Generator().manual_seed(1)
    spoiled = exact + 0.3 * torch.randn(exact.shape, generator=generator, dtype=torch.float64)
    bad = torch.randperm(478, generator=generator)[:48]
    spoiled[:, bad] += 60 * torch.randn(1, 48, 2, generator=generator, dtype=torch.float64)
    errors = {}
    for name in (kernel, "none"):
        config = replace(EXACT, noise=0.005, kernel=name)
        fit = fit_landmarks(basis, spoiled, [SIZE], focal=[FOCAL], config=config)
        errors[name] = float(torch.linalg.norm(fit.points - exact, dim=-1).mean())
    assert errors[kernel] < 1.0
    assert errors[kernel] < 0.2 * errors["none"]


def test_more_photos_know_the_person_better(model, basis):
    code = random_code(model, 6, seed=8)
    generator = torch.Generator().manual_seed(2)
    noisy = project(model, code) + 1.5 * torch.randn(6, 478, 2, generator=generator, dtype=torch.float64)
    config = replace(EXACT, noise=0.02)
    alone = [fit_landmarks(basis, noisy[i : i + 1], [SIZE], focal=[FOCAL], config=config) for i in range(6)]
    together = fit_landmarks(basis, noisy, [SIZE] * 6, focal=[FOCAL] * 6, config=config)
    assert bool((together.codes.shape == together.codes.shape[:1]).all())
    single = np.mean([float(torch.linalg.norm(fit.codes.shape[0] - code.shape[0])) for fit in alone])
    assert float(torch.linalg.norm(together.codes.shape[0] - code.shape[0])) < 0.7 * single


def test_shared_focal(model, basis):
    code = random_code(model, 3, seed=9)
    config = replace(EXACT, shared_focal=True)
    fit = fit_landmarks(basis, project(model, code), [SIZE] * 3, config=config)
    focal = [float(camera.K[0, 0]) for camera in fit.cameras]
    assert focal[0] == focal[1] == focal[2]
    assert abs(focal[0] / FOCAL - 1) < 0.005


def test_weights_stay_within_bounds(model, basis):
    code = random_code(model, 1, seed=10)
    beyond = code.with_(expression=torch.linspace(-1.0, 2.0, model.expressions, dtype=torch.float64)[None])
    fit = fit_landmarks(basis, project(model, beyond), [SIZE], focal=[FOCAL], config=EXACT)
    assert float(fit.codes.expression.min()) >= 0
    assert float(fit.codes.expression.max()) <= 1


def test_warm_start_needs_few_evaluations(model, basis):
    code = random_code(model, 2, seed=11)
    first = fit_landmarks(basis, project(model, code), [SIZE] * 2, config=EXACT)
    usual = replace(EXACT, solver=LMConfig())
    again = fit_landmarks(basis, project(model, code), [SIZE] * 2, init=first, config=usual)
    assert again.report.evaluations <= 3
    torch.testing.assert_close(again.points, first.points, atol=0.05, rtol=0)
    moved = code.with_(rotation=code.rotation + 0.03, expression=(code.expression + 0.05).clamp(0, 1))
    known = replace(EXACT, fit_shape=False)
    next_frame = fit_landmarks(basis, project(model, moved), [SIZE] * 2, init=first, config=known)
    assert max(next_frame.report.nme) < 1e-3
    assert next_frame.report.evaluations <= 8
    torch.testing.assert_close(next_frame.codes.shape, first.codes.shape)


def test_warm_start_survives_a_cut(model, basis):
    code = random_code(model, 1, seed=11)
    first = fit_landmarks(basis, project(model, code), [SIZE], config=EXACT)
    cut = code.with_(
        rotation=torch.tensor([[0.3, -1.2, 1.5]], dtype=torch.float64),
        translation=torch.tensor([[0.1, 0.1, -0.6]], dtype=torch.float64),
    )
    fit = fit_landmarks(basis, project(model, cut), [SIZE], init=first, config=replace(EXACT, fit_shape=False))
    assert max(fit.report.nme) < 1e-3


def test_fits_the_68_points_of_models_without_more(model):
    fewer = replace(model, landmarks={"68": model.landmarks["68"]})
    code = random_code(model, 1, seed=12).with_(eyes=torch.zeros(1, 2, 3, dtype=torch.float64))
    fit = fit_landmarks(fewer, project(model, code), [SIZE], focal=[FOCAL], config=EXACT)
    assert fit.points.shape == (1, 68, 2)
    assert max(fit.report.nme) < 1e-3


def test_contour_lines_start_at_the_landmarks_and_run_over_the_surface(model, basis):
    points = model.surface_points(model.template, basis.lines.embedding).numpy()
    assert float(basis.lines.embedding.weights.min()) >= -1e-9
    lines = points[basis.lines.rows]
    np.testing.assert_allclose(lines[:, 0], basis.mean_points[list(FACE_OVAL)], atol=1e-9)
    gaps = np.linalg.norm(np.diff(lines, axis=1), axis=-1)
    assert gaps.max() <= 0.002 + 1e-9
    inside = np.linalg.norm(lines[:, 0, :2], axis=-1) - np.linalg.norm(lines[:, -1, :2], axis=-1)
    assert inside.min() > 0.01


@pytest.mark.parametrize("degrees", [-50, 0, 50])
def test_outline_slides_to_the_silhouette_of_the_averted_side_only(model, degrees: int):
    lines = ContourLines.build(model, MEDIAPIPE)
    points = model.surface_points(model.template, lines.embedding).numpy()
    angle = np.deg2rad(degrees)
    turned = points @ rotation_matrix(np.array([0.0, angle, 0.0])).T
    pixels = 1000 * turned[:, :2] * np.array([1, -1])
    outline = pixels[lines.rows[:, 0]]
    chosen = lines.march(pixels, outward_normals(outline, True, outline.mean(0)), 0.5)
    slid = chosen != lines.rows[:, 0]
    if degrees == 0:
        assert not slid.any()
        return
    side = np.sign(points[lines.rows[:, 0], 0]) * np.sign(degrees)  # subject's left cheek is averted for yaw > 0
    level = np.abs(points[lines.rows[:, 0], 1]) < 0.06
    assert slid[level & (side > 0)].all()
    assert not slid[level & (side < 0)].any()
    # the ellipsoid's outline: surface normals there are square to the view
    normal = points[chosen] / np.array([0.075, 0.11, 0.095]) ** 2
    normal = (normal / np.linalg.norm(normal, axis=-1, keepdims=True)) @ rotation_matrix(np.array([0.0, angle, 0.0])).T
    assert np.abs(normal[level & (side > 0), 2]).max() < 0.15


def test_turned_head_with_the_outline_on_its_silhouette(model, basis):
    """What a detector gives for a turned head: outline points on the visible edge. Sliding must explain them."""
    code = random_code(model, 1, seed=13).with_(rotation=torch.tensor([[0.0, 0.8, 0.0]], dtype=torch.float64))
    vertices = model.vertices(code)
    camera = Camera.frontal(FOCAL, SIZE, torch.float64)
    landmarks = camera.project(model.landmarks3d(vertices, "478"))
    candidates = camera.project(model.surface_points(vertices, basis.lines.embedding))[0].numpy()
    outline = landmarks[0, list(FACE_OVAL)].numpy()
    outward = outward_normals(outline, True, outline.mean(0))
    for _ in range(3):  # the normals are those of the detected outline
        outline = candidates[basis.lines.march(candidates, outward, 0.5)]
        outward = outward_normals(outline, True, landmarks[0].numpy().mean(0))
    assert np.linalg.norm(outline - landmarks[0, list(FACE_OVAL)].numpy(), axis=-1).max() > 5
    landmarks[0, list(FACE_OVAL)] = torch.from_numpy(outline)
    truth = model.landmarks3d(vertices, "478")
    errors = []
    for outline in ("fixed", "sliding", "auto"):
        config = replace(EXACT, noise=0.01, outline=outline)
        fit = fit_landmarks(basis, landmarks, [SIZE], focal=[FOCAL], config=config)
        errors.append(
            float(torch.linalg.norm(model.landmarks3d(model.vertices(fit.codes), "478") - truth, dim=-1).mean())
        )
    assert errors[1] < 0.5 * errors[0]
    assert errors[2] < 0.5 * errors[0]


def test_priors_hold_what_landmarks_do_not_tell(model, basis):
    """A face that fills a small crop: the focal length stays plausible, and so does the distance."""
    code = random_code(model, 1, seed=14)
    fit = fit_landmarks(
        basis, project(model, code), [SIZE], config=LandmarkFitConfig(noise=0.05, priors=LandmarkPriors(shape=2.0))
    )
    assert 0.7 < float(fit.cameras[0].K[0, 0]) / max(SIZE) < 2.8
    assert 0.4 < -float(fit.codes.translation[0, 2]) < 2.5


def test_wrong_input_is_named(model, basis):
    landmarks = project(model, random_code(model, 1, seed=1))
    with pytest.raises(HeadlabError, match="not finite"):
        fit_landmarks(basis, landmarks * float("nan"), [SIZE])
    with pytest.raises(HeadlabError, match="one place"):
        fit_landmarks(basis, landmarks * 0, [SIZE])
    with pytest.raises(HeadlabError, match="1 photos came with 2 sizes"):
        fit_landmarks(basis, landmarks, [SIZE] * 2)
    with pytest.raises(HeadlabError, match="positive"):
        fit_landmarks(basis, landmarks, [SIZE], focal=[-5.0])
    with pytest.raises(HeadlabError, match="starting fit"):
        fit_landmarks(basis, landmarks, [SIZE], config=LandmarkFitConfig(fit_shape=False))
    with pytest.raises(HeadlabError, match="no 478- or 68-point"):
        fit_landmarks(replace(model, landmarks={}), landmarks, [SIZE])


@pytest.mark.slow
def test_real_photos(shared):
    """Bar of the landmark stage on real photos, against MediaPipe's reference points."""
    from headlab.geometry.models.default import load_default_head

    data = np.load(shared / "data/photos/mediapipe_reference.npz")
    basis = LandmarkBasis.build(load_default_head())
    errors, yaws = [], []
    for landmarks, (width, height) in zip(data["landmarks"], data["image_wh"].tolist(), strict=True):
        if not np.isfinite(landmarks).all():
            continue
        pixels = torch.from_numpy(landmarks[None, :, :2].astype(np.float64) * [width, height])
        fit = fit_landmarks(basis, pixels, [(height, width)])
        errors.append(fit.report.nme[0])
        yaws.append(abs(np.rad2deg(np.arctan2(*rotation_matrix(fit.codes.rotation[0].double().numpy())[[0, 2], 2]))))
        assert float(fit.codes.shape.square().mean().sqrt()) < 1.5
    turned = np.array(yaws) > 25
    assert len(errors) == 125
    assert np.mean(errors) < 0.025
    assert np.array(errors)[~turned].max() < 0.04
    assert np.array(errors)[turned].max() < 0.06
