"""Encoders of a picture into one global code z: ResNet-18 or -50 (DiffusionRig), or DiffAE's semantic encoder.

All take pictures -1..1 (DiffusionRig's way: no ImageNet mean is taken out) and start at random.
"""

from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import avg_pool2d, silu

from ..geometry.errors import HeadlabError
from ..geometry.regress.resnet import ResNet, ResNetConfig


@dataclass(frozen=True)
class SemanticConfig:
    """Which encoder, and how large."""

    kind: Literal["resnet18", "resnet50", "diffae"] = "resnet18"
    width: int = 64  #: channels of the first stage; 64 is the published ResNets' and DiffAE's is 128
    size: int = 64  #: length of z: 64 in DiffusionRig, 512 in DiffAE
    stages: tuple[int, ...] = (1, 1, 2, 3, 4, 4)  #: DiffAE only: channel factors, each after the first at half size
    attention: tuple[int, ...] = (4,)  #: DiffAE only: the stages, counted from 0, with self-attention


def build_semantic_encoder(config: SemanticConfig) -> nn.Module:
    """Pictures (batch, 3, height, width), -1..1 -> z (batch, size).

    Raises:
        HeadlabError: an unknown kind.
    """
    if config.kind == "resnet18":
        return nn.Sequential(BasicResNet(config.width), nn.Linear(8 * config.width, config.size))
    if config.kind == "resnet50":
        resnet = ResNet(ResNetConfig(width=config.width))
        return nn.Sequential(resnet, nn.Linear(resnet_features(config.width), config.size))
    if config.kind == "diffae":
        return DiffAEEncoder(config)
    raise HeadlabError(f"there is no semantic encoder {config.kind!r}; choose resnet18, resnet50 or diffae")


def resnet_features(width: int) -> int:
    """Length of ResNet-50's feature vector."""
    return ResNetConfig(width=width).features


class BasicBlock(nn.Module):
    """Two 3 x 3 convolutions beside a shortcut; parameter names are torchvision's."""

    def __init__(self, inputs: int, outputs: int, stride: int):
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(outputs)
        self.downsample = None
        if stride != 1 or inputs != outputs:
            self.downsample = nn.Sequential(nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs))

    def forward(self, x: Float[Tensor, "batch chan height width"]) -> Float[Tensor, "batch out_chan rows columns"]:
        shortcut = x if self.downsample is None else self.downsample(x)
        x = torch.relu(self.bn1(self.conv1(x)))
        return torch.relu(self.bn2(self.conv2(x)) + shortcut)


class BasicResNet(nn.Module):
    """ResNet-18 without its classifier (He et al. 2016); parameter names are torchvision's resnet18."""

    def __init__(self, width: int = 64):
        super().__init__()
        self.conv1 = nn.Conv2d(3, width, 7, 2, 3, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.maxpool = nn.MaxPool2d(3, 2, 1)
        inputs = width
        for stage in range(4):
            outputs = width * 2**stage
            blocks = [BasicBlock(inputs, outputs, 2 if stage else 1), BasicBlock(outputs, outputs, 1)]
            self.add_module(f"layer{stage + 1}", nn.Sequential(*blocks))
            inputs = outputs

    def forward(self, picture: Float[Tensor, "batch 3 height width"]) -> Float[Tensor, "batch features"]:
        """Mean over the last stage's map."""
        x = self.maxpool(torch.relu(self.bn1(self.conv1(picture))))
        for stage in range(4):
            x = self.get_submodule(f"layer{stage + 1}")(x)
        return x.mean((-2, -1))


class HalfBlock(nn.Module):
    """DiffAE's encoder block: norm, SiLU, convolution and a shortcut; halves the picture where `down`."""

    def __init__(self, inputs: int, outputs: int, down: bool = False):
        super().__init__()
        self.norm = nn.GroupNorm(min(32, inputs), inputs)
        self.conv = nn.Conv2d(inputs, outputs, 3, 1, 1)
        self.skip = nn.Identity() if inputs == outputs else nn.Conv2d(inputs, outputs, 1)
        self.down = down

    def forward(self, x: Float[Tensor, "batch chan height width"]) -> Float[Tensor, "batch out_chan rows columns"]:
        h = silu(self.norm(x))
        if self.down:
            h, x = avg_pool2d(h, 2), avg_pool2d(x, 2)
        return self.skip(x) + self.conv(h)


class SelfAttention(nn.Module):
    """One head over all pixels, with a shortcut."""

    def __init__(self, channels: int):
        super().__init__()
        self.norm = nn.GroupNorm(min(32, channels), channels)
        self.qkv = nn.Conv1d(channels, 3 * channels, 1)
        self.out = nn.Conv1d(channels, channels, 1)
        for parameter in self.out.parameters():
            nn.init.zeros_(parameter)

    def forward(self, x: Float[Tensor, "batch chan height width"]) -> Float[Tensor, "batch chan height width"]:
        q, k, v = self.qkv(self.norm(x).flatten(2)).mT.chunk(3, -1)
        mixed = nn.functional.scaled_dot_product_attention(q, k, v)
        return x + self.out(mixed.mT).unflatten(2, x.shape[2:])


class DiffAEEncoder(nn.Module):
    """The semantic encoder of Diffusion Autoencoders (Preechakul et al. 2022): half of a UNet, then a mean.

    The published network's layout (two blocks per stage, blocks without a second half, group norm, SiLU, global mean
    and a 1 x 1 convolution at the end), with names of its own.
    """

    def __init__(self, config: SemanticConfig, blocks: int = 2):
        super().__init__()
        layers: list[nn.Module] = [nn.Conv2d(3, config.width, 3, 1, 1)]
        inputs = config.width
        for stage, times in enumerate(config.stages):
            if stage:
                layers.append(HalfBlock(inputs, inputs, down=True))
            for _ in range(blocks):
                layers.append(HalfBlock(inputs, config.width * times))
                inputs = config.width * times
                if stage in config.attention:
                    layers.append(SelfAttention(inputs))
        layers += [HalfBlock(inputs, inputs), SelfAttention(inputs), HalfBlock(inputs, inputs)]
        self.layers = nn.Sequential(*layers, nn.GroupNorm(min(32, inputs), inputs), nn.SiLU())
        self.head = nn.Conv2d(inputs, config.size, 1)

    def forward(self, picture: Float[Tensor, "batch 3 height width"]) -> Float[Tensor, "batch size"]:
        return self.head(self.layers(picture).mean((-2, -1), keepdim=True)).flatten(1)
