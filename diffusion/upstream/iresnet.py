"""ArcFace's residual network (Deng et al. 2019; Duta et al., "Improved residual networks", 2020), differentiable.

ID-Booth's losses and its precomputed embeddings are this network's. Parameter names are insightface's (backbone.pth of
ms1mv3_arcface_r50 or _r100); input: faces of 112 pixels, -1..1.
"""

from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import normalize

from ...geometry.errors import HeadlabError
from ...geometry.safe_pickle import load_torch
from .loading import assemble

#: Blocks of each stage.
DEPTHS = {18: (2, 2, 2, 2), 34: (3, 4, 6, 3), 50: (3, 4, 14, 3), 100: (3, 13, 30, 3)}


class IBlock(nn.Module):
    """Norm, convolution, norm, PReLU, convolution, norm, beside a shortcut."""

    def __init__(self, inputs: int, outputs: int, stride: int):
        super().__init__()
        self.bn1 = nn.BatchNorm2d(inputs)
        self.conv1 = nn.Conv2d(inputs, outputs, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(outputs)
        self.prelu = nn.PReLU(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, stride, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(outputs)
        self.downsample = None
        if stride != 1 or inputs != outputs:
            self.downsample = nn.Sequential(nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs))

    def forward(self, x: Float[Tensor, "batch chan height width"]) -> Float[Tensor, "batch out_chan rows columns"]:
        shortcut = x if self.downsample is None else self.downsample(x)
        x = self.prelu(self.bn2(self.conv1(self.bn1(x))))
        return self.bn3(self.conv2(x)) + shortcut


class IResNet(nn.Module):
    """Faces -> embeddings of 512 numbers, not of unit length."""

    def __init__(self, depth: int = 50):
        super().__init__()
        self.conv1 = nn.Conv2d(3, 64, 3, 1, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(64)
        self.prelu = nn.PReLU(64)
        inputs = 64
        for stage, (blocks, outputs) in enumerate(zip(DEPTHS[depth], (64, 128, 256, 512), strict=True)):
            layers = [IBlock(inputs if i == 0 else outputs, outputs, 2 if i == 0 else 1) for i in range(blocks)]
            self.add_module(f"layer{stage + 1}", nn.Sequential(*layers))
            inputs = outputs
        self.bn2 = nn.BatchNorm2d(512)
        self.dropout = nn.Dropout(0.0)
        self.fc = nn.Linear(512 * 7 * 7, 512)
        self.features = nn.BatchNorm1d(512)

    def forward(self, faces: Float[Tensor, "batch 3 112 112"]) -> Float[Tensor, "batch 512"]:
        x = self.prelu(self.bn1(self.conv1(faces)))
        for stage in range(4):
            x = self.get_submodule(f"layer{stage + 1}")(x)
        return self.features(self.fc(self.dropout(self.bn2(x)).flatten(1)))


class ArcFaceEmbedder:
    """See `diffusion.identity.Embedder`."""

    size = 112

    def __init__(self, network: IResNet):
        self.network = network.eval().requires_grad_(False)

    def vectors(self, pictures: Float[Tensor, "batch 3 height width"]) -> Float[Tensor, "batch dims"]:
        """Unit vectors of upright face crops, sRGB 0..1. Differentiable."""
        from ..identity import resized

        self.network.to(pictures.device)
        return normalize(self.network(resized(pictures, self.size) * 2 - 1), dim=-1)


def load_arcface(path: Path) -> ArcFaceEmbedder:
    """Read backbone.pth.

    Raises:
        UnsafePickleError: it would run something.
        HeadlabError: missing, damaged, another network, or not whole.
    """
    state = load_torch(Path(path))
    if not isinstance(state, dict) or "layer1.0.bn1.weight" not in state or "features.weight" not in state:
        raise HeadlabError(f"{path} is no ArcFace backbone (insightface's backbone.pth of an r18, r34, r50 or r100)")
    blocks = tuple(
        1 + max((int(name.split(".")[1]) for name in state if name.startswith(f"layer{stage}.")), default=-1)
        for stage in range(1, 5)
    )
    depth = next((depth for depth, known in DEPTHS.items() if known == blocks), None)
    if depth is None:
        raise HeadlabError(f"{path} has {blocks} blocks, which no ArcFace backbone has; give an r18, r34, r50 or r100")
    state = {name: value for name, value in state.items() if isinstance(value, torch.Tensor)}
    return ArcFaceEmbedder(assemble(lambda: IResNet(depth), state, str(path), f"ArcFace's r{depth}"))
