"""From pictures back to the noise that DDIM makes them of.

    noise = invert(predict, latents, schedule, steps=20)
    again = sample(predict, noise, schedule, steps=20, spacing="leading")        # close to latents

A DDIM step goes from x_i to x_{i-1} with the noise that the denoiser sees in x_i. The usual inversion takes the noise
seen in x_{i-1} for it, which is off by a step (and the library's `DDIMInverseScheduler` by another one). Here x_i is
solved for: x_i = (x_{i-1} - b e(x_i)) / a by fixed-point iterations (Pan et al., "Effective real image editing with
accelerated iterative diffusion inversion", 2023). `invert_exactly` also keeps what is left over at each step, and
adding that while sampling gives the picture back to rounding (Ju et al., "Direct inversion", 2024).
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from .sampling import Callback, Predict
from .schedule import NoiseSchedule


@dataclass(frozen=True)
class Inversion:
    """A picture as noise."""

    noise: Float[Tensor, "batch *picture"]  #: at the first time that sampling visits
    corrections: tuple[Float[Tensor, "batch *picture"], ...]  #: for `sample`, in its order


def invert(
    predict: Predict,
    x0: Float[Tensor, "batch *picture"],
    schedule: NoiseSchedule,
    steps: int = 20,
    *,
    refine: int = 4,
    stop: int = 0,
    callback: Callback | None = None,
) -> Float[Tensor, "batch *picture"]:
    """The noise from which `sample(..., spacing="leading")` makes these latents; see `invert_exactly`."""
    return invert_exactly(predict, x0, schedule, steps, refine=refine, stop=stop, callback=callback).noise


@torch.no_grad()
def invert_exactly(
    predict: Predict,
    x0: Float[Tensor, "batch *picture"],
    schedule: NoiseSchedule,
    steps: int = 20,
    *,
    refine: int = 4,
    stop: int = 0,
    callback: Callback | None = None,
) -> Inversion:
    """Noise and corrections with which `sample(..., spacing="leading", corrections=...)` makes these latents again.

    Args:
        predict: the denoiser, given the picture's own conditions and no guidance.
        x0: clean latents.
        schedule: of the training.
        steps: as in sampling.
        refine: evaluations of the denoiser per step after the first one; the best x_i of them is kept.
        stop: steps to leave out at the noisy end (`start` of `sample`): the noise is then that of an earlier time.
        callback: called after each step.
    """
    times = schedule.timesteps(steps, "leading")[stop:][::-1]
    alphas = schedule.alphas_cumprod[times].tolist()
    x, before, corrections = x0, 1.0, []
    for done, (time, after) in enumerate(zip(times, alphas, strict=True)):
        t = torch.full((len(x0),), time, device=x0.device)
        # x_{i-1} = a x_i + b e(x_i)
        a = (before / after) ** 0.5
        b = (1 - before) ** 0.5 - a * (1 - after) ** 0.5
        at, best, left, least = x / a, x / a, x, torch.full((len(x0),), torch.inf, device=x0.device)
        for _ in range(1 + refine):
            noise = schedule.epsilon_from(predict(at, t), at, t)
            rest = x - (a * at + b * noise)
            size = rest.square().flatten(1).mean(1)
            better = (size < least).reshape(-1, *[1] * (x0.ndim - 1))
            best, left, least = torch.where(better, at, best), torch.where(better, rest, left), size.minimum(least)
            at = (x - b * noise) / a
        corrections.append(left)
        x, before = best, after
        if callback is not None:
            callback(done + 1, x)
    return Inversion(x, tuple(reversed(corrections)))


@torch.no_grad()
def invert_as_published(
    predict: Predict,
    x0: Float[Tensor, "batch *picture"],
    schedule: NoiseSchedule,
    steps: int = 20,
    *,
    clip: float | None = 1.0,
) -> Float[Tensor, "batch *picture"]:
    """DiffusionRig's and DiffAE's inversion, for their numbers: the noise seen in x_i serves to reach x_{i+1}.

    The picture counts as x_0 at the first visited time, and after the last one all signal is gone: the noise is the
    last prediction of it.

    Args:
        predict: the denoiser.
        x0: pictures, -1..1.
        schedule: of the training.
        steps: evaluations of the denoiser.
        clip: x̂0 is held within ± clip and the noise derived from it anew.
    """
    times = schedule.timesteps(steps, "leading")[::-1]
    alphas = [*schedule.alphas_cumprod[times].tolist()[1:], 0.0]
    x = x0
    for time, after in zip(times, alphas, strict=True):
        t = torch.full((len(x0),), time, device=x0.device)
        said = predict(x, t)
        clean, noise = schedule.x0_from(said, x, t), schedule.epsilon_from(said, x, t)
        if clip is not None:
            clean = clean.clamp(-clip, clip)
            signal, dirt = schedule.scales(t, x)
            noise = (x - signal * clean) / dirt
        x = after**0.5 * clean + (1 - after) ** 0.5 * noise
    return x
