"""Codes from one head model to another."""

from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation

from headlab.geometry.code import HeadCode
from headlab.geometry.errors import HeadlabError
from headlab.geometry.models.closest_surface import closest_points
from headlab.geometry.models.convert import convert_code
from headlab.geometry.models.correspondence import Correspondence, find_correspondence, similarity
from headlab.geometry.models.default import load_default_head
from headlab.geometry.models.flame import load_flame
from headlab.geometry.models.head_model import HeadModel
from headlab.geometry.models.ict import load_ict
from headlab.geometry.models.reduce import keep_vertices


@pytest.fixture(scope="module")
def ict(shared: Path) -> HeadModel:
    return load_ict(shared / "data/ict_facekit.npz")


@pytest.fixture(scope="module")
def default() -> HeadModel:
    return load_default_head()


@pytest.fixture(scope="module")
def ict_to_default(ict: HeadModel, default: HeadModel) -> Correspondence:
    return find_correspondence(ict, default)


def random_code(model: HeadModel, seed: int, expression: bool = True) -> HeadCode:
    g = torch.Generator().manual_seed(seed)
    few = (torch.rand(model.expressions, generator=g) < 0.1) * expression
    return model.neutral().with_(
        shape=torch.randn(model.shapes, generator=g),
        expression=torch.rand(model.expressions, generator=g) * few,
        rotation=torch.randn(3, generator=g) * 0.4,
        neck=torch.randn(3, generator=g) * 0.1,
        eyes=torch.randn(2, 3, generator=g) * 0.1,
        translation=torch.randn(3, generator=g) * 0.3,
    )


def gap(code: HeadCode, source: HeadModel, found: HeadCode, target: HeadModel, match: Correspondence) -> torch.Tensor:
    """Millimetres between the two posed faces, at matching points."""
    goal = match.points(source.vertices(code).double())
    return (target.vertices(found).double()[..., match.vertices, :] - goal).norm(dim=-1) * 1000


def test_closest_points_against_brute_force() -> None:
    random = np.random.default_rng(0)
    angle, height = np.meshgrid(np.linspace(0, 2 * np.pi, 24, endpoint=False), np.linspace(-1, 1, 12), indexing="ij")
    vertices = np.stack([np.cos(angle), height, np.sin(angle)], -1).reshape(-1, 3)
    index = np.arange(24 * 12).reshape(24, 12)
    a, b, c, d = index[:, :-1], np.roll(index, -1, 0)[:, :-1], np.roll(index, -1, 0)[:, 1:], index[:, 1:]
    faces = np.concatenate([np.stack([a, b, c], -1).reshape(-1, 3), np.stack([a, c, d], -1).reshape(-1, 3)])
    queries = random.uniform(-1.5, 1.5, (60, 3)) * [1, 0.7, 1]
    found = closest_points(queries, vertices, faces)
    rebuilt = (vertices[faces[found.face]] * found.weights[..., None]).sum(1)
    assert np.allclose(rebuilt, found.position)
    assert np.allclose(found.weights.sum(1), 1) and (found.weights >= -1e-12).all()
    # Independent: many samples of every triangle; none may be nearer.
    grid = random.dirichlet((1, 1, 1), 400)
    samples = np.einsum("sk,fkc->fsc", grid, vertices[faces]).reshape(-1, 3)
    nearest = np.linalg.norm(samples[None] - queries[:, None], axis=-1).min(1)
    ours = np.linalg.norm(found.position - queries, axis=1)
    assert (ours <= nearest + 1e-9).all()
    assert (ours >= nearest - 0.02).all()


def test_similarity_is_recovered() -> None:
    random = np.random.default_rng(1)
    points, weights = random.standard_normal((30, 3)), random.random(30)
    rotation, offset = Rotation.from_rotvec([0.3, -0.7, 1.1]).as_matrix(), np.array([1.0, -2.0, 0.5])
    scale, found, shift = similarity(points, 1.7 * points @ rotation.T + offset, weights)
    assert np.isclose(scale, 1.7) and np.allclose(found, rotation) and np.allclose(shift, offset)


def test_a_model_corresponds_to_itself(ict: HeadModel) -> None:
    match = find_correspondence(ict, ict)
    assert len(match.vertices) == int(ict.regions["face"].sum())
    code = random_code(ict, 5)
    same = match.points(ict.vertices(code).double()) - ict.vertices(code).double()[match.vertices]
    assert same.norm(dim=-1).max() < 1e-6


def test_round_trip_through_itself(ict: HeadModel) -> None:
    match = find_correspondence(ict, ict)
    for seed in range(2):
        code = random_code(ict, seed).with_(jaw=torch.tensor([0.1, 0.0, 0.0]))
        back = convert_code(code, ict, ict, match)
        error = gap(code, ict, back, ict, match)
        assert (error * match.importance).sum() < 0.15
        assert error.max() < 0.8


def test_correspondence_is_anatomical(ict: HeadModel, default: HeadModel, ict_to_default: Correspondence) -> None:
    match = ict_to_default
    assert len(match.vertices) > 0.9 * int(default.regions["face"].sum())
    assert torch.isclose(match.importance.sum(), torch.tensor(1.0, dtype=torch.float64))
    # Matching points near a landmark of one model lie near the same landmark of the other.
    marks_a, marks_b = ict.landmarks3d(ict.template), default.landmarks3d(default.template)
    points_a, points_b = match.points(ict.template.double()), default.template[match.vertices]
    for i in (27, 30, 33, 36, 39, 42, 45, 48, 51, 54, 57, 21, 22):
        nearest = (points_b - marks_b[i]).norm(dim=-1).argmin()
        assert (points_a[nearest] - marks_a[i]).norm() < 0.009, i


def test_neutral_face_stays_neutral_and_coincides(ict: HeadModel, default: HeadModel, ict_to_default) -> None:
    code = random_code(ict, 3, expression=False)
    found = convert_code(code, ict, default, ict_to_default)
    assert found.expression.abs().max() < 0.03  # the necks bend a little differently
    still = convert_code(code.with_(neck=torch.zeros(3)), ict, default, ict_to_default)
    assert still.expression.abs().max() < 1e-3
    error = gap(code, ict, found, default, ict_to_default)
    assert (error * ict_to_default.importance).sum() < 1.0
    assert error.max() < 8
    # The surface itself, not just matching points: a default face vertex to the ICT head.
    surface = ict.vertices(code).double().numpy()
    skin = ict.faces[ict.face_parts == 0].numpy()
    face = default.vertices(found).double()[ict_to_default.vertices].numpy()
    distance = np.linalg.norm(closest_points(face, surface, skin).position - face, axis=1)
    assert distance.mean() < 0.0008


def test_identity_does_not_depend_on_expression_or_pose(ict: HeadModel, default: HeadModel, ict_to_default) -> None:
    code = random_code(ict, 4)
    plain = ict.neutral().with_(shape=code.shape)
    a = convert_code(code, ict, default, ict_to_default)
    b = convert_code(plain, ict, default, ict_to_default)
    assert torch.allclose(a.shape, b.shape, atol=1e-5)
    assert (a.expression - b.expression).abs().max() > 0.05


def test_moving_the_head_moves_the_result(ict: HeadModel, default: HeadModel, ict_to_default) -> None:
    code = random_code(ict, 6)
    moved = code.with_(translation=code.translation + torch.tensor([0.1, 0.0, -0.4]))
    a, b = (convert_code(c, ict, default, ict_to_default) for c in (code, moved))
    assert torch.allclose(b.translation - a.translation, torch.tensor([0.1, 0.0, -0.4]), atol=1e-4)
    assert torch.allclose(a.rotation, b.rotation, atol=1e-4)
    assert torch.allclose(a.expression, b.expression, atol=1e-3)


@pytest.mark.parametrize("action", ["jawOpen", "mouthSmileLeft", "eyeBlinkRight", "mouthPucker"])
def test_actions_keep_their_meaning(ict: HeadModel, default: HeadModel, ict_to_default, action: str) -> None:
    psi = torch.eye(ict.expressions)[ict.expression_names.index(action)]
    found = convert_code(ict.neutral().with_(expression=psi), ict, default, ict_to_default)
    assert found.expression.min() >= -1e-9 and found.expression.max() <= 1 + 1e-9
    moves = default.expression_basis[ict_to_default.vertices].norm(dim=1).mean(0)  # how much each action shows
    shown = found.expression * moves
    assert default.expression_names[int(shown.argmax())] == action


def test_batch_axes_and_extras(ict: HeadModel, default: HeadModel, ict_to_default) -> None:
    rows = [random_code(ict, i) for i in (7, 8)]
    batch = HeadCode(**{n: torch.stack([r.arrays()[n] for r in rows])[:, None] for n in rows[0].arrays()})
    light = torch.randn(9, 3, generator=torch.Generator().manual_seed(0))
    batch = batch.with_(shape=batch.shape[:1], light=light, albedo=torch.zeros(2, 1, 5))
    found = convert_code(batch, ict, default, ict_to_default)
    assert found.shape.shape == (2, 1, default.shapes)
    assert found.eyes.shape == (2, 1, 2, 3)
    assert found.light is not None and torch.equal(found.light, light.expand(2, 1, 9, 3))
    assert found.albedo is None
    single = convert_code(rows[0].with_(light=light), ict, default, ict_to_default)
    assert torch.allclose(found.map(lambda v: v[0, 0]).expression, single.expression, atol=1e-5)


def test_target_without_jaw_action_opens_its_jaw(shared: Path, default: HeadModel) -> None:
    # FLAME has no jawOpen: a source whose mouth is open must come out with a turned jaw.
    folder = shared / "parity/geometry"
    flame = load_flame(folder / "flame_like.pkl", landmark_embedding=folder / "landmark_embedding.npy")
    match = find_correspondence(flame, flame)
    code = flame.neutral().with_(jaw=torch.tensor([0.3, 0.02, 0.0]), rotation=torch.tensor([0.1, 0.4, 0.0]))
    found = convert_code(code, flame, flame, match)
    error = gap(code, flame, found, flame, match)
    assert (error * match.importance).sum() < 0.5
    assert found.jaw[0] > 0.15


def test_reduced_model_equals_the_full_one(ict: HeadModel, shared: Path) -> None:
    flame = load_flame(shared / "parity/geometry/flame_like.pkl")
    for model in (ict, flame):
        keep = torch.arange(len(model.template) - 1, 0, -7)
        few = keep_vertices(model, keep)
        code = random_code(model, 9).with_(jaw=torch.tensor([0.2, 0.0, 0.1]))
        assert torch.allclose(few.vertices(code)[: len(keep)], model.vertices(code)[keep], atol=2e-6)


def test_models_without_landmarks_are_named(shared: Path, ict: HeadModel) -> None:
    flame = load_flame(shared / "parity/geometry/flame_like.pkl")
    with pytest.raises(HeadlabError, match="flame has no 68 landmarks"):
        find_correspondence(ict, flame)
