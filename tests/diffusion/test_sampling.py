"""Sampling and inversion: published trajectories, closed forms for Gaussian data, exact reconstruction."""

import math
from pathlib import Path

import numpy as np
import pytest
import torch

from headlab.diffusion.inversion import invert, invert_as_published, invert_exactly
from headlab.diffusion.sampling import guided, sample
from headlab.diffusion.schedule import NoiseSchedule
from headlab.geometry.errors import HeadlabError

_SPREAD = 0.5  #: standard deviation of the toy data


def _gaussian(schedule: NoiseSchedule):
    """The perfect denoiser of data N(0, _SPREAD^2)."""

    def predict(noisy: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
        a = schedule.alphas_cumprod[t].reshape(-1, 1, 1, 1).to(noisy)
        x0 = a.sqrt() * _SPREAD**2 / (a * _SPREAD**2 + 1 - a) * noisy
        noise = (noisy - a.sqrt() * x0) / (1 - a).sqrt()
        return schedule.target(x0, noise, t)

    return predict


def _wavy(schedule: NoiseSchedule):
    """A denoiser that is no Gaussian's: every value leans to its neighbours' sine."""
    exact = _gaussian(schedule)

    def predict(noisy: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
        return exact(noisy, t) + 0.2 * torch.sin(2 * noisy.roll(1, -1) + 0.01 * t.reshape(-1, 1, 1, 1))

    return predict


def _noise(count: int = 2, side: int = 8, seed: int = 0) -> torch.Tensor:
    return torch.randn(count, 3, side, side, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("clip", [None, 1.0])
def test_published_trajectory(shared: Path, clip: float | None) -> None:
    """DiffusionRig's five DDIM steps, with the predictions that its own states stand for."""
    golden = np.load(shared / "parity/diffusion/schedules.npz")
    name = f"ddim5_eta0/clip{int(clip is not None)}/samples"
    states = [golden["x_T"][:1], *(x[None] for x in golden[name])]
    a, before = golden["ddim5/alphas_cumprod"], golden["ddim5/alphas_cumprod_prev"]
    said = {}
    for i in range(5):
        k = 4 - i
        # x_{k-1} = sqrt(before) x0 + sqrt(1 - before) (x_k - sqrt(a) x0) / sqrt(1 - a), solved for x0
        ratio = np.sqrt(1 - before[k]) / np.sqrt(1 - a[k])
        x0 = (states[i + 1] - ratio * states[i]) / (np.sqrt(before[k]) - ratio * np.sqrt(a[k]))
        if clip is not None:
            assert np.abs(x0).max() < 1 + 2e-3
        said[200 * k] = (states[i] - np.sqrt(a[k]) * x0) / np.sqrt(1 - a[k])
    seen = []

    def predict(noisy: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
        np.testing.assert_allclose(noisy.numpy(), states[len(seen)], rtol=1e-4, atol=1e-3)
        seen.append(int(t[0]))
        return torch.from_numpy(said[int(t[0])]).float()

    schedule = NoiseSchedule.linear()
    made = sample(predict, torch.from_numpy(states[0]), schedule, 5, clip=clip, spacing="leading")
    assert seen == [800, 600, 400, 200, 0]
    np.testing.assert_allclose(made.numpy(), states[5], rtol=1e-4, atol=1e-3)


def test_published_inversion(shared: Path) -> None:
    """DiffusionRig's inversion, likewise."""
    golden = np.load(shared / "parity/diffusion/schedules.npz")
    states = [golden["ddim5_eta0/clip0/x_0"][:1], *(x[None] for x in golden["ddim5_reverse/clip0/sample_t"])]
    a, after = golden["ddim5/alphas_cumprod"], golden["ddim5/alphas_cumprod_next"]
    said = {}
    for k in range(5):
        ratio = np.sqrt(1 - after[k]) / np.sqrt(1 - a[k])
        x0 = (states[k + 1] - ratio * states[k]) / (np.sqrt(after[k]) - ratio * np.sqrt(a[k]))
        said[200 * k] = (states[k] - np.sqrt(a[k]) * x0) / np.sqrt(1 - a[k])

    def predict(noisy: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
        np.testing.assert_allclose(noisy.numpy(), states[int(t[0]) // 200], rtol=1e-3, atol=2e-3)
        return torch.from_numpy(said[int(t[0])]).float()

    got = invert_as_published(predict, torch.from_numpy(states[0]), NoiseSchedule.linear(), 5, clip=None)
    np.testing.assert_allclose(got.numpy(), golden["ddim5_reverse/clip0/x_T"][:1], rtol=1e-3, atol=2e-3)


@pytest.mark.parametrize("prediction", ["epsilon", "v", "sample"])
def test_gaussian_data(prediction) -> None:
    """For Gaussian data a DDIM step multiplies by a known number, and the exact flow by the data's spread."""
    schedule = NoiseSchedule.linear(prediction=prediction)
    noise, factor = _noise(), 1.0
    a = schedule.alphas_cumprod[schedule.timesteps(12)].tolist()
    for now, after in zip(a, [*a[1:], 1.0], strict=True):
        total = now * _SPREAD**2 + 1 - now
        clean = now**0.5 * _SPREAD**2 / total
        factor *= after**0.5 * clean + (1 - after) ** 0.5 * (1 - now**0.5 * clean) / (1 - now) ** 0.5
    made = sample(_gaussian(schedule), noise, schedule, 12)
    torch.testing.assert_close(made, factor * noise, rtol=1e-4, atol=1e-4)
    errors = {
        (method, steps): abs(float((made / noise).mean()) / _SPREAD - 1)
        for method in ("ddim", "dpm++")
        for steps in (20, 200)
        for made in [sample(_gaussian(schedule), noise, schedule, steps, method)]  # type: ignore
    }
    assert errors["ddim", 200] < 0.02 and errors["dpm++", 200] < 0.01
    assert errors["dpm++", 20] < 0.4 * errors["ddim", 20]


def test_steps_that_do_not_divide() -> None:
    """One exact DDIM step between any two visited times."""
    schedule = NoiseSchedule.linear()
    predict, noise = _wavy(schedule), _noise().double()
    x, times = noise, schedule.timesteps(7)
    for time, after in zip(times, [*times[1:], None], strict=True):
        t = torch.full((2,), time)
        said = predict(x, t)
        x = schedule.x0_from(said, x, t)
        if after is not None:
            x = schedule.add_noise(x, said, torch.tensor(after))
    made = sample(predict, noise, schedule, 7)
    torch.testing.assert_close(made, x, rtol=1e-4, atol=1e-4)


def test_fresh_noise() -> None:
    """With eta 1 each step adds noise from the generator, and the spread of the data stays."""
    schedule = NoiseSchedule.linear()
    noise = _noise(4, 16)
    made = [
        sample(_gaussian(schedule), noise, schedule, 250, eta=1.0, generator=torch.Generator().manual_seed(seed))
        for seed in (1, 1, 2)
    ]
    assert torch.equal(made[0], made[1]) and not torch.allclose(made[0], made[2])
    assert float(made[0].std()) == pytest.approx(_SPREAD, rel=0.05)
    assert abs(float(torch.corrcoef(torch.stack([made[0].flatten(), noise.flatten()]))[0, 1])) < 0.1


@pytest.mark.parametrize("prediction", ["epsilon", "v"])
def test_inversion_gives_noise_back(prediction) -> None:
    schedule = NoiseSchedule.linear(prediction=prediction)
    predict, noise = _wavy(schedule), _noise(seed=3)
    picture = sample(predict, noise, schedule, 20, spacing="leading")
    again = sample(predict, invert(predict, picture, schedule, 20, refine=12), schedule, 20, spacing="leading")
    plain = sample(predict, invert(predict, picture, schedule, 20, refine=0), schedule, 20, spacing="leading")
    error, plain_error = ((x - picture).abs().mean() for x in (again, plain))
    assert float(error) < 0.25 * float(plain_error)


def test_corrections_give_any_picture_back() -> None:
    """Also one that the denoiser would never make, and from the middle of the way."""
    schedule = NoiseSchedule.linear(prediction="v")
    predict = _wavy(schedule)
    picture = torch.linspace(-2, 2, 2 * 3 * 64).reshape(2, 3, 8, 8)
    for stop in (0, 8):
        found = invert_exactly(predict, picture, schedule, 20, stop=stop, refine=1)
        again = sample(predict, found.noise, schedule, 20, spacing="leading", start=stop, corrections=found.corrections)
        torch.testing.assert_close(again, picture, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("method", ["ddim", "dpm++"])
def test_schedules_that_end_in_pure_noise(method) -> None:
    """The cosine schedule leaves 2e-9 of the signal at T, below single precision's 1 - beta."""
    schedule = NoiseSchedule.cosine(prediction="v")
    made = sample(_gaussian(schedule), _noise().double(), schedule, 2, method)
    assert bool(made.isfinite().all())
    a = float(schedule.alphas_cumprod[499])
    x0 = a**0.5 * _SPREAD**2 / (a * _SPREAD**2 + 1 - a)
    torch.testing.assert_close(made, (1 - a) ** 0.5 * x0 * _noise().double(), rtol=1e-2, atol=1e-4)


def test_start_in_the_middle() -> None:
    schedule = NoiseSchedule.linear()
    states = []
    whole = sample(_wavy(schedule), _noise(), schedule, 10, callback=lambda _, x: states.append(x))
    part = sample(_wavy(schedule), states[3], schedule, 10, start=4)
    torch.testing.assert_close(part, whole)
    assert len(states) == 10
    sample(_wavy(schedule), states[3], schedule, 10, "dpm++", start=4)


def test_guidance() -> None:
    calls = []

    def denoiser(noisy, t, context):
        calls.append(context)
        return torch.full_like(noisy, context)

    x, t = _noise(), torch.tensor([5, 5])
    assert float(guided(denoiser, 3.0, 1.0, 2.0)(x, t)[0, 0, 0, 0]) == 5.0
    assert float(guided(denoiser, 3.0, 1.0, 1.0)(x, t)[0, 0, 0, 0]) == 3.0
    assert calls == [3.0, 1.0, 3.0]


def test_bad_input() -> None:
    schedule = NoiseSchedule.linear()
    with pytest.raises(HeadlabError, match="cannot start"):
        sample(_gaussian(schedule), _noise(), schedule, 10, start=10)
    with pytest.raises(HeadlabError, match="belong to the sampler ddim"):
        sample(_gaussian(schedule), _noise(), schedule, 10, "dpm++", eta=0.5)


@pytest.mark.parametrize("prediction", ["epsilon", "v", "sample"])
def test_few_steps_stay_finite_and_near_the_exact_flow(prediction):
    """Gaussian data: the denoiser is known in closed form, and so is where each noise must go (mean + deviation z)."""
    schedule = NoiseSchedule.cosine(1000, prediction)
    mean, deviation = 0.7, 0.3

    def predict(noisy, t):
        a = schedule.alphas_cumprod[t].double()[:, None]
        x = noisy.double()
        x0 = mean + a.sqrt() * deviation**2 / (a * deviation**2 + 1 - a) * (x - a.sqrt() * mean)
        epsilon = (x - a.sqrt() * x0) / (1 - a).sqrt()
        return {"epsilon": epsilon, "v": a.sqrt() * epsilon - (1 - a).sqrt() * x0, "sample": x0}[prediction].float()

    noise = torch.randn(1, 64, generator=torch.Generator().manual_seed(0))
    wanted = mean + deviation * noise
    errors = {}
    for steps in (1, 2, 3, 5, 8, 20):
        for method in ("ddim", "dpm++"):
            errors[method, steps] = float((sample(predict, noise, schedule, steps, method) - wanted).abs().mean())
    assert all(math.isfinite(error) for error in errors.values())
    assert errors["dpm++", 20] < 0.01 < errors["ddim", 20] < 0.05
    assert all(errors["dpm++", steps] <= errors["ddim", steps] + 1e-6 for steps in (3, 5, 8, 20))
