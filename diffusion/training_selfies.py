"""RGB-D selfies as a denoiser's training data: the avatar mode, one capture of a person shown, another one wanted."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from jaxtyping import Float16, Int
from torch import Tensor

from ..datasets.rgbd_selfie_crops import SelfieCrops
from ..geometry.errors import HeadlabError
from .autoencoder import encode
from .bundle import LatentDiffusion
from .denoiser import Given
from .edit import joined
from .training_latents import DenoiserBatch

if TYPE_CHECKING:
    from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL


@dataclass(frozen=True)
class SelfieLatents:
    """Samples are pairs of captures of one person: the latent of the first is shown, that of the second is wanted."""

    crops: SelfieCrops
    latents: Float16[Tensor, "n latent rows columns"]
    pairs: Int[Tensor, "pairs 2"]

    @classmethod
    def of(cls, system: LatentDiffusion, crops: SelfieCrops) -> "SelfieLatents":
        """Encode captures.

        Raises:
            HeadlabError: the crops are not of the model's size or expressions, or the model knows colour alone.
        """
        sizes = system.config.denoiser
        if crops.images.shape[-1] != sizes.size or crops.expression.shape[1] != sizes.expressions:
            raise HeadlabError(
                f"the crops have {crops.images.shape[-1]} pixels and {crops.expression.shape[1]} expressions, "
                f"the model takes {sizes.size} and {sizes.expressions}; make them anew"
            )
        if not system.depth:
            raise HeadlabError("this model knows colour alone; start from an RGB-D one to train on RGB-D selfies")
        return cls(crops, encode_crops(system.vae, crops), crops.pairs())

    @property
    def count(self) -> int:
        return len(self.pairs)

    def load(self, indices: Int[Tensor, "batch"], device: torch.device | str = "cpu") -> DenoiserBatch:
        shown, wanted = self.pairs[indices].unbind(1)
        crops = self.crops
        given = Given(
            crops.maps[wanted].float(),
            self.latents[shown].float(),
            crops.images[shown].float() / 255 * 2 - 1,
            crops.expression[wanted],
            crops.emotion[wanted],
            crops.valence_arousal[wanted],
        )
        colour = crops.images[wanted].float() / 255
        return DenoiserBatch(self.latents[wanted].float().to(device), given.to(device), colour.to(device))


@torch.no_grad()
def encode_crops(vae: "AutoencoderKL", crops: SelfieCrops, batch: int = 16) -> Float16[Tensor, "n latent rows columns"]:
    """Latents of all captures, colour and depth."""
    channels, device = vae.config["in_channels"], next(vae.parameters()).device
    out = []
    for rows in torch.arange(len(crops)).split(batch):
        pictures = [joined(crops.images[i].float() / 255, crops.near[i].float(), channels) for i in rows]
        out.append(encode(vae, torch.stack(pictures).to(device)).half().cpu())
    return torch.cat(out)
