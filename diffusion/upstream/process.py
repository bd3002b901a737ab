"""The published diffusion process (Ho et al. 2020; Nichol and Dhariwal 2021): respacing, DDIM, ancestral sampling.

    process = Process.of(NoiseSchedule.linear(), "ddim20")
    picture = process.ddim(predict, noise)            # predict: (x, times 0..999) -> noise [and variances]
    noise = process.ddim_inverted(predict, picture)

DiffusionRig and DiffAE sample so: x̂0 is held within -1..1 and the noise derived from it anew. Steps are counted
0 .. steps - 1; the network is told the times they stand for. `diffusion.sampling` is for headlab's own models.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Literal, NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor

from ...geometry.errors import HeadlabError
from ..sampling import Callback, Predict
from ..schedule import NoiseSchedule

Variance = Literal["fixed_large", "fixed_small", "learned_range"]
Pictures = Float[Tensor, "batch *picture"]
Steps = Int[Tensor, "batch"]
#: A fresh unit Gaussian like the pictures it is given.
Noise = Callable[[Tensor], Tensor]


class Step(NamedTuple):
    """What is known of x_{i-1} from x_i."""

    mean: Tensor
    variance: Tensor
    log_variance: Tensor
    x0: Tensor


def respaced(spacing: str, steps: int = 1000) -> tuple[int, ...]:
    """The times that a shortened run visits, rising, in the published notation.

    Args:
        spacing: "" for all; "ddimN": N times with an exact stride; "N" or "A,B,...": so many in equal sections, spread
            over each section from its first to its last time.
        steps: of the whole process.

    Raises:
        HeadlabError: no stride gives N times, or a section is too short.
    """
    if not spacing:
        return tuple(range(steps))
    try:
        if spacing.startswith("ddim"):
            count = int(spacing.removeprefix("ddim"))
            for stride in range(1, steps):
                if len(range(0, steps, stride)) == count:
                    return tuple(range(0, steps, stride))
            raise HeadlabError(f"no stride of {steps} times gives {count}; take 5, 10, 20, 50, 100 or 250 steps")
        counts = [int(part) for part in spacing.split(",")]
    except ValueError as error:
        raise HeadlabError(f"{spacing!r} is no respacing; write ddim20, 20 or 10,10,20") from error
    times, start = [], 0
    for i, count in enumerate(counts):
        length = steps // len(counts) + (i < steps % len(counts))
        if not 1 <= count <= length:
            raise HeadlabError(f"a section of {length} times cannot be visited in {count} steps; take fewer")
        stride = (length - 1) / (count - 1) if count > 1 else 1.0
        times += [start + round(stride * k) for k in range(count)]
        start += length
    return tuple(times)


@dataclass(frozen=True, eq=False)
class Process:
    """A diffusion process on the visited times. The network predicts noise."""

    betas: Float[Tensor, "steps"]  #: float64
    times: tuple[int, ...]  #: what the network is told at each step
    variance: Variance = "fixed_large"

    @classmethod
    def of(cls, schedule: NoiseSchedule, spacing: str = "", variance: Variance = "fixed_large") -> "Process":
        """A schedule's process, shortened as `respaced` says.

        Raises:
            HeadlabError: it cannot be shortened so.
        """
        times = respaced(spacing, schedule.steps)
        return cls(NoiseSchedule(schedule.alphas_cumprod[list(times)]).betas, times, variance)

    @cached_property
    def alphas_cumprod(self) -> Float[Tensor, "steps"]:
        return torch.cumprod(1 - self.betas, 0)

    @cached_property
    def before(self) -> Float[Tensor, "steps"]:
        """alphas_cumprod of the step before; 1 before the first."""
        return torch.cat([self.betas.new_ones(1), self.alphas_cumprod[:-1]])

    @cached_property
    def after(self) -> Float[Tensor, "steps"]:
        """alphas_cumprod of the step after; 0 after the last."""
        return torch.cat([self.alphas_cumprod[1:], self.betas.new_zeros(1)])

    @cached_property
    def posterior_variance(self) -> Float[Tensor, "steps"]:
        return self.betas * (1 - self.before) / (1 - self.alphas_cumprod)

    @cached_property
    def posterior_log_variance(self) -> Float[Tensor, "steps"]:
        """Its logarithm; the first, which is 0, counts as the second."""
        return torch.cat([self.posterior_variance[1:2], self.posterior_variance[1:]]).log()

    def add_noise(self, x0: Pictures, noise: Pictures, i: Steps) -> Pictures:
        """x_i."""
        return (
            self._at(self.alphas_cumprod.sqrt(), i, x0) * x0 + self._at((1 - self.alphas_cumprod).sqrt(), i, x0) * noise
        )

    def posterior_mean(self, x0: Pictures, x: Pictures, i: Steps) -> Pictures:
        """Mean of x_{i-1} where x_0 and x_i are known."""
        first = self.betas * self.before.sqrt() / (1 - self.alphas_cumprod)
        second = (1 - self.before) * (1 - self.betas).sqrt() / (1 - self.alphas_cumprod)
        return self._at(first, i, x) * x0 + self._at(second, i, x) * x

    def x0_from(self, noise: Pictures, x: Pictures, i: Steps) -> Pictures:
        """The clean pictures that a prediction of the noise stands for."""
        inverse = 1 / self.alphas_cumprod
        return self._at(inverse.sqrt(), i, x) * x - self._at((inverse - 1).sqrt(), i, x) * noise

    def noise_from(self, x0: Pictures, x: Pictures, i: Steps) -> Pictures:
        """The noise that clean pictures stand for."""
        inverse = 1 / self.alphas_cumprod
        return (self._at(inverse.sqrt(), i, x) * x - x0) / self._at((inverse - 1).sqrt(), i, x)

    def step_back(self, predict: Predict, x: Pictures, i: Steps, clip: bool = True) -> Step:
        """What the network says of x_{i-1}.

        Args:
            predict: the network.
            x: x_i.
            i: steps, one per picture.
            clip: hold x̂0 within -1..1.
        """
        said = predict(x, self.model_times(i))
        if self.variance == "learned_range":
            said, share = said.chunk(2, 1)
            low, high = self._at(self.posterior_log_variance, i, x), self._at(self.betas.log(), i, x)
            share = (share + 1) / 2
            log_variance = share * high + (1 - share) * low
            variance = log_variance.exp()
        elif self.variance == "fixed_large":
            table = torch.cat([self.posterior_variance[1:2], self.betas[1:]])
            variance, log_variance = self._at(table, i, x), self._at(table.log(), i, x)
        else:
            variance = self._at(self.posterior_variance, i, x)
            log_variance = self._at(self.posterior_log_variance, i, x)
        x0 = self.x0_from(said, x, i)
        x0 = x0.clamp(-1, 1) if clip else x0
        return Step(self.posterior_mean(x0, x, i), variance, log_variance, x0)

    @torch.no_grad()
    def ddim(
        self,
        predict: Predict,
        noise: Pictures,
        *,
        clip: bool = True,
        eta: float = 0.0,
        fresh: Noise = torch.randn_like,
        callback: Callback | None = None,
    ) -> Pictures:
        """Pictures from noise (Song et al. 2021); eta 0: the same noise gives the same picture.

        Args:
            predict: the network.
            noise: unit Gaussian.
            clip: hold x̂0 within -1..1.
            eta: share of fresh noise.
            fresh: makes it.
            callback: called after each step.
        """
        x = noise
        for k in reversed(range(len(self.times))):
            i = self._all(k, x)
            x0 = self.step_back(predict, x, i, clip).x0
            a, before = float(self.alphas_cumprod[k]), float(self.before[k])
            sigma = eta * ((1 - before) / (1 - a)) ** 0.5 * (1 - a / before) ** 0.5
            x = before**0.5 * x0 + (1 - before - sigma**2) ** 0.5 * self.noise_from(x0, x, i)
            if eta and k:
                x = x + sigma * fresh(x)
            if callback is not None:
                callback(len(self.times) - k, x)
        return x

    @torch.no_grad()
    def ancestral(
        self, predict: Predict, noise: Pictures, *, clip: bool = True, fresh: Noise = torch.randn_like
    ) -> Pictures:
        """Pictures from noise with fresh noise of the process's variance at every step (Ho et al. 2020)."""
        x = noise
        for k in reversed(range(len(self.times))):
            step = self.step_back(predict, x, self._all(k, x), clip)
            x = step.mean + (0.5 * step.log_variance).exp() * fresh(x) if k else step.mean
        return x

    @torch.no_grad()
    def ddim_inverted(
        self, predict: Predict, picture: Pictures, *, clip: bool = True, callback: Callback | None = None
    ) -> Pictures:
        """The published inversion: noise of which `ddim` makes about this picture; x_T is the last noise seen."""
        x = picture
        for k in range(len(self.times)):
            i = self._all(k, x)
            x0 = self.step_back(predict, x, i, clip).x0
            after = float(self.after[k])
            x = after**0.5 * x0 + (1 - after) ** 0.5 * self.noise_from(x0, x, i)
            if callback is not None:
                callback(k + 1, x)
        return x

    def model_times(self, i: Steps) -> Steps:
        """What the network is told."""
        return torch.tensor(self.times, device=i.device)[i]

    def _all(self, k: int, x: Tensor) -> Tensor:
        return torch.full((len(x),), k, device=x.device)

    def _at(self, table: Tensor, i: Tensor, like: Tensor) -> Tensor:
        """Numbers of steps, in single precision as the authors' are, shaped to multiply pictures."""
        return table.to(i.device)[i].float().to(like.dtype).reshape(-1, *[1] * (like.ndim - 1))
