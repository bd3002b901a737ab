"""ResNet with bottleneck blocks and no classifier (He et al., "Deep residual learning for image recognition", 2016).

Parameter names are those of torchvision's resnet50, so that weights trained with it load; the stride of a block sits
on its 3x3 convolution, as there.
"""

from collections import OrderedDict
from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor, nn


@dataclass(frozen=True)
class ResNetConfig:
    """Sizes of a residual network; the defaults are ResNet-50."""

    blocks: tuple[int, ...] = (3, 4, 6, 3)  #: bottleneck blocks of each stage
    width: int = 64  #: channels of the stem and of the first stage's 3x3 convolutions; doubled in each stage

    @property
    def features(self) -> int:
        """Length of the feature vector: 2048 for ResNet-50."""
        return self.width * 2 ** (len(self.blocks) - 1) * Bottleneck.expansion


class Bottleneck(nn.Module):
    """1x1, 3x3, 1x1 convolutions beside a shortcut."""

    expansion = 4

    def __init__(self, inputs: int, planes: int, stride: int = 1) -> None:
        super().__init__()
        outputs = planes * self.expansion
        self.conv1 = nn.Conv2d(inputs, planes, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(planes)
        self.conv2 = nn.Conv2d(planes, planes, 3, stride, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(planes)
        self.conv3 = nn.Conv2d(planes, outputs, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(outputs)
        self.relu = nn.ReLU(inplace=True)
        self.downsample = None
        if stride != 1 or inputs != outputs:
            self.downsample = nn.Sequential(nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs))

    def forward(self, x: Float[Tensor, "batch chan height width"]) -> Float[Tensor, "batch out_chan rows columns"]:
        shortcut = x if self.downsample is None else self.downsample(x)
        x = self.relu(self.bn1(self.conv1(x)))
        x = self.relu(self.bn2(self.conv2(x)))
        return self.relu(self.bn3(self.conv3(x)) + shortcut)


class ResNet(nn.Module):
    """Image -> feature vector."""

    def __init__(self, config: ResNetConfig | None = None) -> None:
        super().__init__()
        config = config or ResNetConfig()
        self.conv1 = nn.Conv2d(3, config.width, 7, 2, 3, bias=False)
        self.bn1 = nn.BatchNorm2d(config.width)
        self.relu = nn.ReLU(inplace=True)
        self.maxpool = nn.MaxPool2d(3, 2, 1)
        inputs, stages = config.width, OrderedDict()
        for stage, count in enumerate(config.blocks):
            planes = config.width * 2**stage
            blocks = []
            for block in range(count):
                blocks.append(Bottleneck(inputs, planes, 2 if stage and not block else 1))
                inputs = planes * Bottleneck.expansion
            stages[f"layer{stage + 1}"] = nn.Sequential(*blocks)
        for name, stage in stages.items():
            self.add_module(name, stage)
        self._stages = tuple(stages)

    def forward(self, image: Float[Tensor, "batch 3 height width"]) -> Float[Tensor, "batch features"]:
        """Mean over the last stage's map. The image is used as it is: no mean or deviation is taken out."""
        x = self.maxpool(self.relu(self.bn1(self.conv1(image))))
        for name in self._stages:
            x = self.get_submodule(name)(x)
        return x.mean((-2, -1))
