"""The restricted model and its analytic derivatives against HeadModel, Camera and torch's forward-mode autograd."""

from dataclasses import replace

import numpy as np
import pytest
import roma
import torch
from synthetic import tiny_head
from torch import Tensor

from headlab.geometry.camera import Camera
from headlab.geometry.code import HeadCode
from headlab.geometry.fitting.landmark_basis import LandmarkBasis
from headlab.geometry.fitting.landmark_energy import LandmarkEnergy, LandmarkState
from headlab.geometry.fitting.landmark_problem import LandmarkFitConfig, _energy
from headlab.geometry.fitting.lm import ArrowVector
from headlab.geometry.fitting.priors import POSE_VARIABLES, photo_prior
from headlab.geometry.fitting.so3 import left_jacobian, rotation_matrix, rotation_vector
from headlab.geometry.models.head_model import HeadModel, LandmarkEmbedding

SIZE = (600, 500)


def random_state(basis: LandmarkBasis, photos: int, rng: np.random.Generator) -> LandmarkState:
    s, e = basis.fixed.shapes, basis.fixed.expressions
    return LandmarkState(
        rng.standard_normal(s),
        rng.uniform(0.1, 0.9, (photos, e)),
        np.log(rng.uniform(600, 1500, photos)),
        np.stack([rotation_matrix(v) for v in rng.standard_normal((photos, 3)) * 0.4]),
        np.log(rng.uniform(700, 1500, photos)),
        rng.uniform(-50, 50, (photos, 2)),
        rng.uniform(0.02, 0.1, (photos, 3)),
        rng.uniform(-0.3, 0.3, (photos, 2, 2)),
    )


def make_energy(basis: LandmarkBasis, state: LandmarkState, config: LandmarkFitConfig, seed: int = 5) -> LandmarkEnergy:
    photos = len(state.log_focal)
    rng = np.random.default_rng(seed)
    targets = rng.uniform(-200, 200, (photos, 478, 2))
    priors = tuple(photo_prior(basis.model, config.priors, SIZE, None, fit_jaw=True) for _ in range(photos))
    return _energy(basis, state, targets, priors, config)


def torch_pixels(model: HeadModel, basis: LandmarkBasis, energy: LandmarkEnergy, state: LandmarkState, photo: int, x):
    """Pixels of the energy's points by way of HeadModel.vertices and Camera.project, for a step x off the state."""
    s, e = model.shapes, model.expressions
    inner = torch.from_numpy(basis.order[: basis.fixed.points])
    outline = torch.from_numpy(energy.outline_rows[photo])
    static, lines = model.landmarks["478"], basis.lines.embedding
    embedding = LandmarkEmbedding(
        torch.cat([static.faces[inner], lines.faces[outline]]),
        torch.cat([static.weights[inner], lines.weights[outline]]),
    )

    def value(array) -> Tensor:
        return torch.as_tensor(np.asarray(array), dtype=torch.float64)

    shape = value(state.shape) + x[:s]
    expression = value(state.expression[photo]) + x[s : s + e]
    pose = x[s + e :]
    focal = torch.exp(value(state.log_focal[photo]) + pose[0])
    rotation = roma.rotvec_to_rotmat(pose[1:4]) @ value(state.rotation[photo])
    scale = torch.exp(value(state.log_scale[photo]) + pose[4])
    offset = value(state.offset[photo]) + pose[5:7]
    jaw = value(state.jaw[photo]) + pose[7:10]
    eyes = value(state.eyes[photo]) + pose[10:].reshape(2, 2)
    eyes = torch.cat([eyes, torch.zeros(2, 1, dtype=torch.float64)], -1)
    placed = torch.stack([offset[0], -offset[1], -focal]) / scale
    root = model.joints(shape)[0]
    translation = placed - rotation @ (value(basis.centre) - root) - root
    code = HeadCode(
        shape, expression, roma.rotmat_to_rotvec(rotation), torch.zeros(3, dtype=torch.float64), jaw, eyes, translation
    )
    camera = Camera.frontal(focal, SIZE, torch.float64)
    points = model.surface_points(model.vertices(code), embedding)
    return camera.project(points) - value([SIZE[1] / 2, SIZE[0] / 2])


@pytest.mark.filterwarnings("ignore:.torch.jit:DeprecationWarning")  # torch.func of torch 2.13 itself
@pytest.mark.parametrize("pose_basis", [False, True])
def test_values_and_jacobian_match_autograd(pose_basis: bool):
    model = tiny_head(pose_basis=pose_basis)
    basis = LandmarkBasis.build(model)
    state = random_state(basis, 2, np.random.default_rng(3))
    energy = make_energy(basis, state, LandmarkFitConfig(kernel="none"))
    evaluation = energy.evaluate(state)
    zero = torch.zeros(model.shapes + model.expressions + POSE_VARIABLES, dtype=torch.float64)
    for i, photo in enumerate(evaluation.photos):

        def pixels(x: Tensor, i: int = i) -> Tensor:
            return torch_pixels(model, basis, energy, state, i, x)

        np.testing.assert_allclose(photo.pixels, pixels(zero).numpy(), atol=1e-8)
        expected = torch.func.jacfwd(pixels)(zero).numpy()  # (n, 2, variables)
        expected = np.einsum("nab,nbx->anx", energy.whiten[i], expected)
        ours = energy._jacobian(state, i, photo, np.ones(len(photo.pixels))).reshape(expected.shape)
        scale = np.abs(expected).max((0, 1))
        assert np.abs((ours - expected) / scale).max() < 1e-6


@pytest.mark.parametrize("kernel", ["charbonnier", "geman-mcclure", "none"])
@pytest.mark.parametrize("shared_focal", [False, True])
def test_gradient_matches_finite_differences(kernel: str, shared_focal: bool):
    """Priors, kernels, shared variables: the gradient of the whole cost along random steps."""
    basis = LandmarkBasis.build(tiny_head())
    rng = np.random.default_rng(0)
    state = random_state(basis, 3, rng)
    energy = make_energy(basis, state, LandmarkFitConfig(kernel=kernel, noise=0.2))
    energy = replace(energy, shared_focal=shared_focal)
    gradient = energy.linearize(energy.evaluate(state)).gradient
    for _ in range(5):
        step = ArrowVector(rng.standard_normal(gradient.shared.shape), rng.standard_normal(gradient.blocks.shape))
        h = 1e-6
        costs = [
            energy.evaluate(energy.retract(state, ArrowVector(a * step.shared, a * step.blocks))).cost for a in (h, -h)
        ]
        numeric, analytic = (costs[0] - costs[1]) / (2 * h), gradient.dot(step)
        if shared_focal:  # the blocks' own focal column is held
            step.blocks[:, basis.fixed.expressions] = 0
            analytic = gradient.dot(step)
        assert abs(numeric - analytic) < 1e-5 * max(abs(analytic), 1.0) + 1e-6 * costs[0]


def test_fixed_identity_is_the_same_function():
    basis = LandmarkBasis.build(tiny_head(pose_basis=True))
    state = random_state(basis, 1, np.random.default_rng(1))
    free = make_energy(basis, state, LandmarkFitConfig())
    held = make_energy(basis, state, LandmarkFitConfig(fit_shape=False))
    a, b = free.evaluate(state), held.evaluate(state)
    np.testing.assert_allclose(a.photos[0].pixels, b.photos[0].pixels, atol=1e-9)
    np.testing.assert_allclose(
        free.linearize(a).blocks,
        held.linearize(b).blocks,
        rtol=1e-9,
        atol=1e-6 * np.abs(free.linearize(a).blocks).max(),
    )


@pytest.mark.parametrize("angle", [0.0, 1e-8, 1e-4, 0.9e-3, 1.1e-3, 0.5, 3.0, np.pi])
def test_rotations(angle: float):
    axis = np.array([1.0, -2.0, 0.5]) / np.linalg.norm([1.0, -2.0, 0.5])
    vector = axis * angle
    expected = roma.rotvec_to_rotmat(torch.from_numpy(vector)).numpy()
    np.testing.assert_allclose(rotation_matrix(vector), expected, atol=1e-12)
    np.testing.assert_allclose(rotation_matrix(rotation_vector(rotation_matrix(vector))), expected, atol=1e-10)
    h = 1e-6
    for k in range(3):
        dv = h * np.eye(3)[k]
        turned = rotation_matrix(left_jacobian(vector) @ dv) @ rotation_matrix(vector)
        np.testing.assert_allclose(turned, rotation_matrix(vector + dv), atol=1e-11)
