"""A few steps of training on heads of the default model, and going on with it."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from headlab.geometry.errors import HeadlabError
from headlab.geometry.models.head_model import HeadModel
from headlab.geometry.sdf.anchors import mean_anchors
from headlab.geometry.sdf.expression import ExpressionConfig, ExpressionField
from headlab.geometry.sdf.identity import IdentityConfig, IdentityField
from headlab.geometry.sdf.layout import EnsembleLayout
from headlab.geometry.sdf.losses import IdentityWeights
from headlab.geometry.sdf.mlp import DeepSDF
from headlab.geometry.sdf.model_heads import HeadsConfig, model_training_set
from headlab.geometry.sdf.sampling import SurfaceSamples
from headlab.geometry.sdf.training import IdentityTask, TrainConfig, draw_batch, train_identity
from headlab.geometry.sdf.training_config import LoopConfig
from headlab.geometry.sdf.training_expression import ExpressionTrainConfig, train_expression
from headlab.geometry.sdf.training_loop import samples_of
from headlab.geometry.sdf.training_set import TrainingSet

LAYOUT = EnsembleLayout(latent_global=6, latent_local=4)
LOOP = LoopConfig(steps=40, batch=2, rate=5e-3, latent_rate=5e-3, clip=1.0, log_every=10, save_every=20)


@pytest.fixture(scope="module")
def data(default_head: HeadModel) -> TrainingSet:
    return model_training_set(default_head, HeadsConfig(3, 2, face_points=3000, rest_points=2000, pose_points=800))


def small_network(model: HeadModel) -> IdentityField:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return IdentityField(IdentityConfig(LAYOUT, 24, 4, 16), mean_anchors(model))


def test_training_brings_the_surface_to_zero(default_head: HeadModel, data: TrainingSet) -> None:
    network = small_network(default_head)
    told = []
    config = TrainConfig(60, 40, start="anchors", loop=LOOP)
    trained = train_identity(network, data.heads, config, callback=lambda step, terms: told.append((step, terms)))
    first, last = trained.history[0], trained.history[-1]
    assert last["loss"] < 0.7 * first["loss"]
    assert last["surf_sdf"] < 0.6 * first["surf_sdf"]
    assert len(told) == 40 and not network.training and trained.steps == 40
    assert trained.latents.shape == (3, LAYOUT.latent)
    assert float(trained.latents.norm(dim=-1).max()) <= 1.0 + 1e-5
    assert not torch.equal(trained.latents[0], trained.latents[1])
    head = data.heads[0]
    outer = network(head.face[:500] + 0.03 * head.face_normals[:500], trained.latents[0])
    inner = network(head.face[:500] - 0.03 * head.face_normals[:500], trained.latents[0])
    assert float((outer - inner).median()) > 0.02, "outside is positive"


def test_the_global_baseline_trains_likewise(data: TrainingSet) -> None:
    network = DeepSDF(8, 32, 4)
    network.initialise_as_sphere(0.4, torch.Generator().manual_seed(0))
    config = TrainConfig(100, 60, weights=IdentityWeights.npm(), loop=replace(LOOP, steps=15))
    trained = train_identity(network, data.heads, config)
    assert trained.history[-1]["loss"] < trained.history[0]["loss"]
    assert set(trained.history[0]) == {"surf_sdf", "normals", "space_sdf", "grad", "lat_reg", "loss"}


def test_a_run_that_was_stopped_goes_on_to_the_same_numbers(
    default_head: HeadModel, data: TrainingSet, tmp_path: Path
) -> None:
    config = TrainConfig(30, 20, loop=replace(LOOP, steps=6, save_every=2, log_every=2))
    whole = small_network(default_head)
    expected = train_identity(whole, data.heads, config)

    class Stopped(Exception):
        pass

    def stop(step: int, terms: dict[str, float]) -> None:
        if step == 4:
            raise Stopped

    with pytest.raises(Stopped):
        train_identity(small_network(default_head), data.heads, config, tmp_path / "run", stop)
    again = small_network(default_head)
    found = train_identity(again, data.heads, config, tmp_path / "run")
    assert len(found.history) == 2, "two steps were left after the last checkpoint"
    assert found.history[-1] == expected.history[-1]
    assert torch.equal(found.latents, expected.latents)
    for name, value in whole.state_dict().items():
        assert torch.equal(value, again.state_dict()[name]), name
    assert (tmp_path / "run" / "config.json").is_file()
    assert len(list((tmp_path / "run" / "checkpoints").glob("step-*"))) == 1
    other = DeepSDF(8, 32, 4)
    with pytest.raises(HeadlabError, match="does not belong to this training"):
        train_identity(other, data.heads, replace(config, weights=IdentityWeights.npm()), tmp_path / "run")


def test_an_expression_field_learns_where_points_go(data: TrainingSet) -> None:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network = ExpressionField(ExpressionConfig(layout=LAYOUT, latent=6, code=4, hidden=32, layers=4))
    identities = 0.1 * torch.randn(3, LAYOUT.latent, generator=torch.Generator().manual_seed(1))
    anchors = torch.stack([head.anchors for head in data.heads])
    config = ExpressionTrainConfig(200, 20, loop=replace(LOOP, steps=80, decay="cosine", warmup=5))
    trained = train_expression(network, data.poses, identities, anchors, config)
    assert trained.latents.shape == (6, 6)
    assert trained.history[-1]["corresp"] < 0.2 * trained.history[0]["corresp"]
    plain = DeepSDF(LAYOUT.latent + 6, 32 + LAYOUT.latent + 9, 4, out=3)
    assert train_expression(plain, data.poses, identities, anchors[:, :0], replace(config, loop=replace(LOOP, steps=2)))
    with pytest.raises(HeadlabError, match="no expressions"):
        train_expression(network, [], identities, anchors, config)
    with pytest.raises(HeadlabError, match="latents of 5 numbers"):
        train_expression(network, data.poses, identities[:, :5], anchors, config)


def test_a_batch_holds_what_was_asked_for(data: TrainingSet) -> None:
    heads = data.heads
    batch, anchors = draw_batch([heads[1], heads[0], heads[1]], TrainConfig(40, 30), torch.Generator().manual_seed(0))
    assert batch.face.shape == (3, 40, 3) and batch.rest_normals.shape == (3, 30, 3)
    assert batch.near.shape == (3, 70, 3) and batch.far.shape == (3, 5, 3)
    assert batch.points().shape == (3, 145, 3)
    assert torch.equal(anchors[0], heads[1].anchors)
    on_surface = torch.cdist(batch.face[1], heads[0].face).amin(1)
    assert float(on_surface.max()) == pytest.approx(0, abs=1e-3)


def test_latents_may_start_from_the_anchors(default_head: HeadModel, data: TrainingSet) -> None:
    draws = torch.Generator().manual_seed(0)
    start = IdentityTask(small_network(default_head), data.heads, TrainConfig(start="anchors")).start(draws)
    apart = torch.pdist(start[:, : LAYOUT.latent_global])
    anchors = torch.pdist(torch.stack([head.anchors.flatten() for head in data.heads]))
    torch.testing.assert_close(apart / apart[0], anchors / anchors[0], rtol=0.2, atol=0.2)


def test_every_epoch_sees_every_head_once() -> None:
    seen = torch.cat([samples_of(7, 3, place, seed=5) for place in range(7)])
    assert seen[:7].sort().values.tolist() == list(range(7)) == seen[14:].sort().values.tolist()
    assert seen[:7].tolist() != seen[7:14].tolist()


def test_rates_fall_as_they_are_told() -> None:
    released, short = LoopConfig(), LoopConfig(decay="cosine", warmup=10)
    assert [released.rate_factor(step, 0.0) for step in (0, 4999, 5000, 10000)] == [1, 1, 0.5, 0.25]
    assert short.rate_factor(0, 0.0) == pytest.approx(0.1)
    assert short.rate_factor(20, 0.5) == pytest.approx(0.505) and short.rate_factor(20, 1.0) == pytest.approx(0.01)


def test_heads_that_do_not_fit_are_said(default_head: HeadModel, data: TrainingSet) -> None:
    network = small_network(default_head)
    with pytest.raises(HeadlabError, match="no heads"):
        train_identity(network, [], TrainConfig())
    wrong = SurfaceSamples(**{**vars(data.heads[0]), "anchors": data.heads[0].anchors[:5]})
    with pytest.raises(HeadlabError, match=r"head 0 has anchors \(5, 3\)"):
        train_identity(network, [wrong], TrainConfig())
    with pytest.raises(HeadlabError, match="at least 1"):
        train_identity(network, data.heads, TrainConfig(loop=LoopConfig(steps=0)))
    broken = SurfaceSamples(**{**vars(data.heads[0]), "face": torch.full_like(data.heads[0].face, torch.nan)})
    with pytest.raises(HeadlabError, match="no finite number at step 0"):
        train_identity(network, [broken], TrainConfig(loop=LOOP))
