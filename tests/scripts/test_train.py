"""`headlab train`: both networks from a folder of pairs, a start from shipped weights, and wrong input."""

import json
import math

import pytest

from headlab.datasets.synthetic import EditPairs, PairConfig, write_pairs
from headlab.diffusion.bundle import load_latent_diffusion
from headlab.diffusion.training_config import TrainingConfig
from headlab.geometry.errors import HeadlabError
from headlab.scripts.train import TrainAutoencoder, TrainDenoiser

ONE_STEP = TrainingConfig(steps=1, batch=2, cpu=True, log_every=1, picture_every=10)


@pytest.fixture(scope="module")
def pairs(default_head, tmp_path_factory):
    folder = tmp_path_factory.mktemp("pairs")
    list(write_pairs(EditPairs(default_head, PairConfig(supersampling=1)), folder, range(1), shard=2, batch=2))
    return folder


def test_both_networks_are_trained_one_after_the_other(pairs, tmp_path, capsys):
    first = TrainAutoencoder(pairs, tmp_path / "a", widths=(8, 8, 16), latents=3, training=ONE_STEP)
    first.run()
    TrainDenoiser(pairs, tmp_path / "d", autoencoder=tmp_path / "a/weights", training=ONE_STEP).run()
    said = capsys.readouterr().out
    assert '"l1"' in said and '"simple"' in said and "wrote" in said
    system = load_latent_diffusion(tmp_path / "d/weights")
    assert system.config.denoiser.latents == 3 and system.config.schedule.prediction == "v"
    with pytest.raises(HeadlabError, match="is an autoencoder of 4 channels; say --channels 4"):
        TrainAutoencoder(pairs, tmp_path / "b", start=tmp_path / "a/weights", channels=3).run()
    with pytest.raises(HeadlabError, match="not from autoencoder and start at once"):
        TrainDenoiser(pairs, tmp_path / "e", autoencoder=tmp_path, start=tmp_path).run()


def test_the_shipped_system_is_tuned_by_adapters_with_every_loss(pairs, tmp_path, capsys):
    losses = {"shape": 0.01, "triplet": 0.1, "identity": 0.1, "prior": 1.0}
    TrainDenoiser(pairs, tmp_path / "d", lora=2, **losses, prior_pictures=2, training=ONE_STEP).run()
    said = json.loads(capsys.readouterr().out.splitlines()[0])
    assert set(losses) < set(said) and all(math.isfinite(said[name]) for name in losses)
    assert load_latent_diffusion(tmp_path / "d/weights").config.denoiser.latents == 6


def test_losses_that_make_no_sense_are_refused(pairs, tmp_path):
    def refused(match: str, **options) -> None:
        with pytest.raises(HeadlabError, match=match):
            TrainDenoiser(pairs, tmp_path / "d", training=ONE_STEP, **options).run()

    refused("at least 1 prior picture, not 0", triplet=0.1, prior_pictures=0)
    refused("weight shape of the identity losses is 0 or more, not -1", shape=-1.0)
    refused("weight of L_PR is 0 or more, not nan", prior=math.nan, prior_pictures=1)


def test_pairs_of_another_size_are_refused(default_head, tmp_path):
    small = EditPairs(default_head, PairConfig(size=32, supersampling=1))
    list(write_pairs(small, tmp_path, range(1), shard=1))
    with pytest.raises(HeadlabError, match="pictures of 32 pixels, the model takes 64"):
        TrainDenoiser(tmp_path, tmp_path / "d", training=ONE_STEP).run()
