"""HeadModel: linear blend skinning against a plain numpy version, finite differences, and closed forms."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from synthetic import tiny_head

from headlab.geometry.code import HeadCode
from headlab.geometry.models.head_model import HeadModel, LandmarkEmbedding, License

F64 = torch.float64


@pytest.fixture(scope="module")
def model() -> HeadModel:
    return tiny_head(rings=8, pose_basis=True)


def random_code(model: HeadModel, batch: tuple[int, ...] = (), seed: int = 0) -> HeadCode:
    generator = torch.Generator().manual_seed(seed)

    def values(*shape: int, scale: float = 1.0) -> torch.Tensor:
        return scale * torch.randn(*batch, *shape, generator=generator, dtype=F64)

    return HeadCode(
        values(model.shapes),
        values(model.expressions, scale=0.4),
        values(3, scale=0.6),
        values(3, scale=0.3),
        values(3, scale=0.3),
        values(2, 3, scale=0.3),
        values(3, scale=0.1),
    )


def rodrigues(vector: np.ndarray) -> np.ndarray:
    angle = np.linalg.norm(vector)
    if angle == 0:
        return np.eye(3)
    x, y, z = vector / angle
    k = np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]])
    return np.eye(3) + math.sin(angle) * k + (1 - math.cos(angle)) * k @ k


def skinned(model: HeadModel, code: HeadCode) -> np.ndarray:
    """Linear blend skinning by 4 x 4 matrices, vertex by vertex, as SMPL and FLAME describe it."""
    beta, psi = code.shape.numpy(), code.expression.numpy()
    neutral = model.template.numpy() + model.shape_basis.numpy()[..., : len(beta)] @ beta
    shaped = neutral + model.expression_basis.numpy()[..., : len(psi)] @ psi
    joints = model.joint_regressor.numpy() @ (shaped if model.joints_follow_expression else neutral)
    vectors = [code.rotation, code.neck, code.jaw, code.eyes[0], code.eyes[1]]
    local = [rodrigues(vector.numpy()) for vector in vectors]
    if model.pose_basis is not None:
        feature = np.concatenate([(rotation - np.eye(3)).ravel() for rotation in local[1:]])
        shaped = shaped + model.pose_basis.numpy() @ feature
    world = []
    for joint, parent in enumerate(model.parents):
        bone = np.eye(4)
        bone[:3, :3] = local[joint]
        bone[:3, 3] = joints[joint] - (joints[parent] if parent >= 0 else 0)
        world.append(bone if parent < 0 else world[parent] @ bone)
    for joint, bone in enumerate(world):
        bone[:3, 3] -= bone[:3, :3] @ joints[joint]
    out = np.empty_like(shaped)
    for vertex, weights in enumerate(model.skin_weights.numpy()):
        blended = sum(weight * bone for weight, bone in zip(weights, world, strict=True))
        out[vertex] = (blended @ np.append(shaped[vertex], 1))[:3]
    return out + code.translation.numpy()


@pytest.mark.parametrize("follow", [False, True])
@pytest.mark.parametrize("correctives", [False, True])
def test_vertices_agree_with_plain_numpy(model: HeadModel, follow: bool, correctives: bool) -> None:
    model = replace(model, joints_follow_expression=follow, pose_basis=model.pose_basis if correctives else None)
    for seed in range(3):
        code = random_code(model, seed=seed)
        np.testing.assert_allclose(model.vertices(code).numpy(), skinned(model, code), atol=1e-12)


def test_the_neutral_head_is_the_template(model: HeadModel) -> None:
    torch.testing.assert_close(model.vertices(model.neutral()), model.template)


@pytest.mark.parametrize("batch", [(), (1,), (3, 1, 2, 1)])
def test_leading_axes_are_free(model: HeadModel, batch: tuple[int, ...]) -> None:
    code = random_code(model, batch)
    vertices = model.vertices(code)
    assert vertices.shape == (*batch, *model.template.shape)
    assert model.joints(code.shape).shape == (*batch, 5, 3)
    assert model.landmarks3d(vertices, "68").shape == (*batch, 68, 3)
    flat = code.map(lambda value: value.reshape(-1, *value.shape[len(batch) :]))
    one_by_one = torch.stack([model.vertices(flat[i]) for i in range(len(flat.shape))])
    torch.testing.assert_close(vertices.reshape(one_by_one.shape), one_by_one)


def test_fields_broadcast_against_each_other(model: HeadModel) -> None:
    """One identity, two expressions, three poses."""
    code = random_code(model)
    poses, faces = random_code(model, (3, 1), 1), random_code(model, (2,), 2)
    mixed = code.with_(rotation=poses.rotation, jaw=faces.jaw, expression=faces.expression)
    vertices = model.vertices(mixed)
    assert vertices.shape == (3, 2, *model.template.shape)
    for i in range(3):
        for j in range(2):
            one = code.with_(rotation=poses.rotation[i, 0], jaw=faces.jaw[j], expression=faces.expression[j])
            torch.testing.assert_close(vertices[i, j], model.vertices(one))


def test_only_the_translation_may_be_batched(model: HeadModel) -> None:
    code = model.neutral().with_(translation=torch.tensor([[0.0, 0, 0], [1.0, 2, 3]], dtype=F64))
    vertices = model.vertices(code)
    torch.testing.assert_close(vertices[1] - vertices[0], code.translation[1].expand_as(model.template))


def test_gradients_are_those_of_finite_differences() -> None:
    model = replace(tiny_head(3, rings=3, pose_basis=True), landmarks={})
    code = random_code(model)
    fields = [value.clone().requires_grad_() for value in code.arrays().values()]
    names = list(code.arrays())

    def vertices(*values: torch.Tensor) -> torch.Tensor:
        return model.vertices(HeadCode(**dict(zip(names, values, strict=True))))

    assert torch.autograd.gradcheck(vertices, fields)


def test_gradients_are_finite_at_zero_rotation(model: HeadModel) -> None:
    code = model.neutral().map(lambda value: value.requires_grad_())
    model.vertices(code).square().sum().backward()
    assert all(value.grad is not None and value.grad.isfinite().all() for value in code.arrays().values())


@pytest.mark.parametrize(("axis", "angle"), [((0.0, 1.0, 0.0), 0.5), ((1.0, 0.0, 0.0), -1.2)])
def test_the_global_rotation_turns_everything_about_the_root(model: HeadModel, axis, angle: float) -> None:
    rotation = torch.tensor(axis, dtype=F64) * angle
    turn = torch.from_numpy(rodrigues(rotation.numpy()))
    root = model.joints(model.neutral().shape)[0]
    expected = (model.template - root) @ turn.mT + root
    torch.testing.assert_close(model.vertices(model.neutral().with_(rotation=rotation)), expected)


@pytest.mark.parametrize("angle", [0.2, 1.1])
def test_a_joint_turns_what_is_wholly_bound_to_it(model: HeadModel, angle: float) -> None:
    weights = torch.zeros_like(model.skin_weights)
    weights[:, 0] = 1
    moved = model.template[:, 2] > 0.05
    weights[moved] = torch.tensor([0.0, 0, 1, 0, 0], dtype=F64)
    model = replace(model, skin_weights=weights, pose_basis=None)
    jaw = torch.tensor([angle, 0.0, 0.0], dtype=F64)
    vertices = model.vertices(model.neutral().with_(jaw=jaw))
    pivot = model.joints(model.neutral().shape)[2]
    turn = torch.from_numpy(rodrigues(jaw.numpy()))
    torch.testing.assert_close(vertices[moved], (model.template[moved] - pivot) @ turn.mT + pivot)
    torch.testing.assert_close(vertices[~moved], model.template[~moved])


def test_translation_moves_in_the_world(model: HeadModel) -> None:
    code = random_code(model)
    shift = torch.tensor([0.3, -0.2, 0.1], dtype=F64)
    moved = model.vertices(code.with_(translation=code.translation + shift))
    torch.testing.assert_close(moved, model.vertices(code) + shift)


def test_short_codes_stand_for_leading_components(model: HeadModel) -> None:
    code = random_code(model)
    short = code.with_(shape=code.shape[:4], expression=code.expression[:2])
    full = code.with_(shape=code.shape.clone(), expression=code.expression.clone())
    full.shape[4:], full.expression[2:] = 0, 0
    torch.testing.assert_close(model.vertices(short), model.vertices(full))
    empty = code.with_(shape=code.shape[:0], expression=code.expression[:0])
    assert model.vertices(empty).shape == model.template.shape


def test_too_long_codes_are_refused(model: HeadModel) -> None:
    long = model.neutral().with_(shape=torch.zeros(model.shapes + 1, dtype=F64))
    with pytest.raises(ValueError, match=f"{model.shapes + 1} components, the basis only {model.shapes}"):
        model.vertices(long)


def test_unknown_landmarks_are_refused(model: HeadModel) -> None:
    with pytest.raises(KeyError, match="no 105-point landmarks"):
        model.landmarks3d(model.template, "105")


def test_surface_points_are_blends_of_corners(model: HeadModel) -> None:
    weights = torch.tensor([[1.0, 0, 0], [0.2, 0.3, 0.5]], dtype=F64)
    points = model.surface_points(model.template, LandmarkEmbedding(torch.tensor([7, 11]), weights))
    a, b, c = model.template[model.faces[11]]
    torch.testing.assert_close(points[0], model.template[model.faces[7, 0]])
    torch.testing.assert_close(points[1], 0.2 * a + 0.3 * b + 0.5 * c)


def test_a_model_without_joints_but_a_root_works(model: HeadModel) -> None:
    rigid = replace(
        model,
        joint_names=("root",),
        parents=(-1,),
        joint_regressor=model.joint_regressor[:1],
        skin_weights=torch.ones(len(model.template), 1, dtype=F64),
        pose_basis=None,
    )
    code = random_code(model)
    calm = code.with_(neck=code.neck * 0, jaw=code.jaw * 0, eyes=code.eyes * 0)
    torch.testing.assert_close(rigid.vertices(code), rigid.vertices(calm))


def test_to_changes_floats_only_and_leaves_the_original(model: HeadModel) -> None:
    single = model.to(dtype=torch.float32)
    assert single.template.dtype == single.landmarks["68"].weights.dtype == torch.float32
    assert single.faces.dtype == model.faces.dtype and model.template.dtype == F64
    assert single.license == License("made up", True, "https://example.org")
    close = single.vertices(random_code(model).to(dtype=torch.float32))
    torch.testing.assert_close(close.double(), model.vertices(random_code(model)), atol=1e-6, rtol=0)


def test_replacing_the_regressor_forgets_what_was_cached(model: HeadModel) -> None:
    before = model.joints(model.neutral().shape)
    other = replace(model, joint_regressor=model.joint_regressor.roll(1, 0))
    torch.testing.assert_close(other.joints(model.neutral().shape), before.roll(1, 0))
