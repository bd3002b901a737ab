"""What an autoencoder is trained with: L1, perceptual, patch-adversarial and Kullback-Leibler terms.

As in latent diffusion (Rombach et al. 2022, appendix G) and LDM3D (Stan et al. 2023). The perceptual features are
those of a network that is at hand: the first layers of the default regressor, which has learnt faces.
"""

from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import normalize, relu

Pictures = Float[Tensor, "batch chan height width"]


@dataclass(frozen=True)
class AutoencoderWeights:
    """Weights of the terms, all of which are means over elements."""

    perceptual: float = 0.2
    kl: float = 3e-4
    adversarial: float = 0.0
    adversarial_from: int = 0  #: step at which the adversary joins


class FaceFeatures(nn.Module):
    """Features of the default regressor's stem and first stages: network "default regressor". Frozen."""

    def __init__(self, stages: int = 2):
        super().__init__()
        from ..geometry.regress.default_regressor import load_default_regressor

        net: Any = load_default_regressor().net
        self.stem, self.stem_norm, self.fine = net.stem, net.stem_norm, net.fine
        self.stages = nn.ModuleList(net.stages[:stages])

    def train(self, mode: bool = True) -> "FaceFeatures":
        """Always in evaluation mode."""
        return super().train(False)

    def forward(self, pictures: Float[Tensor, "batch 3 height width"]) -> list[Tensor]:
        """Maps of colour pictures (-1..1), coarser and coarser."""
        maps = [self.fine(relu(self.stem_norm(self.stem(pictures))))]
        for stage in self.stages:
            maps.append(stage(maps[-1]))
        return maps


def perceptual(features: nn.Module, made: Pictures, true: Pictures) -> Float[Tensor, ""]:
    """Mean squared distance of unit feature vectors (LPIPS without learnt weights, Zhang et al. 2018), colour only."""
    with torch.no_grad():
        wanted = features(true[:, :3])
    pairs = zip(features(made[:, :3]), wanted, strict=True)
    terms = [(normalize(a, dim=1) - normalize(b, dim=1)).square().sum(1).mean() for a, b in pairs]
    return torch.stack(terms).mean()


def kl_divergence(
    mean: Float[Tensor, "batch latent rows columns"], log_variance: Float[Tensor, "batch latent rows columns"]
) -> Float[Tensor, ""]:
    """KL(N(mean, variance) || N(0, 1)) in nats, mean over latent numbers (Kingma and Welling 2014)."""
    return 0.5 * (mean.square() + log_variance.exp() - 1 - log_variance).mean()


class PatchDiscriminator(nn.Module):
    """True or made, patch by patch (Isola et al. 2017): 4 x 4 convolutions, the first ones with stride 2."""

    def __init__(self, channels: int, width: int = 32, layers: int = 2):
        super().__init__()
        stack: list[nn.Module] = [nn.Conv2d(channels, width, 4, 2, 1), nn.LeakyReLU(0.2)]
        for i in range(1, layers + 1):
            stride = 2 if i < layers else 1
            stack += [
                nn.Conv2d(width, 2 * width, 4, stride, 1, bias=False),
                nn.GroupNorm(8, 2 * width),
                nn.LeakyReLU(0.2),
            ]
            width *= 2
        self.stack = nn.Sequential(*stack, nn.Conv2d(width, 1, 4, 1, 1))

    def forward(self, pictures: Pictures) -> Float[Tensor, "batch 1 rows columns"]:
        return self.stack(pictures)


def hinge(true: Tensor, made: Tensor) -> Float[Tensor, ""]:
    """The discriminator's loss (Lim and Ye 2017): true above 1, made below -1."""
    return 0.5 * (relu(1 - true).mean() + relu(1 + made).mean())
