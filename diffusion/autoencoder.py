"""Autoencoders: diffusers' AutoencoderKL for colour (3 channels), colour and depth (4), or LDM3D's packing (6).

    picture -1..1 ──encode──> latents of about unit deviation ──decode──> picture

Default: RGB-D of 64 pixels to 16 x 16 latents. Colour and nearness (`datasets/synthetic/pairs.nearness`) are mapped
from 0..1 to -1..1, so nothing at all is -1 in the fourth channel.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from jaxtyping import Float
from torch import Tensor

from ..geometry.errors import HeadlabError
from .autoencoder_files import load_autoencoder as load_autoencoder

if TYPE_CHECKING:
    from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL


@dataclass(frozen=True)
class AutoencoderConfig:
    """Sizes of an autoencoder; the defaults are the shipped one's."""

    channels: int = 4  #: 3: RGB, 4: RGB-D, 6: RGB and LDM3D's packed depth
    widths: tuple[int, ...] = (16, 32, 64)  #: one per resolution; each after the first halves the picture
    blocks: int = 1  #: residual blocks per resolution in the encoder; the decoder has one more
    latents: int = 6
    groups: int = 8  #: of the group normalisation
    attention: bool = False  #: in the middle


#: Stable Diffusion's and LDM3D's: 8 times smaller, 4 latent channels.
STABLE_DIFFUSION = AutoencoderConfig(3, (128, 256, 512, 512), 2, 4, 32, True)
LDM3D = AutoencoderConfig(6, (128, 256, 512, 512), 2, 4, 32, True)


def build_autoencoder(config: AutoencoderConfig | None = None) -> "AutoencoderKL":
    """A fresh autoencoder.

    Raises:
        HeadlabError: other channels than 3, 4 or 6, or widths that the groups do not divide.
    """
    from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL

    config = config or AutoencoderConfig()
    if config.channels not in (3, 4, 6):
        raise HeadlabError(f"an autoencoder has 3 (RGB), 4 (RGB-D) or 6 (LDM3D) channels, not {config.channels}")
    if not config.widths or any(width % config.groups for width in config.widths):
        raise HeadlabError(f"the widths {config.widths} must be multiples of the groups, {config.groups}")
    levels = len(config.widths)
    make: Any = AutoencoderKL  # its annotations say tuples of one
    return make(
        in_channels=config.channels,
        out_channels=config.channels,
        down_block_types=("DownEncoderBlock2D",) * levels,
        up_block_types=("UpDecoderBlock2D",) * levels,
        block_out_channels=config.widths,
        layers_per_block=config.blocks,
        latent_channels=config.latents,
        norm_num_groups=config.groups,
        mid_block_add_attention=config.attention,
        scaling_factor=1.0,
    )


def factor(vae: "AutoencoderKL") -> int:
    """How many times smaller latents are than pictures."""
    return 2 ** (len(vae.config["block_out_channels"]) - 1)


def encode(
    vae: "AutoencoderKL", pictures: Float[Tensor, "batch chan height width"], generator: torch.Generator | None = None
) -> Float[Tensor, "batch latent rows columns"]:
    """Latents of pictures (-1..1): the posterior's mean, or a draw from it where a generator is given.

    Raises:
        HeadlabError: another number of channels, or a size that cannot be halved often enough.
    """
    want, step = vae.config["in_channels"], factor(vae)
    if pictures.shape[1] != want or pictures.shape[2] % step or pictures.shape[3] % step:
        raise HeadlabError(
            f"this autoencoder takes pictures of {want} channels with sides that {step} divides, "
            f"not {tuple(pictures.shape[1:])}; convert or resize them"
        )
    coded: Any = vae.encode(pictures.to(vae.dtype))
    posterior = coded.latent_dist
    latents = posterior.mode() if generator is None else posterior.sample(generator)
    shift, scale = _normaliser(vae, latents)
    return (latents.to(pictures.dtype) - shift) * scale


def decode(
    vae: "AutoencoderKL", latents: Float[Tensor, "batch latent rows columns"]
) -> Float[Tensor, "batch chan height width"]:
    """Pictures of latents, about -1..1, not clamped. Differentiable."""
    shift, scale = _normaliser(vae, latents)
    made: Any = vae.decode((latents / scale + shift).to(vae.dtype))  # type: ignore[arg-type]
    return made.sample.to(latents.dtype)


def set_normaliser(vae: "AutoencoderKL", mean: Float[Tensor, "latent"], std: Float[Tensor, "latent"]) -> None:
    """Have `encode` take out this mean and deviation, per channel, as measured on raw latents."""
    vae.register_to_config(latents_mean=mean.tolist(), latents_std=std.tolist(), scaling_factor=1.0)


def _normaliser(vae: "AutoencoderKL", like: Tensor) -> tuple[Tensor, Tensor]:
    """What to take from raw latents, and what to multiply the rest by."""
    mean, std = vae.config.get("latents_mean"), vae.config.get("latents_std")
    shift = like.new_tensor(mean)[:, None, None] if mean else like.new_tensor(vae.config.get("shift_factor") or 0.0)
    scale = like.new_tensor(vae.config["scaling_factor"])
    return shift, scale / like.new_tensor(std)[:, None, None] if std else scale
