"""A tiny latent diffusion model with random weights, for tests of what is done with one."""

import torch

from headlab.diffusion.autoencoder import AutoencoderConfig, build_autoencoder
from headlab.diffusion.bundle import DiffusionConfig, LatentDiffusion
from headlab.diffusion.denoiser import DenoiserConfig, Given
from headlab.diffusion.schedule import ScheduleConfig
from headlab.diffusion.semantic_encoder import SemanticConfig

SIZE, EXPRESSIONS, LATENTS = 32, 52, 4


def tiny_diffusion(channels: int = 4, *, size: int = SIZE, text: int = 0, seed: int = 0) -> LatentDiffusion:
    """Pictures of 32 pixels, latents of 8; milliseconds per step."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        vae = build_autoencoder(AutoencoderConfig(channels, (8, 16, 16), 1, LATENTS, 4))
        config = DenoiserConfig(
            latents=LATENTS,
            size=size,
            expressions=EXPRESSIONS,
            widths=(16, 32),
            attention=(False, True),
            heads=2,
            groups=8,
            tokens=16,
            condition_width=8,
            semantic=SemanticConfig(width=8, size=16),
            text=text,
        )
        return LatentDiffusion.build(vae, DiffusionConfig(config, ScheduleConfig("cosine", prediction="v"))).frozen()


def tiny_given(count: int = 1, *, size: int = SIZE, seed: int = 1) -> Given:
    """Random maps and expressions."""
    generator = torch.Generator().manual_seed(seed)
    maps = torch.rand(count, 11, size, size, generator=generator)
    return Given(maps=maps, expression=torch.rand(count, EXPRESSIONS, generator=generator))


def tiny_pictures(count: int = 1, channels: int = 4, *, size: int = SIZE, seed: int = 2) -> torch.Tensor:
    """Smooth random pictures, -1..1."""
    coarse = torch.rand(count, channels, 4, 4, generator=torch.Generator().manual_seed(seed)) * 1.6 - 0.8
    return torch.nn.functional.interpolate(coarse, (size, size), mode="bicubic", align_corners=False).clamp(-1, 1)
