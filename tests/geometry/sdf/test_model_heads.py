"""People drawn from head models, and linear models made of them."""

from pathlib import Path

import pytest
import torch

from headlab.geometry.errors import HeadlabError
from headlab.geometry.models.head_model import HeadModel
from headlab.geometry.raster import closest_point
from headlab.geometry.sdf.linear_fit import LinearFitConfig, fit_linear
from headlab.geometry.sdf.linear_heads import global_pca, local_pca, part_weights
from headlab.geometry.sdf.model_heads import (
    SCRIPT,
    HeadsConfig,
    canonical_code,
    draw_people,
    model_training_set,
    named_expression,
)
from headlab.geometry.sdf.registered import RegisteredHeads, registered_heads
from headlab.geometry.sdf.sampling import LOWEST, HeadSampler


@pytest.fixture(scope="module")
def heads(default_head: HeadModel) -> RegisteredHeads:
    return registered_heads(default_head, draw_people(default_head, HeadsConfig(14, 4)), [0, 2])


def test_the_first_people_do_not_depend_on_their_number(default_head: HeadModel) -> None:
    few, many = draw_people(default_head, HeadsConfig(2, 3)), draw_people(default_head, HeadsConfig(4, 3))
    for one, other in zip(few, many, strict=False):
        assert torch.equal(one.canonical.shape, other.canonical.shape)
        assert torch.equal(one.poses[2][1].expression, other.poses[2][1].expression)
    assert not torch.equal(many[0].canonical.shape, many[1].canonical.shape)
    assert [name for name, _ in few[0].poses] == list(SCRIPT)[:3]


def test_the_whole_script_fits_arkit_models(default_head: HeadModel) -> None:
    people = draw_people(default_head, HeadsConfig(1, len(SCRIPT) + 2))
    assert len(SCRIPT) == 20 and len(people[0].poses) == 22
    assert " + " in people[0].poses[-1][0]
    assert float(people[0].poses[8][1].expression.max()) <= 1.0
    both = named_expression(default_head, {"mouthSmile": 0.5})
    assert int((both == 0.5).sum()) == 2
    with pytest.raises(HeadlabError, match="no expression wagging"):
        named_expression(default_head, {"wagging": 1.0})


def test_samples_lie_on_the_canonical_head_above_the_cut(default_head: HeadModel) -> None:
    data = model_training_set(default_head, HeadsConfig(1, 2, face_points=400, rest_points=300, pose_points=300))
    data.check()
    sampler = HeadSampler.of(default_head, canonical_code(default_head, torch.zeros(default_head.shapes)))
    code = draw_people(default_head, HeadsConfig(1, 2))[0].canonical
    vertices = sampler.frame.to_field(default_head.vertices(code))
    points = torch.cat([data.heads[0].face, data.heads[0].rest])
    distance, _, _ = closest_point(vertices, default_head.faces, points)
    assert float(distance.max()) < 1e-5 and float(points[:, 1].min()) > LOWEST
    assert len(data.heads[0].face) == 400 and len(data.poses[1].points.posed) == 300
    assert data.canonical == {"jawOpen": 0.4}
    smile = data.poses[1].points
    assert 0.02 < float((smile.posed - smile.neutral).norm(dim=-1).max()) < 0.3


def test_principal_components_give_their_own_heads_back(heads: RegisteredHeads) -> None:
    model = global_pca(heads, 50, 20)
    assert model.identity.shape[-1] == 13
    centred = (heads.canonical - model.mean).flatten(1)
    basis = model.identity.flatten(0, 1)
    codes = torch.linalg.lstsq(basis, centred.mT).solution.mT
    torch.testing.assert_close(codes @ basis.mT, centred, atol=2e-5, rtol=0)
    torch.testing.assert_close(codes.square().sum(0) / 13, torch.ones(13), atol=1e-2, rtol=0)


def test_parts_overlap_and_add_up(heads: RegisteredHeads) -> None:
    weights = part_weights(heads.canonical.mean(0), heads.anchors.mean(0))
    torch.testing.assert_close(weights.sum(-1), torch.ones(len(weights)))
    assert 1.5 < float((weights > 0).sum(-1).float().mean()) < 20
    model = local_pca(heads, 5, 4)
    assert model.identity.shape[-1] == 5 * heads.anchors.shape[1]
    # Every part's own components, exact for the training heads where there are as many as heads, give the whole.
    whole = local_pca(heads, 13, 0)
    centred = (heads.canonical - whole.mean).flatten(1)
    error = (
        centred.mT
        - whole.identity.flatten(0, 1)
        @ torch.linalg.lstsq(whole.identity.flatten(0, 1), centred.mT, driver="gelsd").solution
    )
    assert float(error.abs().max()) < 1e-4


def test_a_linear_model_finds_a_head_again_from_its_points(heads: RegisteredHeads) -> None:
    model = global_pca(heads, 13, 10)
    cloud = heads.canonical[3][::5]
    found = fit_linear(model, [cloud], LinearFitConfig())
    distance, _, _ = closest_point(model.vertices(found.identity), model.faces, cloud)
    before, _, _ = closest_point(model.mean, model.faces, cloud)
    assert float(distance.mean()) < 0.08 * float(before.mean())
    posed = fit_linear(model, [heads.posed[3, 1][::5]], LinearFitConfig(), posed=True)
    assert posed.expressions is not None and posed.expressions.shape == (1, 10)
    surface = model.vertices(posed.identity, posed.expressions[0])
    distance, _, _ = closest_point(surface, model.faces, heads.posed[3, 1][::5])
    assert float(distance.mean()) < 0.15 * float(before.mean())
    with pytest.raises(HeadlabError, match="no points"):
        fit_linear(model, [], LinearFitConfig())


def test_one_head_has_no_components(heads: RegisteredHeads) -> None:
    with pytest.raises(HeadlabError, match="at least two heads"):
        global_pca(heads.some(slice(1)), 3, 0)


def test_any_model_is_a_source(shared: Path) -> None:
    from headlab.geometry.models.ict import load_ict

    model = load_ict(shared / "data" / "ict_facekit.npz")
    data = model_training_set(model, HeadsConfig(1, 1, face_points=300, rest_points=300, pose_points=100))
    assert data.source == "ict" and data.heads[0].anchors.shape == (39, 3)
    chin, brow = data.heads[0].anchors[38], data.heads[0].anchors[37]
    assert float(brow[1] - chin[1]) > 0.3
