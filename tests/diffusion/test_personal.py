"""Stage 2 on a tiny random model: what is trained, what stays, what is saved."""

import json
import math
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from tiny_diffusion import tiny_diffusion, tiny_given, tiny_pictures

from headlab.diffusion.autoencoder import encode
from headlab.diffusion.bundle import LatentDiffusion, load_latent_diffusion
from headlab.diffusion.identity_losses import IdentityWeights
from headlab.diffusion.personal import Examples, PersonalConfig, joined_examples, personalized
from headlab.diffusion.training import TrainingConfig
from headlab.geometry.errors import HeadlabError

TRAINING = TrainingConfig(
    steps=15, batch=4, rate=8e-3, warmup=2, average=0.5, save_every=5, picture_every=10**9, cpu=True
)
CONFIG = PersonalConfig(rank=8, identity=IdentityWeights(), training=TRAINING)


def _examples(diffusion: LatentDiffusion, count: int = 6, seed: int = 3) -> Examples:
    pictures = tiny_pictures(count, seed=seed)
    latents = encode(diffusion.vae, pictures)
    given = replace(tiny_given(count, seed=seed), person=pictures[:, :3], capture=latents.flip(0))
    return Examples(latents, given, pictures[:, :3] / 2 + 0.5)


class _Reader:
    """Identity is the mean colour."""

    gram = 1e4 * torch.eye(3)

    def shapes(self, pictures: torch.Tensor) -> torch.Tensor:
        return pictures.mean((-2, -1))

    def vectors(self, pictures: torch.Tensor) -> torch.Tensor:
        return torch.nn.functional.normalize(self.shapes(pictures) + 0.1, dim=-1)


def _error(diffusion: LatentDiffusion, examples: Examples) -> float:
    """L_simple on the same noise and times for every model."""
    generator = torch.Generator().manual_seed(5)
    noise = torch.randn(examples.latents.shape, generator=generator)
    context = diffusion.denoiser.context(examples.given)
    total = 0.0
    for time in (100, 300, 500, 700):
        t = torch.full((examples.count,), time)
        noisy = diffusion.schedule.add_noise(examples.latents, noise, t)
        said = diffusion.denoiser(noisy, t, context)
        total += float((said - diffusion.schedule.target(examples.latents, noise, t)).square().mean())
    return total


@pytest.mark.parametrize("method", ["lora", "full"])
def test_the_person_is_learned_and_the_base_stays(method: str, tmp_path: Path) -> None:
    base = tiny_diffusion()
    before = {name: value.clone() for name, value in base.denoiser.state_dict().items()}
    config = replace(CONFIG, method=method, identity=IdentityWeights(triplet=0.1, shape=0.01))
    rows: list[dict] = []
    tuned = personalized(
        base,
        _examples(base),
        _examples(base, seed=8),
        config,
        tmp_path / "run",
        reader=_Reader(),
        embedder=_Reader(),
        callback=rows.append,
    )
    assert len(rows) == 15 and {"simple", "prior", "triplet", "shape"} <= set(rows[0])
    assert _error(tuned, _examples(base)) < _error(base, _examples(base))
    after = tuned.denoiser.state_dict()
    assert after.keys() == before.keys()
    assert all(torch.equal(before[name], value) for name, value in base.denoiser.state_dict().items())
    moved = {name for name in after if not torch.equal(after[name], before[name])}
    encoder = {name for name in after if name.startswith("semantic.")}
    statistics = {name for name in encoder if "running_" in name or "num_batches" in name}
    assert statistics and moved & encoder <= statistics and any("running_mean" in name for name in moved)
    assert any(name.startswith("unet.") for name in moved)
    assert not any(p.requires_grad for p in tuned.denoiser.parameters())
    if method == "lora":
        assert all(name.startswith(("unet.", "semantic.")) for name in moved)
        assert "unet.conv_in.weight" not in moved
    tuned.save(tmp_path / "own", half=False)
    again = load_latent_diffusion(tmp_path / "own")
    context = [one.denoiser.context(tiny_given()) for one in (tuned, again)]
    noise, t = torch.randn(1, 4, 8, 8), torch.tensor([500])
    said = [one.denoiser(noise, t, c) for one, c in zip((tuned, again), context, strict=True)]
    torch.testing.assert_close(said[0], said[1], atol=1e-5, rtol=0)


def test_an_interrupted_run_goes_on_to_the_same_end(tmp_path: Path) -> None:
    base = tiny_diffusion()
    examples, prior = _examples(base), _examples(base, seed=8)
    whole: list[dict] = []
    personalized(base, examples, prior, CONFIG, tmp_path / "whole", callback=whole.append)

    class Killed(Exception):
        pass

    def stop(row: dict) -> None:
        if row["step"] == 12:
            raise Killed

    with pytest.raises(Killed):
        personalized(base, examples, prior, CONFIG, tmp_path / "run", callback=stop)
    rest: list[dict] = []
    personalized(base, examples, prior, CONFIG, tmp_path / "run", callback=rest.append)
    assert rest == whole[10:]


def test_refused_and_recorded(tmp_path: Path) -> None:
    base = tiny_diffusion()
    examples = _examples(base)
    with pytest.raises(HeadlabError, match="rank of at least 1"):
        personalized(base, examples, examples, replace(CONFIG, rank=0), tmp_path)
    with pytest.raises(HeadlabError, match="shape reader"):
        personalized(base, examples, examples, replace(CONFIG, identity=IdentityWeights(shape=1.0)), tmp_path)
    broken = replace(examples, latents=torch.full_like(examples.latents, math.nan))
    with pytest.raises(HeadlabError, match="no finite number at step 1"):
        personalized(base, broken, examples, CONFIG, tmp_path / "nan")
    record = json.loads((tmp_path / "nan" / "config.json").read_text())
    assert record["training"]["steps"] == 15
    both = joined_examples([examples, examples])
    assert both.count == 12 and torch.equal(both.load(torch.tensor([7])).latents, examples.latents[1:2])
