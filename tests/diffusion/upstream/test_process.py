"""The published process: tables, respacing, steps, DDIM, ancestral sampling, inversion, the variational bound."""

import numpy as np
import pytest
import torch
from upstream_nets import FULL, Golden, counted_noise, filled_rig, small_rig_config

from headlab.diffusion.schedule import NoiseSchedule
from headlab.diffusion.upstream.process import Process, respaced
from headlab.diffusion.upstream.process_terms import bound_term, epsilon_loss, prior_term
from headlab.geometry.errors import HeadlabError

LINEAR = NoiseSchedule.linear()


@pytest.fixture(scope="module")
def golden(shared):
    return Golden(shared, "schedules")


@pytest.fixture(scope="module")
def said(golden):
    """The network that tells variances too; its first three channels are the plain network's. Calls are remembered."""
    network, known = filled_rig(small_rig_config(outputs=6)), {}
    buffers = golden["physic_cond"]
    with torch.no_grad():
        code = network.encode(golden["x_start"])

    def predict(x, t):
        key = x.numpy().tobytes() + t.numpy().tobytes()
        if key not in known:
            with torch.no_grad():
                known[key] = network(x, t, buffers[: len(x)], code=code[: len(x)])
        return known[key]

    return predict


@pytest.mark.parametrize("spacing", ["", "ddim5", "ddim20", "ddim250", "5", "20", "10,10,20"])
def test_tables(golden, spacing):
    name, process = spacing or "T1000", Process.of(LINEAR, spacing)
    assert list(process.times) == golden[f"{name}/timestep_map"].tolist()
    for theirs, made in (
        ("betas", process.betas),
        ("alphas_cumprod", process.alphas_cumprod),
        ("alphas_cumprod_prev", process.before),
        ("alphas_cumprod_next", process.after),
        ("posterior_variance", process.posterior_variance),
        ("posterior_log_variance_clipped", process.posterior_log_variance),
    ):
        np.testing.assert_allclose(made.numpy(), golden.arrays[f"{name}/{theirs}"], rtol=1e-9)


def test_strides_that_are_refused(golden):
    for count, stride in enumerate(golden["ddimN_stride_of_1000"].tolist()):
        if stride == 0:
            with pytest.raises(HeadlabError, match="no stride"):
                respaced(f"ddim{count}")
        else:
            times = respaced(f"ddim{count}")
            assert len(times) == count and times[1] - times[0] == stride
    with pytest.raises(HeadlabError, match="no respacing"):
        respaced("many")
    with pytest.raises(HeadlabError, match="cannot be visited"):
        respaced("700,2")


def test_posterior_and_prior(golden):
    process, i = Process.of(LINEAR), golden["t"]
    x0, x = golden["x_start"], golden["x_t"]
    torch.testing.assert_close(process.add_noise(x0, golden["noise"], i), golden["q_sample"], atol=1e-6, rtol=1e-6)
    marginal = process.add_noise(x0, torch.zeros_like(x0), i)
    torch.testing.assert_close(marginal, golden["q_mean_variance/mean"], atol=1e-6, rtol=1e-6)
    variance = (1 - process.alphas_cumprod)[i]
    torch.testing.assert_close(variance.float(), golden["q_mean_variance/variance"])
    torch.testing.assert_close(variance.log().float(), golden["q_mean_variance/log_variance"])
    mean = process.posterior_mean(x0, x, i)
    torch.testing.assert_close(mean, golden["q_posterior/mean"], atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(process.posterior_variance[i].float(), golden["q_posterior/variance"])
    torch.testing.assert_close(process.posterior_log_variance[i].float(), golden["q_posterior/log_variance"])
    torch.testing.assert_close(prior_term(process, x0), golden["prior_bpd"], atol=2e-7, rtol=1e-3)


@pytest.mark.parametrize("learned", [False, True])
def test_steps(golden, said, learned):
    """Mean, variance and clean picture of one step, of every spacing, clipped and not."""
    prefix = "learn_sigma/" if learned else ""
    for spacing, i in (("", (3, 700)), ("", (0, 999)), ("ddim20", (0, 13)), ("ddim5", (4, 2))):
        process = Process.of(LINEAR, spacing, "learned_range" if learned else "fixed_large")
        predict = said if learned else lambda x, t: said(x, t)[:, :3]
        for clip in (True, False):
            step = process.step_back(predict, golden["x_t"], torch.tensor(i), clip)
            name = f"{prefix}p_mean_variance/{spacing or 'T1000'}/t{i[0]}_{i[1]}/clip{int(clip)}/"
            torch.testing.assert_close(step.mean, golden[name + "mean"], atol=1e-4, rtol=1e-4)
            log = step.log_variance.reshape(golden[name + "log_variance"].shape)
            torch.testing.assert_close(log, golden[name + "log_variance"], atol=1e-4, rtol=1e-5)
            if name + "pred_xstart" in golden:
                torch.testing.assert_close(step.x0, golden[name + "pred_xstart"], atol=1e-3, rtol=1e-4)
    small = Process.of(LINEAR, "", "fixed_small").step_back(
        lambda x, t: said(x, t)[:, :3], golden["x_t"], torch.tensor([0, 700])
    )
    torch.testing.assert_close(small.variance.flatten(), golden["p_mean_variance/sigma_small/t0_700/variance"])


@pytest.mark.parametrize("clip", [True, False])
def test_ddim_and_its_inversion(golden, said, clip):
    """Relative where values reach 143, as the numbers' own README advises."""
    rows = slice(0, 2 if FULL else 1)
    for prefix, variance in (("", "fixed_large"), ("learn_sigma/", "learned_range")):
        process = Process.of(LINEAR, "ddim5", variance)
        predict = said if prefix else lambda x, t: said(x, t)[:, :3]
        name = f"{prefix}ddim5_{{}}/clip{int(clip)}/{{}}"
        seen: list[torch.Tensor] = []

        def close(made, want):
            torch.testing.assert_close(made, want[rows], atol=1e-3 if clip else 2e-3, rtol=1e-4)

        made = process.ddim(predict, golden["x_T"][rows], clip=clip, callback=lambda done, x, to=seen: to.append(x[0]))
        close(made, golden[name.format("eta0", "x_0")])
        if not prefix:
            torch.testing.assert_close(torch.stack(seen), golden[name.format("eta0", "samples")], atol=1e-3, rtol=1e-4)
        noise = process.ddim_inverted(predict, golden["x_start"][rows], clip=clip)
        close(noise, golden[name.format("reverse", "x_T")])
        close(process.ddim(predict, noise, clip=clip), golden[name.format("reverse_then_sample", "x_0")])


def test_fresh_noise(golden, said):
    rows = slice(0, 2 if FULL else 1)
    for prefix, variance in (("", "fixed_large"), ("learn_sigma/", "learned_range")):
        predict = said if prefix else lambda x, t: said(x, t)[:, :3]

        def fresh(draw):
            return lambda x: draw(x, (2, 3, 64, 64))[: len(x)]

        process = Process.of(LINEAR, "ddim5", variance)
        made = process.ddim(predict, golden["x_T"][rows], eta=0.5, fresh=fresh(counted_noise()))
        torch.testing.assert_close(made, golden[f"{prefix}ddim5_eta0.5/x_0"][rows], atol=1e-3, rtol=1e-4)
        process = Process.of(LINEAR, "5", variance)
        made = process.ancestral(predict, golden["x_T"][rows], fresh=fresh(counted_noise()))
        torch.testing.assert_close(made, golden[f"{prefix}ancestral5/x_0"][rows], atol=1e-3, rtol=1e-4)


def test_losses_and_the_bound(shared):
    """Per sample: the squared error, plain and with p2; and terms of the bound in bits per dimension."""
    golden = Golden(shared, "training_losses")
    network = filled_rig(small_rig_config(outputs=6))
    x0, noise = golden["x_start"], golden["noise"]
    with torch.no_grad():
        code = network.encode(x0)
        known = {}

        def both(x, t):
            key = t.numpy().tobytes()
            if key not in known:
                known[key] = network(x, t, golden["physic_cond"], code=code)
            return known[key]

        def predict(x, t):
            return both(x, t)[:, :3]

        for name, gamma in (("mse", None), ("p2_gamma1_k1", 1.0), ("p2_gamma0.5_k1", 0.5)):
            made = epsilon_loss(predict, LINEAR, x0, noise, golden["t"], p2=gamma is not None, gamma=gamma or 1.0)
            torch.testing.assert_close(made, golden[f"eval/{name}/loss"].to(made), atol=1e-5, rtol=1e-4)
        known.clear()
        i = torch.tensor([0, 250, 999])
        for learned in (False, True):
            process = Process.of(LINEAR, "", "learned_range" if learned else "fixed_large")
            x = process.add_noise(x0, noise, i)
            for clip in (True, False):
                made = bound_term(both if learned else predict, process, x0, x, i, clip)
                want = golden[f"vb/learn_sigma{int(learned)}/clip{int(clip)}"]
                torch.testing.assert_close(made, want, atol=1e-4, rtol=1e-3)
