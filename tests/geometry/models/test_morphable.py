"""Building head models: what the augmentation does to heads, and what the model reproduces."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import roma
import torch

from headlab.geometry.errors import HeadlabError
from headlab.geometry.models.head_model import HeadModel
from headlab.geometry.models.morphable import MorphableConfig, aligned_heads, build_morphable
from headlab.geometry.models.morphable_augment import AugmentConfig, HeadStream, mirror_points
from headlab.geometry.models.morphable_regions import model_regions
from headlab.geometry.models.shape_space import vertex_areas
from headlab.geometry.models.storage import read_model, write_model

STILL = AugmentConfig(heads=40, exchange=0.0, mirror=0.0, turn=0.0, shift=0.0, scale=0.0, batch=16)


@pytest.fixture(scope="module")
def heads(default_head: HeadModel) -> np.ndarray:
    codes = torch.randn(10, default_head.shapes, generator=torch.Generator().manual_seed(1))
    return default_head.shaped(codes, codes.new_zeros(10, default_head.expressions)).numpy()


def stream(model: HeadModel, heads: np.ndarray, config: AugmentConfig) -> HeadStream:
    faces, rest = model.faces.numpy(), model.template.double().numpy()
    mirrored = mirror_points(rest, faces)
    assert mirrored is not None
    regions = model_regions(model, vertex_areas(rest, faces))
    return HeadStream.of(heads, regions, mirrored, faces[mirrored.face], config)


def own_core(some: HeadStream, name: str) -> np.ndarray:
    """Vertices that belong to one region whole, and to no other in part."""
    core = next(region.vertices[region.weight > 0.999] for region in some.regions if region.name == name)
    others = np.concatenate([region.vertices for region in some.regions if region.name != name])
    out = np.setdiff1d(core, others)
    assert len(out) > 20
    return out


def test_without_variation_heads_stay_what_they_are(default_head: HeadModel, heads: np.ndarray) -> None:
    made = np.concatenate(list(stream(default_head, heads, STILL).batches()))
    assert len(made) == 40
    np.testing.assert_array_equal(made[:10], heads)
    nearest = np.abs(made[:, None] - heads[None]).max((2, 3)).min(1)
    assert nearest.max() < 1e-5


def test_batches_come_again_the_same(default_head: HeadModel, heads: np.ndarray) -> None:
    some = stream(default_head, heads, AugmentConfig(heads=40, batch=16))
    first, second = (np.concatenate(list(some.batches())) for _ in "ab")
    np.testing.assert_array_equal(first, second)
    assert len(np.unique(first.reshape(40, -1)[:, ::97], axis=0)) == 40


def test_regions_are_turned_by_a_degree_but_not_the_eyes(default_head: HeadModel, heads: np.ndarray) -> None:
    config = replace(STILL, turn=1.0)
    some = stream(default_head, heads[:1], config)
    made = some.augmented(200, np.random.default_rng(0))
    angles = {}
    for region in some.regions:
        core = own_core(some, region.name)
        rest, moved = torch.from_numpy(heads[0][core]).double(), torch.from_numpy(made[:, core]).double()
        turn, _ = roma.rigid_points_registration(rest.expand(200, -1, -1), moved)
        angles[region.name] = torch.rad2deg(roma.rotmat_to_rotvec(turn).norm(dim=-1))
    assert angles["left_eye"].max() < 1e-2 and angles["right_eye"].max() < 1e-2
    for name in ("nose", "mouth"):  # three axes of one degree each
        assert float(angles[name].square().mean().sqrt()) == pytest.approx(3**0.5, rel=0.15)
    outside = np.ones(len(heads[0]), bool)
    for region in some.regions:
        outside[region.vertices] = False
    np.testing.assert_array_equal(made[:, outside], np.broadcast_to(heads[0][outside], made[:, outside].shape))


def test_features_come_from_other_heads(default_head: HeadModel, heads: np.ndarray) -> None:
    """The nose of an augmented head is, but for a rigid motion, that of some source head."""
    some = stream(default_head, heads, replace(STILL, exchange=1.0))
    made = some.augmented(20, np.random.default_rng(0))
    core = own_core(some, "nose")
    a = torch.from_numpy(made[:, None, core]).double().expand(20, 10, -1, 3)
    b = torch.from_numpy(heads[None, :, core]).double().expand(20, 10, -1, 3)
    turn, shift = roma.rigid_points_registration(b, a)
    off = (b @ turn.mT + shift.unsqueeze(-2) - a).norm(dim=-1).mean(-1)
    assert off.amin(1).max() < 1e-5  # metres
    lenders = off.argmin(1)
    whole = np.abs(made[:, None] - heads[None]).mean((2, 3)).argmin(1)
    assert (lenders.numpy() != whole).sum() > 10


def test_mirroring_twice_is_nothing(default_head: HeadModel, heads: np.ndarray) -> None:
    some = stream(default_head, heads, STILL)
    mirrored = some.pool[10:]
    again = stream(default_head, mirrored, STILL).pool[10:]
    assert np.abs(again - heads).mean() < 2e-5
    lopsided = default_head.template.double().numpy() + np.array([0.02, 0, 0])
    assert mirror_points(lopsided, default_head.faces.numpy()) is None


def test_a_plain_model_reproduces_its_heads_wherever_they_lay(
    default_head: HeadModel, heads: np.ndarray, tmp_path: Path
) -> None:
    config = MorphableConfig(augment=None, variance=1.0)
    model, report = build_morphable(heads, default_head, config)
    assert report.components == model.shapes == 9 and report.explained == pytest.approx(1, abs=1e-3)
    aligned = aligned_heads(heads, default_head)
    flat = (aligned - model.template.numpy()).reshape(10, -1)
    basis = model.shape_basis.flatten(0, 1).numpy()
    codes = np.linalg.lstsq(basis, flat.T, rcond=None)[0]
    assert np.abs(basis @ codes - flat.T).max() < 1e-4  # a tenth of a millimetre
    np.testing.assert_allclose(codes.std(1, ddof=1), 1, rtol=0.02)  # β is in standard deviations

    turns = roma.random_rotmat(10).double().numpy()
    moved = np.einsum("nij,nvj->nvi", turns, heads) + np.random.default_rng(0).normal(size=(10, 1, 3))
    other, _ = build_morphable(moved, default_head, config)
    assert float((other.template - model.template).abs().max()) < 3e-4
    written = tmp_path / "model.safetensors"
    write_model(model, written)
    assert torch.equal(read_model(written).shape_basis, model.shape_basis)
    assert model.landmarks.keys() == default_head.landmarks.keys() and model.expressions == default_head.expressions


def test_augmentation_makes_the_basis_larger(default_head: HeadModel, heads: np.ndarray) -> None:
    model, report = build_morphable(heads, default_head, MorphableConfig(AugmentConfig(heads=150), limit=60))
    assert report.heads == 150 and report.sources == 10 and report.mirrored
    assert report.components > 9 and report.explained >= 0.999 and model.shapes == report.components
    counts = [count for count in report.needed.values() if count is not None]
    assert counts == sorted(counts)


def test_refused(default_head: HeadModel, heads: np.ndarray) -> None:
    with pytest.raises(HeadlabError, match="at least two"):
        build_morphable(heads[:1], default_head)
    with pytest.raises(HeadlabError, match="register them"):
        build_morphable(heads[:, :-1], default_head)
    broken = heads.copy()
    broken[4, 7, 1] = np.inf
    with pytest.raises(HeadlabError, match="head 4 holds"):
        build_morphable(broken, default_head)
    with pytest.raises(HeadlabError, match="in metres"):
        build_morphable(1000 * heads, default_head)
    with pytest.raises(HeadlabError, match="no 68 landmarks"):
        build_morphable(heads, replace(default_head, landmarks={}))
