"""A latent diffusion model small enough for tests, and random things to give it."""

import torch

from headlab.diffusion.autoencoder import AutoencoderConfig, build_autoencoder
from headlab.diffusion.bundle import DiffusionConfig, LatentDiffusion
from headlab.diffusion.denoiser import DenoiserConfig, Given
from headlab.diffusion.semantic_encoder import SemanticConfig
from headlab.diffusion.training_denoiser import DenoiserTask, DenoiserTaskConfig
from headlab.diffusion.training_latents import DenoiserBatch

AUTOENCODER = AutoencoderConfig(widths=(8, 16, 16), latents=3, groups=4)
DENOISER = DenoiserConfig(
    latents=3,
    size=32,
    expressions=5,
    widths=(8, 16),
    attention=(False, True),
    heads=2,
    groups=4,
    tokens=16,
    condition_width=4,
    semantic=SemanticConfig(width=4, size=8),
    person_tokens=2,
)


def small_diffusion(seed: int = 0, denoiser: DenoiserConfig = DENOISER) -> LatentDiffusion:
    """Random weights."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return LatentDiffusion.build(build_autoencoder(AUTOENCODER), DiffusionConfig(denoiser))


def some_given(count: int = 3, config: DenoiserConfig = DENOISER, seed: int = 0) -> Given:
    """Random conditions."""
    g = torch.Generator().manual_seed(seed)
    side = config.size // config.factor
    return Given(
        torch.rand(count, 11, config.size, config.size, generator=g),
        torch.randn(count, config.latents, side, side, generator=g),
        torch.rand(count, 3, config.size, config.size, generator=g) * 2 - 1,
        torch.rand(count, config.expressions, generator=g),
        torch.randint(8, (count,), generator=g),
        torch.rand(count, 2, generator=g) * 2 - 1,
    )


class RandomData:
    """Training data made of nothing."""

    def __init__(self, count: int = 10, config: DenoiserConfig = DENOISER):
        self.given = some_given(count, config, seed=3)
        side = config.size // config.factor
        g = torch.Generator().manual_seed(4)
        self.latents = torch.randn(count, config.latents, side, side, generator=g)
        self.colour = torch.rand(count, 3, config.size, config.size, generator=g)

    @property
    def count(self) -> int:
        return len(self.latents)

    def load(self, indices: torch.Tensor, device: torch.device | str = "cpu") -> DenoiserBatch:
        return DenoiserBatch(self.latents[indices], self.given[indices], self.colour[indices])


def small_task(**options) -> DenoiserTask:
    """A denoiser's training on `RandomData`."""
    system = small_diffusion()
    config = DenoiserTaskConfig(system.config, **options)
    return DenoiserTask(config, system, RandomData(), RandomData(4))
