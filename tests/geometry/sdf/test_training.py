"""A few steps of training on heads of the default model."""

import pytest
import torch

from headlab.geometry.errors import HeadlabError
from headlab.geometry.models.head_model import HeadModel
from headlab.geometry.sdf.anchors import mean_anchors
from headlab.geometry.sdf.identity import IdentityConfig, IdentityField
from headlab.geometry.sdf.layout import EnsembleLayout
from headlab.geometry.sdf.sampling import HeadSampler, SurfaceSamples
from headlab.geometry.sdf.training import TrainConfig, draw_batch, train_identity


@pytest.fixture(scope="module")
def heads(default_head: HeadModel) -> list[SurfaceSamples]:
    sampler = HeadSampler.of(default_head)
    codes = [default_head.neutral() for _ in range(2)]
    codes[1] = type(codes[1])(**{**vars(codes[1]), "shape": torch.eye(default_head.shapes)[0] * 2})
    draws = torch.Generator().manual_seed(0)
    return [sampler.surface(code, 3000, 2000, draws) for code in codes]


def small_network(model: HeadModel) -> IdentityField:
    torch.manual_seed(0)
    layout = EnsembleLayout(latent_global=6, latent_local=4)
    return IdentityField(IdentityConfig(layout, 24, 4, 16), mean_anchors(model))


def test_training_brings_the_surface_to_zero(default_head: HeadModel, heads: list[SurfaceSamples]) -> None:
    network = small_network(default_head)
    config = TrainConfig(steps=60, batch=2, face_points=100, rest_points=60, rate=5e-3, latent_rate=5e-3, clip=1.0)
    told = []
    trained = train_identity(
        network, heads, config, torch.Generator().manual_seed(1), lambda step, terms: told.append((step, terms))
    )
    first, last = trained.history[0], trained.history[-1]
    assert last["loss"] < 0.6 * first["loss"]
    assert last["surf_sdf"] < 0.5 * first["surf_sdf"]
    assert len(told) == 60 and not network.training
    assert trained.latents.shape == (2, network.layout.latent)
    assert float(trained.latents.norm(dim=-1).max()) <= 1.0 + 1e-5
    assert not torch.equal(trained.latents[0], trained.latents[1])
    sdf = network(heads[0].face[:500] + 0.03 * heads[0].face_normals[:500], trained.latents[0])
    inner = network(heads[0].face[:500] - 0.03 * heads[0].face_normals[:500], trained.latents[0])
    assert float((sdf - inner).median()) > 0.02, "outside is positive"


def test_a_batch_holds_what_was_asked_for(heads: list[SurfaceSamples]) -> None:
    config = TrainConfig(face_points=40, rest_points=30)
    batch, anchors = draw_batch([heads[1], heads[0], heads[1]], config, torch.Generator().manual_seed(0))
    assert batch.face.shape == (3, 40, 3) and batch.rest_normals.shape == (3, 30, 3)
    assert batch.near.shape == (3, 70, 3) and batch.far.shape == (3, 5, 3)
    assert torch.equal(anchors[0], heads[1].anchors)
    on_surface = torch.cdist(batch.face[1], heads[0].face).amin(1)
    assert float(on_surface.max()) == pytest.approx(0, abs=1e-3)


def test_heads_that_do_not_fit_are_said(default_head: HeadModel, heads: list[SurfaceSamples]) -> None:
    network, draws = small_network(default_head), torch.Generator()
    with pytest.raises(HeadlabError, match="no heads"):
        train_identity(network, [], TrainConfig(steps=1), draws)
    wrong = SurfaceSamples(**{**vars(heads[0]), "anchors": heads[0].anchors[:5]})
    with pytest.raises(HeadlabError, match=r"head 0 has anchors \(5, 3\)"):
        train_identity(network, [wrong], TrainConfig(steps=1), draws)
