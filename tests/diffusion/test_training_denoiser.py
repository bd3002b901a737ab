"""What a denoiser's and an autoencoder's training do in a step."""

from dataclasses import dataclass, field

import pytest
import torch
from small_diffusion import DENOISER, RandomData, small_diffusion, small_task, some_given

from headlab.datasets.synthetic import EditPairs, PairConfig, write_pairs
from headlab.diffusion.autoencoder import AutoencoderConfig, load_autoencoder
from headlab.diffusion.autoencoder_losses import AutoencoderWeights
from headlab.diffusion.bundle import load_latent_diffusion
from headlab.diffusion.denoiser import Given
from headlab.diffusion.identity_losses import IdentityWeights
from headlab.diffusion.losses import l_simple
from headlab.diffusion.training import TrainingConfig, train
from headlab.diffusion.training_autoencoder import AutoencoderTask, AutoencoderTaskConfig
from headlab.diffusion.training_data import PictureSet, join_pairs, load_pairs
from headlab.diffusion.training_denoiser import DenoiserTask, DenoiserTaskConfig, DropoutConfig, dropped
from headlab.diffusion.training_latents import PairLatents, alternating, cached_latents, encode_pairs
from headlab.geometry.errors import HeadlabError

ALL_TOLD = DropoutConfig(*(0.0,) * 7)


@dataclass(frozen=True)
class MeanReader:
    """Shape code: the mean colour."""

    gram: torch.Tensor = field(default_factory=lambda: torch.eye(3))

    def shapes(self, pictures):
        return pictures.mean((-2, -1))

    def vectors(self, pictures):
        return torch.nn.functional.normalize(pictures.mean((-2, -1)) + 0.1, dim=-1)


@pytest.fixture(scope="module")
def pairs(default_head):
    return EditPairs(default_head, PairConfig(size=32, supersampling=1, seed=11)).batch(range(4))


def one_step(task, seed: int = 5):
    batch = task.load(torch.arange(4), torch.device("cpu"))
    terms = task.losses("denoiser", task.networks, batch, 0, torch.Generator().manual_seed(seed))
    sum(terms.values()).backward()
    return terms


def test_the_plain_loss_is_the_diffusion_loss():
    task = small_task(dropout=ALL_TOLD, weighting="plain")
    terms = one_step(task)
    generator = torch.Generator().manual_seed(5)
    batch, schedule = task.load(torch.arange(4), torch.device("cpu")), task.diffusion.schedule
    t = torch.randint(1000, (4,), generator=generator)
    noise = torch.randn(batch.latents.shape, generator=generator)
    noisy = schedule.add_noise(batch.latents, noise, t)
    denoiser = task.diffusion.denoiser
    said = denoiser(noisy, t, denoiser.context(batch.given))
    want = l_simple(said, schedule.target(batch.latents, noise, t)).mean().detach()
    assert float(terms["simple"].detach()) == pytest.approx(float(want), rel=1e-5)
    assert set(terms) == {"simple"}


def test_identity_terms_reach_the_denoiser_and_nothing_else():
    system = small_diffusion()
    weights = IdentityWeights(identity=1.0, triplet=1.0, shape=1.0)
    reader = MeanReader()
    task = DenoiserTask(
        DenoiserTaskConfig(system.config, identity=weights, prior=0.5, dropout=ALL_TOLD),
        system,
        RandomData(),
        prior=RandomData(3),
        reader=reader,
        embedder=reader,
    )
    assert set(one_step(task)) == {"simple", "prior", "identity", "triplet", "shape"}
    assert all(p.grad is None for p in system.vae.parameters())
    assert float(system.denoiser.unet.conv_out.weight.grad.abs().sum()) > 0
    with pytest.raises(HeadlabError, match="shape reader"):
        DenoiserTask(DenoiserTaskConfig(system.config, identity=IdentityWeights(shape=1.0)), system, RandomData())


def test_a_frozen_encoder_keeps_its_parameters_and_moves_its_statistics():
    task = small_task(frozen_encoder=True)
    semantic = task.diffusion.denoiser.semantic
    before = semantic[0].bn1.running_mean.clone()
    one_step(task)
    assert all(p.grad is None for p in semantic.parameters())
    assert not torch.equal(before, semantic[0].bn1.running_mean)


def test_things_are_left_out_as_often_as_asked():
    given = some_given(1)[torch.zeros(4000, dtype=torch.long)]
    out = dropped(given, DropoutConfig(0.3, 0.1, 0.0, 0.5, 1.0, 0.2, 0.1), torch.Generator().manual_seed(0))

    def left_out(value) -> float:
        return 1 - float(value.flatten(1).isfinite().all(1).float().mean())

    assert left_out(out.capture) == pytest.approx(1 - 0.9 * 0.7, abs=0.03)
    assert left_out(out.person) == pytest.approx(1 - 0.9 * 0.9, abs=0.03)
    assert left_out(out.expression) == pytest.approx(1 - 0.9 * 0.5, abs=0.03)
    assert bool((out.emotion == -1).all())
    assert float((out.maps.flatten(1).abs().sum(1) == 0).float().mean()) == pytest.approx(0.1, abs=0.02)


def test_pairs_become_samples_both_ways(pairs):
    vae = small_diffusion().vae
    bare = alternating(pairs)
    assert bare.tolist() == [False, True, False, True]
    latents = encode_pairs(vae, pairs, bare, batch=3)
    assert latents.shape == (4, 2, 3, 8, 8)
    data = PairLatents(pairs, latents)
    batch = data.load(torch.tensor([2, 3]))
    given: Given = batch.given
    assert torch.equal(given.capture[0], batch.latents[1]) and torch.equal(given.capture[1], batch.latents[0])
    torch.testing.assert_close(given.person[0] / 2 + 0.5, batch.colour[1], atol=1e-6, rtol=0)
    assert torch.equal(given.expression[0], pairs.codes.expression[1, 0])
    picture = PictureSet(pairs).load(torch.tensor([4 * 1 + 2 * 0 + 1]))
    torch.testing.assert_close(picture[0, 3], pairs.head[1, 0].float() * 2 - 1)
    with torch.no_grad():
        again = encode_pairs(vae, pairs[1:2], bare[1:2])
    torch.testing.assert_close(again[0].float(), latents[1].float(), atol=2e-3, rtol=0)
    assert PictureSet(pairs, 3).load(torch.tensor([0])).shape[1] == 3
    assert PictureSet(pairs, 6).load(torch.tensor([0])).shape[1] == 6


def test_latents_are_kept_until_the_encoder_or_the_pairs_change(pairs, tmp_path):
    vae, path = small_diffusion().vae, tmp_path / "latents.safetensors"
    first = cached_latents(vae, pairs, alternating(pairs), path)
    stamp = path.stat().st_mtime_ns
    assert torch.equal(cached_latents(vae, pairs, alternating(pairs), path), first)
    assert path.stat().st_mtime_ns == stamp
    other = cached_latents(small_diffusion(1).vae, pairs, alternating(pairs), path)
    assert not torch.equal(other, first)
    path.write_bytes(b"?")
    with pytest.raises(HeadlabError, match="delete it"):
        cached_latents(vae, pairs, alternating(pairs), path)


def test_folders_without_pairs_or_of_two_sizes_are_refused(pairs, default_head, tmp_path):
    with pytest.raises(HeadlabError, match="holds no pairs"):
        load_pairs(tmp_path)
    small = EditPairs(default_head, PairConfig(size=16, supersampling=1))
    list(write_pairs(small, tmp_path, range(1), shard=1))
    assert len(load_pairs(tmp_path)) == 1
    with pytest.raises(HeadlabError, match="several sizes"):
        join_pairs([pairs, load_pairs(tmp_path)])


def test_an_autoencoder_and_a_denoiser_are_trained_from_pairs(pairs, tmp_path):
    sizes = AutoencoderConfig(widths=(8, 16, 16), latents=3, groups=4)
    weights = AutoencoderWeights(adversarial=0.1, adversarial_from=2)
    config, pictures = AutoencoderTaskConfig(sizes, weights), PictureSet(pairs)
    how = TrainingConfig(steps=4, batch=4, rate=1e-3, warmup=1, cpu=True, average=0.5)
    rows = []
    train(AutoencoderTask(config, pictures, pictures), how, tmp_path / "a", config, rows.append)
    assert "adversarial" not in rows[1] and {"adversarial", "discriminator", "l1", "kl", "perceptual"} <= set(rows[2])
    assert rows[-1]["l1"] < rows[0]["l1"]
    vae = load_autoencoder(tmp_path / "a/weights")
    latents = encode_pairs(vae, pairs, alternating(pairs)).float()
    torch.testing.assert_close(latents.movedim(2, 0).flatten(1).std(1), torch.ones(3), atol=0.1, rtol=0)

    encoder = [v.clone() for v in vae.encoder.state_dict().values()]
    only = AutoencoderTaskConfig(sizes, weights, decoder_only=True)
    trained = train(AutoencoderTask(only, pictures, pictures, vae), how, tmp_path / "b", only)
    kept = trained["autoencoder"].vae
    assert all(torch.equal(a, b) for a, b in zip(encoder, kept.encoder.state_dict().values(), strict=True))
    assert not torch.equal(kept.decoder.conv_in.weight, load_autoencoder(tmp_path / "a/weights").decoder.conv_in.weight)

    system = small_diffusion(denoiser=DENOISER.__class__(**{**DENOISER.__dict__, "expressions": 52}))
    data = PairLatents(pairs, encode_pairs(system.vae, pairs, alternating(pairs)))
    task = DenoiserTask(DenoiserTaskConfig(system.config), system, data, data)
    train(task, how, tmp_path / "c")
    assert (tmp_path / "c/pictures/step-000004.png").is_file()
    assert load_latent_diffusion(tmp_path / "c/weights").config == system.config
