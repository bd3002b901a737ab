"""From noise to pictures: DDIM and DPM-Solver++ of diffusers, exactly at the times that are asked for.

    predict = guided(denoiser, denoiser.context(given), denoiser.context(given.without("expression")), 2.0)
    latents = sample(predict, torch.randn(..., generator=generator), schedule, steps=20)

The library's DDIM takes the time before t to be t - T // steps, which is wrong wherever steps does not divide T. Here
its schedulers run on a schedule made of the visited times alone, in which the time before i is i - 1.
"""

from collections.abc import Callable, Sequence
from typing import Any, Literal

import torch
from jaxtyping import Float
from torch import Tensor

from ..geometry.errors import HeadlabError
from .schedule import NoiseSchedule, Spacing

#: (noisy latents, times (batch,)) -> prediction of the schedule's kind.
Predict = Callable[[Tensor, Tensor], Tensor]
#: (steps done, latents now): for progress bars and pictures on the way.
Callback = Callable[[int, Tensor], None]

_DIFFUSERS_NAMES = {"epsilon": "epsilon", "v": "v_prediction", "sample": "sample"}


def guided(denoiser: Callable[..., Tensor], context: Any, unconditional: Any | None, scale: float) -> Predict:
    """Classifier-free guidance (Ho and Salimans 2022): u + scale (c - u).

    Args:
        denoiser: (noisy, times, context) -> prediction.
        context: what is known.
        unconditional: the same without what shall be stressed; None: no guidance.
        scale: 1 is plain sampling, and then the unconditional prediction is not made.
    """

    def predict(noisy: Tensor, t: Tensor) -> Tensor:
        said = denoiser(noisy, t, context)
        if unconditional is None or scale == 1:
            return said
        base = denoiser(noisy, t, unconditional)
        return base + scale * (said - base)

    return predict


@torch.no_grad()
def sample(
    predict: Predict,
    noise: Float[Tensor, "batch *picture"],
    schedule: NoiseSchedule,
    steps: int = 20,
    method: Literal["ddim", "dpm++"] = "ddim",
    *,
    eta: float = 0.0,
    clip: float | None = None,
    spacing: Spacing = "trailing",
    start: int = 0,
    corrections: Sequence[Float[Tensor, "batch *picture"]] | None = None,
    generator: torch.Generator | None = None,
    callback: Callback | None = None,
) -> Float[Tensor, "batch *picture"]:
    """Clean latents from noise.

    Args:
        predict: the denoiser with everything it is given.
        noise: unit Gaussian, or the noisy latents of the `start`-th visited time.
        schedule: of the training.
        steps: evaluations of the denoiser, less `start`.
        method: "ddim" (Song et al. 2021), or "dpm++": DPM-Solver++(2M) (Lu et al. 2022), better in few steps.
        eta: DDIM's fresh noise, 0 (none: the same noise gives the same picture) to 1 (ancestral sampling).
        clip: x̂0 is held within ± clip and the noise derived from it anew, as DiffusionRig and DiffAE do with 1; for
            pictures, not for latents.
        spacing: of the visited times; "dpm++" overshoots with "leading", whose last two times lie far apart in noise.
        start: steps to leave out at the noisy end.
        corrections: added after each step ("ddim" only): those of `invert_exactly`.
        generator: of the fresh noise.
        callback: called after each step.

    Raises:
        HeadlabError: unusable numbers.
    """
    if not 0 <= start < steps:
        raise HeadlabError(f"sampling of {steps} steps cannot start at step {start}")
    if method not in ("ddim", "dpm++"):
        raise HeadlabError(f"there is no sampler {method!r}; choose ddim or dpm++")
    if method != "ddim" and (eta or corrections is not None or clip is not None):
        raise HeadlabError("eta, clip and corrections belong to the sampler ddim; leave them out for dpm++")
    times = schedule.timesteps(steps, spacing)
    scheduler = _scheduler(schedule, times, method, clip)
    scheduler.set_timesteps(steps)
    latents = noise
    if method == "dpm++" and start:
        scheduler.set_begin_index(start)
    options = {"eta": eta, "use_clipped_model_output": clip is not None} if method == "ddim" else {}
    for done in range(start, steps):
        t = torch.full((len(latents),), times[done], device=latents.device)
        said = predict(latents, t)
        moment = scheduler.timesteps[done]
        latents = scheduler.step(said, moment, latents, generator=generator, **options).prev_sample
        if corrections is not None:
            latents = latents + corrections[done - start]
        if callback is not None:
            callback(done + 1 - start, latents)
    return latents


def _scheduler(schedule: NoiseSchedule, times: list[int], method: str, clip: float | None) -> Any:
    """The library's scheduler for the visited times, which it numbers len(times) - 1 .. 0."""
    from diffusers.schedulers.scheduling_ddim import DDIMScheduler
    from diffusers.schedulers.scheduling_dpmsolver_multistep import DPMSolverMultistepScheduler

    visited = NoiseSchedule(schedule.alphas_cumprod.cpu()[times[::-1]], schedule.prediction)
    common: dict[str, Any] = {
        "num_train_timesteps": len(times),
        "trained_betas": visited.betas.tolist(),
        "prediction_type": _DIFFUSERS_NAMES[schedule.prediction],
        "timestep_spacing": "trailing",
    }
    if method == "ddim":
        held = {"clip_sample": clip is not None, "clip_sample_range": 1.0 if clip is None else clip}
        scheduler = DDIMScheduler(**common, **held, set_alpha_to_one=True)
    else:
        scheduler = DPMSolverMultistepScheduler(**common, algorithm_type="dpmsolver++", solver_order=2)
    # The library multiplies up 1 - beta in single precision, which is 0 where a schedule ends in almost pure noise.
    scheduler.alphas_cumprod = visited.alphas_cumprod.float()
    return scheduler
