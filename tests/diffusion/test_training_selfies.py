"""RGB-D selfies as training data: what is shown and what is wanted, and a step of training on them."""

import pytest
import torch
from tiny_diffusion import EXPRESSIONS, SIZE, tiny_diffusion

from headlab.datasets.rgbd_selfie_crops import SelfieCrops
from headlab.diffusion.autoencoder import encode
from headlab.diffusion.training_denoiser import DenoiserTask, DenoiserTaskConfig
from headlab.diffusion.training_latents import DenoiserData
from headlab.diffusion.training_selfies import SelfieLatents
from headlab.geometry.errors import HeadlabError


def crops(size: int = SIZE, expressions: int = EXPRESSIONS) -> SelfieCrops:
    generator = torch.Generator().manual_seed(0)
    return SelfieCrops(
        person=torch.tensor([0, 0, 1]),
        images=torch.randint(0, 256, (3, 3, size, size), generator=generator, dtype=torch.uint8),
        near=torch.rand(3, size, size, generator=generator).half(),
        maps=torch.rand(3, 11, size, size, generator=generator).half(),
        expression=torch.rand(3, expressions, generator=generator),
        emotion=torch.tensor([1, -1, 3]),
        valence_arousal=torch.tensor([[0.1, 0.2], [float("nan")] * 2, [0.0, 0.0]]),
        names=("a/1", "a/2", "b/1"),
    )


def test_one_capture_is_shown_and_another_wanted() -> None:
    system, some = tiny_diffusion(), crops()
    data = SelfieLatents.of(system, some)
    assert isinstance(data, DenoiserData) and data.count == 3
    assert data.pairs.tolist() == [[0, 1], [1, 0], [2, 2]]
    batch = data.load(torch.tensor([0]))
    picture = torch.cat([some.images.float() / 255, some.near[:, None].float()], 1) * 2 - 1
    latents = encode(system.vae, picture)
    torch.testing.assert_close(batch.latents[0], latents[1], atol=5e-3, rtol=5e-3)
    given = batch.given
    assert given.capture is not None and given.person is not None and given.expression is not None
    torch.testing.assert_close(given.capture[0], latents[0], atol=5e-3, rtol=5e-3)
    assert torch.equal(given.person[0], some.images[0].float() / 255 * 2 - 1)
    assert torch.equal(given.maps[0], some.maps[1].float()) and torch.equal(given.expression[0], some.expression[1])
    assert given.emotion is not None and given.emotion.tolist() == [-1]
    assert torch.equal(batch.colour[0], some.images[1].float() / 255)


def test_a_denoiser_trains_on_them() -> None:
    system = tiny_diffusion()
    data = SelfieLatents.of(system, crops())
    task = DenoiserTask(DenoiserTaskConfig(system.config), system, data)
    batch = task.load(torch.arange(3), torch.device("cpu"))
    losses = task.losses("denoiser", task.networks, batch, 0, torch.Generator().manual_seed(0))
    losses["simple"].backward()
    grads = [p.grad for p in task.networks["denoiser"].parameters() if p.grad is not None]
    assert grads and all(bool(grad.isfinite().all()) for grad in grads)


def test_refused() -> None:
    with pytest.raises(HeadlabError, match="make them anew"):
        SelfieLatents.of(tiny_diffusion(), crops(16))
    with pytest.raises(HeadlabError, match="colour alone"):
        SelfieLatents.of(tiny_diffusion(3), crops())
