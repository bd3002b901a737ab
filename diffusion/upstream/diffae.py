"""Diffusion Autoencoders (Preechakul et al. 2022): the networks, under their authors' names.

    picture ──encoder──> z (512);   noisy picture, time ──UNet whose channels z scales──> noise

`DiffAE` is the autoencoder, with the latent DPM where a checkpoint has one; without a code it is the unconditional
UNet (the DDPM). Pictures are -1..1. `diffae_edit` does things with them, `diffae_files` reads checkpoints.
"""

from dataclasses import dataclass, field, replace

import torch
from jaxtyping import Float, Shaped
from torch import Tensor, nn

from ...geometry.errors import HeadlabError
from .blocks import AttentionBlock, Modulated, ResBlock, groups
from .latent_net import LatentNet, LatentNetConfig
from .unet import UNet, UNetConfig


@dataclass(frozen=True)
class DiffAEConfig:
    """Sizes; the defaults are ffhq256_autoenc's."""

    unet: UNetConfig = field(default_factory=lambda: UNetConfig(inputs=3, code=512, code_shift=False, nested_time=True))
    stages: tuple[int, ...] | None = (1, 1, 2, 2, 4, 4, 4)  #: channel factors of the encoder; None: there is none
    latent_net: LatentNetConfig | None = None


#: The released networks.
FFHQ256 = DiffAEConfig()
FFHQ128 = DiffAEConfig(
    UNetConfig(128, 3, multipliers=(1, 1, 2, 3, 4), code=512, code_shift=False, nested_time=True), (1, 1, 2, 3, 4, 4)
)
#: celeba64d2c_autoenc, the authors' template of 64 pixels.
CELEBA64 = DiffAEConfig(
    UNetConfig(64, 3, channels=64, multipliers=(1, 2, 4, 8), code=512, code_shift=False, nested_time=True),
    (1, 2, 4, 8, 8),
)
FFHQ128_DDPM = DiffAEConfig(UNetConfig(128, 3, multipliers=(1, 1, 2, 3, 4), code=None, code_shift=False), None)


class SemanticEncoder(nn.Module):
    """Half of a UNet whose blocks have no second half, and a mean over the picture."""

    def __init__(self, config: UNetConfig, stages: tuple[int, ...]):
        """Args:
        config: of the whole network: picture size, channels, blocks, attention.
        stages: channel factors; each after the first at half the size.
        """
        super().__init__()
        c, now, size = config, stages[0] * config.channels, config.size
        blocks = [Modulated(nn.Conv2d(3, now, 3, padding=1))]
        for stage, times in enumerate(stages):
            for _ in range(c.blocks):
                layers: list[nn.Module] = [ResBlock(now, times * c.channels)]
                now = times * c.channels
                if size in c.attention:
                    layers.append(AttentionBlock(now, c.heads_at(now), c.new_order))
                blocks.append(Modulated(*layers))
            if stage + 1 < len(stages):
                blocks.append(Modulated(ResBlock(now, down=True)))
                size //= 2
        self.input_blocks = nn.ModuleList(blocks)
        middle = AttentionBlock(now, c.heads_at(now), c.new_order)
        self.middle_block = Modulated(ResBlock(now), middle, ResBlock(now))
        head = nn.Conv2d(now, c.code or 0, 1)
        self.out = nn.Sequential(groups(now), nn.SiLU(), nn.AdaptiveAvgPool2d(1), head, nn.Flatten())

    def features(self, picture: Float[Tensor, "batch 3 height width"]) -> Float[Tensor, "batch chan rows columns"]:
        """The map before the mean."""
        h = picture
        for block in self.input_blocks:
            h = block(h)
        return self.middle_block(h)

    def forward(self, picture: Float[Tensor, "batch 3 height width"]) -> Float[Tensor, "batch code_size"]:
        return self.out(self.features(picture))


class DiffAE(UNet):
    """The autoencoder; without a code, the unconditional UNet."""

    def __init__(self, config: DiffAEConfig | None = None):
        self.sizes = config or DiffAEConfig()
        super().__init__(self.sizes.unet)
        if self.sizes.stages is not None:
            self.encoder = SemanticEncoder(self.sizes.unet, self.sizes.stages)
        if self.sizes.latent_net is not None:
            self.latent_net = LatentNet(self.sizes.latent_net)

    def encode(self, picture: Float[Tensor, "batch 3 height width"]) -> Float[Tensor, "batch code_size"]:
        """Semantic codes of pictures, -1..1."""
        return self.encoder(picture)

    def forward(
        self,
        x: Float[Tensor, "batch 3 height width"],
        t: Shaped[Tensor, "batch"],
        code: Float[Tensor, "batch code_size"] | None = None,
        picture: Float[Tensor, "batch 3 rows columns"] | None = None,
    ) -> Float[Tensor, "batch outputs height width"]:
        """The noise in x.

        Args:
            x: noisy pictures.
            t: times, 0..999.
            code: semantic codes; or
            picture: the clean ones, to be encoded first.
        """
        if code is None and picture is not None:
            code = self.encode(picture)
        return super().forward(x, t, code)

    def style_space(self, code: Float[Tensor, "batch code_size"]) -> Float[Tensor, "batch channels"]:
        """What the code does to every channel of every block, one after the other."""
        layers = [block.cond_emb_layers for block in self.residuals()]
        return torch.cat([layer(code) for layer in layers if layer is not None], 1)


def published_layout(size: int, channels: int = 128, conditional: bool = True) -> DiffAEConfig:
    """The layout of the published networks of 64, 128 and 256 pixels, with another width if need be.

    Raises:
        HeadlabError: another size.
    """
    known = {256: FFHQ256, 128: FFHQ128, 64: CELEBA64}
    if size not in known:
        raise HeadlabError(f"Diffusion Autoencoders have no layout of {size} pixels; choose 64, 128 or 256")
    layout = known[size]
    if not conditional:
        return DiffAEConfig(replace(layout.unet, channels=channels, code=None, nested_time=False), None)
    return DiffAEConfig(replace(layout.unet, channels=channels), layout.stages)


def with_latent_net(network: DiffAE, config: LatentNetConfig | None = None) -> DiffAE:
    """The same network with a fresh latent DPM, where it has none yet, in place.

    Raises:
        HeadlabError: it is the unconditional one.
    """
    size = network.config.code
    if size is None:
        raise HeadlabError("the unconditional DDPM has no codes for a latent DPM; give an autoencoder's checkpoint")
    if network.sizes.latent_net is None:
        config = config or LatentNetConfig(size=size)
        network.sizes = replace(network.sizes, latent_net=config)
        network.latent_net = LatentNet(config)
    return network
