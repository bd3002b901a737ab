"""Diffusion losses: published values, closed forms, and signs."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from headlab.diffusion.losses import l_id, l_id_deca, l_pr, l_simple, l_tid, snr_weight, time_weight
from headlab.diffusion.schedule import NoiseSchedule


def test_published_weighted_loss(shared: Path) -> None:
    """DiffusionRig's p2 weights on its own squared errors."""
    golden = np.load(shared / "parity/diffusion/training_losses.npz")
    schedule, t = NoiseSchedule.linear(), torch.from_numpy(golden["t"]).long()
    for gamma in (1.0, 0.5):
        expected = torch.from_numpy(golden[f"eval/p2_gamma{gamma:g}_k1/loss"]).double()
        given = golden["eval/mse/mse"]
        weight = snr_weight(schedule, t, "p2", gamma=gamma)
        pictures = torch.from_numpy(np.sqrt(given))[:, None, None].double()
        got = l_simple(pictures, torch.zeros_like(pictures), weight)
        torch.testing.assert_close(got, expected, rtol=1e-5, atol=1e-9)


def test_p2_table(shared: Path) -> None:
    golden = np.load(shared / "parity/diffusion/schedules.npz")
    assert json.loads((shared / "parity/diffusion/schedules.json").read_text())["config"]["image_size"] == 64
    for gamma, name in ((1.0, "1"), (0.5, "0.5")):
        weight = snr_weight(NoiseSchedule.linear(), torch.arange(1000), "p2", gamma=gamma)
        np.testing.assert_allclose(weight.numpy(), golden[f"p2_weight_table_gamma{name}_k1"], rtol=1e-9)


@pytest.mark.parametrize("kind", ["p2", "min_snr"])
def test_every_prediction_trains_the_same(kind) -> None:
    """One error in x0, told as epsilon, v or x0, costs the same."""
    generator = torch.Generator().manual_seed(1)
    x0, noise, wrong = torch.randn(3, 5, 2, 4, 4, dtype=torch.float64, generator=generator)
    t = torch.tensor([3, 100, 400, 700, 950])
    costs = []
    for prediction in ("epsilon", "v", "sample"):
        schedule = NoiseSchedule.linear(prediction=prediction)
        noisy = schedule.add_noise(x0, noise, t)
        guess = x0 + wrong
        # The prediction that stands for this guess of x0.
        signal, dirt = schedule.scales(t, x0)
        epsilon = (noisy - signal * guess) / dirt
        said = {"epsilon": epsilon, "sample": guess, "v": signal * epsilon - dirt * guess}[prediction]
        costs.append(l_simple(said, schedule.target(x0, noise, t), snr_weight(schedule, t, kind)))
    torch.testing.assert_close(costs[0], costs[1], rtol=1e-6, atol=0)
    torch.testing.assert_close(costs[0], costs[2], rtol=1e-6, atol=0)
    if kind == "min_snr":  # in terms of x0: min(SNR, 5)
        expected = wrong.square().flatten(1).mean(1) * schedule.snr(t).clamp(max=5)
        torch.testing.assert_close(costs[2], expected)


def test_closed_forms() -> None:
    x = torch.tensor([[1.0, 2.0], [0.0, 0.0]])
    torch.testing.assert_close(l_simple(x, torch.zeros(2, 2)), torch.tensor([2.5, 0.0]))
    torch.testing.assert_close(l_pr(x, torch.zeros(2, 2), torch.tensor([2.0, 2.0])), torch.tensor([5.0, 0.0]))
    east, north, west = torch.tensor([[2.0, 0.0]]), torch.tensor([[0.0, 1.0]]), torch.tensor([[-3.0, 0.0]])
    assert l_id(east, east).item() == pytest.approx(0)
    assert l_id(east, north).item() == pytest.approx(1)
    assert l_id(east, west).item() == pytest.approx(2)
    assert l_tid(east, east, north, margin=0.6).item() == 0  # 0 - 1 + 0.6 < 0
    assert l_tid(east, north, east, margin=0.6).item() == pytest.approx(1.6)
    assert l_tid(north, east, west, margin=0.6).item() == pytest.approx(0.6)
    gram = torch.tensor([[4.0, 1.0], [1.0, 9.0]])
    got = l_id_deca(torch.tensor([[1.0, 2.0]]), torch.tensor([[0.0, 1.0]]), gram)
    assert got.item() == pytest.approx(4 + 2 + 9)
    schedule = NoiseSchedule.linear()
    weight = time_weight(schedule, torch.tensor([0, 500, 999]))
    torch.testing.assert_close(weight, torch.tensor([1.0, 0.25, 1e-6], dtype=torch.float64))


@pytest.mark.parametrize("loss", ["id", "tid"])
def test_step_turns_towards_the_person(loss: str) -> None:
    """A step against the gradient brings the vector nearer to the person, and L_TID away from the other."""
    generator = torch.Generator().manual_seed(2)
    seen = torch.randn(6, 8, dtype=torch.float64, generator=generator).requires_grad_()
    own, other = torch.randn(2, 6, 8, dtype=torch.float64, generator=generator)
    own.requires_grad_()
    value = l_id(seen, own) if loss == "id" else l_tid(seen, own, other, margin=3.0)
    value.sum().backward()
    assert own.grad is None and seen.grad is not None
    moved = (seen - 0.05 * seen.grad).detach()
    if loss == "id":
        assert bool((l_id(moved, own.detach()) < l_id(seen.detach(), own.detach())).all())
    else:
        before, after = (l_id(v, own.detach()) - l_id(v, other) for v in (seen.detach(), moved))
        assert bool((after < before).all())


def test_shape_loss_gradient() -> None:
    generator = torch.Generator().manual_seed(3)
    a, b = torch.randn(2, 4, 5, dtype=torch.float64, generator=generator)
    root = torch.randn(5, 5, dtype=torch.float64, generator=generator)
    a.requires_grad_()
    torch.autograd.gradcheck(lambda x: l_id_deca(x, b, root @ root.mT), (a,))
