"""NoiseSchedule: how much of a picture is left at each time, and how pictures, noise and predictions go together.

    x_t = sqrt(a_t) x_0 + sqrt(1 - a_t) e,   e ~ N(0, 1),   a_t = prod_{s <= t} (1 - beta_s),   t = 0 .. T - 1

a_t is called `alphas_cumprod`, as in diffusers. Tables are float64 (1 - a_0 is 1e-4) and are cast where they are used.
"""

import math
from dataclasses import dataclass, replace
from typing import Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor

from ..geometry.errors import HeadlabError

#: What a denoiser is trained to say: the noise, v = sqrt(a) e - sqrt(1 - a) x_0 (Salimans and Ho 2022), or x_0.
Prediction = Literal["epsilon", "v", "sample"]
#: Which times a shortened run visits: DDIM's multiples of a stride, or the same counted from the end (Lin et al. 2024).
Spacing = Literal["leading", "trailing"]
PREDICTIONS = ("epsilon", "v", "sample")


@dataclass(frozen=True)
class ScheduleConfig:
    """A schedule in words, as saved beside weights."""

    kind: Literal["linear", "scaled_linear", "cosine"] = "linear"
    steps: int = 1000
    start: float = 1e-4  #: first beta (not for cosine)
    end: float = 0.02  #: last beta (not for cosine)
    prediction: Prediction = "epsilon"

    def build(self) -> "NoiseSchedule":
        """The schedule.

        Raises:
            HeadlabError: an unknown kind, or betas that are none.
        """
        if self.kind == "linear":
            return NoiseSchedule.linear(self.steps, self.start, self.end, self.prediction)
        if self.kind == "scaled_linear":
            return NoiseSchedule.scaled_linear(self.steps, self.start, self.end, self.prediction)
        if self.kind == "cosine":
            return NoiseSchedule.cosine(self.steps, self.prediction)
        raise HeadlabError(f"there is no noise schedule {self.kind!r}; choose linear, scaled_linear or cosine")


@dataclass(frozen=True, eq=False)
class NoiseSchedule:
    """Times 0 .. T - 1 of a diffusion process. Times come as integers, one per picture or one for all."""

    alphas_cumprod: Float[Tensor, "steps"]  #: float64, falling, within 0..1
    prediction: Prediction = "epsilon"

    def __post_init__(self):
        if self.prediction not in PREDICTIONS:
            raise HeadlabError(f"a denoiser predicts one of {', '.join(PREDICTIONS)}, not {self.prediction!r}")

    @classmethod
    def of_betas(cls, betas: Float[Tensor, "steps"], prediction: Prediction = "epsilon") -> "NoiseSchedule":
        """From the variances that single steps add.

        Raises:
            HeadlabError: a beta outside 0..1.
        """
        betas = betas.double()
        if not len(betas) or not bool(((betas > 0) & (betas <= 1)).all()):
            raise HeadlabError("the betas of a noise schedule must lie within 0..1; check its start and end")
        return cls(torch.cumprod(1 - betas, 0), prediction)

    @classmethod
    def linear(
        cls, steps: int = 1000, start: float = 1e-4, end: float = 0.02, prediction: Prediction = "epsilon"
    ) -> "NoiseSchedule":
        """Betas on a line (Ho et al. 2020); DiffusionRig's and DiffAE's. Other lengths: scale both by 1000 / steps."""
        return cls.of_betas(torch.linspace(start, end, steps, dtype=torch.float64), prediction)

    @classmethod
    def scaled_linear(
        cls, steps: int = 1000, start: float = 0.00085, end: float = 0.012, prediction: Prediction = "epsilon"
    ) -> "NoiseSchedule":
        """Roots of the betas on a line (Rombach et al. 2022); Stable Diffusion's and LDM3D's."""
        root = torch.linspace(math.sqrt(start), math.sqrt(end), steps, dtype=torch.float64)
        return cls.of_betas(root.square(), prediction)

    @classmethod
    def cosine(cls, steps: int = 1000, prediction: Prediction = "epsilon") -> "NoiseSchedule":
        """a_t = cos^2(pi / 2 (t / T + 0.008) / 1.008), betas at most 0.999 (Nichol and Dhariwal 2021)."""
        u = torch.arange(steps + 1, dtype=torch.float64) / steps
        a = torch.cos((u + 0.008) / 1.008 * math.pi / 2).square()
        return cls.of_betas((1 - a[1:] / a[:-1]).clamp(max=0.999), prediction)

    @property
    def steps(self) -> int:
        """T."""
        return len(self.alphas_cumprod)

    @property
    def betas(self) -> Float[Tensor, "steps"]:
        """Variances that single steps add."""
        a = self.alphas_cumprod
        return 1 - a / torch.cat([a.new_ones(1), a[:-1]])

    def to(self, device: torch.device | str) -> "NoiseSchedule":
        return replace(self, alphas_cumprod=self.alphas_cumprod.to(device))

    def add_noise(
        self,
        x0: Float[Tensor, "batch *picture"],
        noise: Float[Tensor, "batch *picture"],
        t: Int[Tensor, "*batch"],
    ) -> Float[Tensor, "batch *picture"]:
        """x_t of pictures or latents (unit variance or -1..1)."""
        signal, dirt = self.scales(t, x0)
        return signal * x0 + dirt * noise

    def target(
        self,
        x0: Float[Tensor, "batch *picture"],
        noise: Float[Tensor, "batch *picture"],
        t: Int[Tensor, "*batch"],
    ) -> Float[Tensor, "batch *picture"]:
        """What the denoiser should say about `add_noise(x0, noise, t)`."""
        if self.prediction == "epsilon":
            return noise
        if self.prediction == "sample":
            return x0
        signal, dirt = self.scales(t, x0)
        return signal * noise - dirt * x0

    def x0_from(
        self,
        prediction: Float[Tensor, "batch *picture"],
        noisy: Float[Tensor, "batch *picture"],
        t: Int[Tensor, "*batch"],
    ) -> Float[Tensor, "batch *picture"]:
        """The clean picture that a prediction stands for (x̂0). Differentiable."""
        if self.prediction == "sample":
            return prediction
        signal, dirt = self.scales(t, noisy)
        if self.prediction == "v":
            return signal * noisy - dirt * prediction
        return (noisy - dirt * prediction) / signal

    def epsilon_from(
        self,
        prediction: Float[Tensor, "batch *picture"],
        noisy: Float[Tensor, "batch *picture"],
        t: Int[Tensor, "*batch"],
    ) -> Float[Tensor, "batch *picture"]:
        """The noise that a prediction stands for. Differentiable."""
        if self.prediction == "epsilon":
            return prediction
        signal, dirt = self.scales(t, noisy)
        if self.prediction == "v":
            return signal * prediction + dirt * noisy
        return (noisy - signal * prediction) / dirt

    def snr(self, t: Int[Tensor, "*batch"]) -> Float[Tensor, "*batch"]:
        """Signal-to-noise ratio a / (1 - a), float64."""
        a = self.alphas_cumprod.to(t.device)[t]
        return a / (1 - a)

    def timesteps(self, count: int, spacing: Spacing = "trailing") -> list[int]:
        """The times that a run of so many steps visits, falling; from the last of them one steps to the clean picture.

        "leading" gives 0, s, 2 s, ... with s = T // count: the published DDIM runs, where count divides T. "trailing"
        gives T - 1, T - 1 - T / count, ...: it starts where pure noise was seen in training.

        Raises:
            HeadlabError: no step, or more than there are.
        """
        if not 1 <= count <= self.steps:
            raise HeadlabError(f"sampling takes 1 to {self.steps} steps, not {count}")
        if spacing == "leading":
            return [i * (self.steps // count) for i in reversed(range(count))]
        return [round(self.steps - i * self.steps / count) - 1 for i in range(count)]

    def scales(
        self, t: Int[Tensor, "*batch"], like: Float[Tensor, "batch *picture"]
    ) -> tuple[Float[Tensor, "*any"], Float[Tensor, "*any"]]:
        """sqrt(a_t) and sqrt(1 - a_t), shaped to multiply pictures of this kind."""
        a = self.alphas_cumprod.to(t.device)[t]
        shape = (-1,) + (1,) * (like.ndim - 1)
        signal, dirt = a.sqrt().reshape(shape), (1 - a).sqrt().reshape(shape)
        return signal.to(like), dirt.to(like)
