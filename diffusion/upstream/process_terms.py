"""Terms of the variational bound, in bits per dimension (Nichol and Dhariwal 2021), and the published training losses.

DiffusionRig and DiffAE train on the squared error alone; the bound only measures.
"""

import math

import torch
from jaxtyping import Float
from torch import Tensor

from ..losses import l_simple, snr_weight
from ..sampling import Predict
from ..schedule import NoiseSchedule
from .process import Pictures, Process, Steps


def epsilon_loss(
    predict: Predict,
    schedule: NoiseSchedule,
    x0: Pictures,
    noise: Pictures,
    t: Steps,
    *,
    p2: bool = False,
    k: float = 1.0,
    gamma: float = 1.0,
) -> Float[Tensor, "batch"]:
    """w_t mean((e - e_hat)^2), w_t = 1 / (k + SNR)^gamma with `p2` (Choi et al. 2022), else 1."""
    said = predict(schedule.add_noise(x0, noise, t), t)
    return l_simple(said, noise, snr_weight(schedule, t, "p2", k=k, gamma=gamma) if p2 else None)


def bound_term(
    predict: Predict, process: Process, x0: Pictures, x: Pictures, i: Steps, clip: bool = True
) -> Float[Tensor, "batch"]:
    """One term of the variational bound: the divergence of what is said of x_{i-1}, or at step 0 of the picture."""
    true_mean = process.posterior_mean(x0, x, i)
    shape = (-1, *[1] * (x.ndim - 1))
    true_log = process.posterior_log_variance.to(x.device)[i].to(x.dtype).reshape(shape)
    said = process.step_back(predict, x, i, clip)
    divergence = _divergence(true_mean, true_log, said.mean, said.log_variance).flatten(1).mean(1)
    likelihood = -_pixel_log_likelihood(x0, said.mean, 0.5 * said.log_variance).flatten(1).mean(1)
    return torch.where(i == 0, likelihood, divergence) / math.log(2)


def prior_term(process: Process, x0: Pictures) -> Float[Tensor, "batch"]:
    """What the last noisy pictures still tell of the clean ones."""
    a = float(process.alphas_cumprod[-1])
    log_variance = torch.full_like(x0, math.log(1 - a))
    zero = torch.zeros_like(x0)
    return _divergence(a**0.5 * x0, log_variance, zero, zero).flatten(1).mean(1) / math.log(2)


def _divergence(mean: Tensor, log_variance: Tensor, other: Tensor, other_log: Tensor) -> Tensor:
    """Kullback-Leibler divergence of one Gaussian from another, nats."""
    spread = (log_variance - other_log).exp() + (mean - other).square() * (-other_log).exp()
    return 0.5 * (other_log - log_variance - 1 + spread)


def _pixel_log_likelihood(x: Tensor, mean: Tensor, log_scale: Tensor) -> Tensor:
    """Of pictures of 256 levels in -1..1 under a Gaussian cut into their bins; the outermost bins are open."""
    inverse = (-log_scale).exp()
    upper, lower = (_normal_cdf(inverse * (x - mean + side / 255)) for side in (1, -1))
    inside = (upper - lower).clamp(min=1e-12).log()
    first, last = upper.clamp(min=1e-12).log(), (1 - lower).clamp(min=1e-12).log()
    return torch.where(x < -0.999, first, torch.where(x > 0.999, last, inside))


def _normal_cdf(x: Tensor) -> Tensor:
    """The approximation that the published figures use."""
    return 0.5 * (1 + torch.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)))
