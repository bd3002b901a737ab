"""The noise schedule: the published tables and samples, and the algebra of the three kinds of prediction."""

from pathlib import Path
from typing import get_args

import numpy as np
import pytest
import torch

from headlab.diffusion.schedule import NoiseSchedule, Prediction, ScheduleConfig
from headlab.geometry.errors import HeadlabError


def test_tables(shared: Path) -> None:
    """DiffusionRig's tables, whole and shortened."""
    golden = np.load(shared / "parity/diffusion/schedules.npz")
    schedule = NoiseSchedule.linear()
    whole = golden["T1000/alphas_cumprod"]
    np.testing.assert_allclose(schedule.alphas_cumprod.numpy(), whole, rtol=1e-12)
    np.testing.assert_allclose(schedule.betas.numpy(), golden["T1000/betas"], rtol=1e-9)
    np.testing.assert_allclose(schedule.snr(torch.arange(1000)).numpy(), golden["T1000/snr"], rtol=1e-9)
    np.testing.assert_allclose(NoiseSchedule.cosine().betas.numpy(), golden["cosine_betas_1000"], rtol=1e-9)
    half = NoiseSchedule.linear(500, 2e-4, 0.04)
    np.testing.assert_allclose(half.betas.numpy(), golden["linear_betas_500"], rtol=1e-9)
    for count in (5, 20, 250):
        times = schedule.timesteps(count, "leading")[::-1]
        assert times == golden[f"ddim{count}/timestep_map"].tolist()
        np.testing.assert_allclose(whole[times], golden[f"ddim{count}/alphas_cumprod"], rtol=1e-9)


def test_published_noise(shared: Path) -> None:
    golden = np.load(shared / "parity/diffusion/schedules.npz")
    x0, noise, t = (torch.from_numpy(golden[name]) for name in ("x_start", "noise", "t"))
    noisy = NoiseSchedule.linear().add_noise(x0, noise, t)
    torch.testing.assert_close(noisy, torch.from_numpy(golden["q_sample"]), atol=1e-6, rtol=1e-6)


@pytest.mark.parametrize("kind", get_args(Prediction))
@pytest.mark.parametrize("schedule", ["linear", "scaled_linear", "cosine"])
def test_predictions_give_picture_and_noise_back(kind: Prediction, schedule: str) -> None:
    made = ScheduleConfig(schedule, prediction=kind).build()  # type: ignore[arg-type]
    generator = torch.Generator().manual_seed(0)
    x0, noise = torch.randn(2, 4, 3, 5, 5, dtype=torch.float64, generator=generator)
    t = torch.tensor([0, 1, 500, 990])
    noisy, said = made.add_noise(x0, noise, t), made.target(x0, noise, t)
    torch.testing.assert_close(made.x0_from(said, noisy, t), x0, atol=1e-6, rtol=1e-6)
    torch.testing.assert_close(made.epsilon_from(said, noisy, t), noise, atol=1e-6, rtol=1e-6)
    one = made.add_noise(x0, noise, torch.tensor(500))
    torch.testing.assert_close(one[2], noisy[2])


def test_diffusers_has_the_same_numbers() -> None:
    from diffusers import DDIMScheduler

    for kind, start, end in (("linear", 1e-4, 0.02), ("scaled_linear", 0.00085, 0.012)):
        theirs = DDIMScheduler(beta_schedule=kind, beta_start=start, beta_end=end)
        ours = ScheduleConfig(kind, start=start, end=end).build()  # type: ignore[arg-type]
        torch.testing.assert_close(ours.alphas_cumprod.float(), theirs.alphas_cumprod, rtol=3e-5, atol=1e-7)
    trailing = DDIMScheduler(timestep_spacing="trailing", steps_offset=0)
    for count in (1, 7, 20, 50):
        trailing.set_timesteps(count)
        assert NoiseSchedule.linear().timesteps(count) == trailing.timesteps.tolist()


def test_bad_input() -> None:
    with pytest.raises(HeadlabError, match="1 to 1000"):
        NoiseSchedule.linear().timesteps(0)
    with pytest.raises(HeadlabError, match="betas"):
        NoiseSchedule.linear(end=2.0)
