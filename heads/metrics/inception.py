"""The Inception network of 2015 that defines FID and IS, under torchvision's key names; weights by the user.

Heusel et al. 2017 and Salimans et al. 2016 used TensorFlow's `inception-2015-12-05`. Its conversion
(`pt_inception-2015-12-05-6726825d.pth`) has torchvision's names but another structure: average pools leave out the
padding, and the last block pools by maximum.
"""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import avg_pool2d, interpolate, max_pool2d

from ...geometry.errors import HeadlabError

FEATURES, CLASSES = 2048, 1008


class _Conv(nn.Module):
    def __init__(self, inputs: int, outputs: int, size: int | tuple[int, int] = 1, stride: int = 1, pad: bool = True):
        super().__init__()
        shape = (size, size) if isinstance(size, int) else size
        around = (shape[0] // 2, shape[1] // 2) if pad else (0, 0)
        self.conv = nn.Conv2d(inputs, outputs, shape, stride, around, bias=False)
        self.bn = nn.BatchNorm2d(outputs, eps=0.001)

    def forward(self, x: Tensor) -> Tensor:
        return torch.relu(self.bn(self.conv(x)))


class _Mixed(nn.Module):
    """Branches side by side: lists of layers by name, run one after the other; a tuple of names forks at the end."""

    def __init__(self, layers: dict[str, _Conv], branches: Sequence[Sequence[str | tuple[str, str]]], pool: str):
        super().__init__()
        for name, layer in layers.items():
            self.add_module(name, layer)
        self.branches, self.pool = branches, pool

    def forward(self, x: Tensor) -> Tensor:
        out = []
        for branch in self.branches:
            y = x
            for name in branch:
                if isinstance(name, tuple):
                    y = torch.cat([self.get_submodule(part)(y) for part in name], 1)
                else:
                    y = self.get_submodule(name)(y)
            out.append(y)
        if self.pool == "halve":
            out.append(max_pool2d(x, 3, 2))
        else:
            around = max_pool2d(x, 3, 1, 1) if self.pool == "max" else avg_pool2d(x, 3, 1, 1, count_include_pad=False)
            out.append(self.get_submodule("branch_pool")(around))
        return torch.cat(out, 1)


def _narrow(inputs: int, pool: int) -> _Mixed:
    layers = {
        "branch1x1": _Conv(inputs, 64),
        "branch5x5_1": _Conv(inputs, 48),
        "branch5x5_2": _Conv(48, 64, 5),
        "branch3x3dbl_1": _Conv(inputs, 64),
        "branch3x3dbl_2": _Conv(64, 96, 3),
        "branch3x3dbl_3": _Conv(96, 96, 3),
        "branch_pool": _Conv(inputs, pool),
    }
    dbl = ["branch3x3dbl_1", "branch3x3dbl_2", "branch3x3dbl_3"]
    return _Mixed(layers, [["branch1x1"], ["branch5x5_1", "branch5x5_2"], dbl], "mean")


def _halving(inputs: int) -> _Mixed:
    layers = {
        "branch3x3": _Conv(inputs, 384, 3, 2, False),
        "branch3x3dbl_1": _Conv(inputs, 64),
        "branch3x3dbl_2": _Conv(64, 96, 3),
        "branch3x3dbl_3": _Conv(96, 96, 3, 2, False),
    }
    return _Mixed(layers, [["branch3x3"], ["branch3x3dbl_1", "branch3x3dbl_2", "branch3x3dbl_3"]], "halve")


def _crossed(inputs: int, inner: int) -> _Mixed:
    row, column = (1, 7), (7, 1)
    layers = {
        "branch1x1": _Conv(inputs, 192),
        "branch7x7_1": _Conv(inputs, inner),
        "branch7x7_2": _Conv(inner, inner, row),
        "branch7x7_3": _Conv(inner, 192, column),
        "branch7x7dbl_1": _Conv(inputs, inner),
        "branch7x7dbl_2": _Conv(inner, inner, column),
        "branch7x7dbl_3": _Conv(inner, inner, row),
        "branch7x7dbl_4": _Conv(inner, inner, column),
        "branch7x7dbl_5": _Conv(inner, 192, row),
        "branch_pool": _Conv(inputs, 192),
    }
    single = [f"branch7x7_{i}" for i in (1, 2, 3)]
    double = [f"branch7x7dbl_{i}" for i in (1, 2, 3, 4, 5)]
    return _Mixed(layers, [["branch1x1"], single, double], "mean")


def _second_halving(inputs: int) -> _Mixed:
    layers = {
        "branch3x3_1": _Conv(inputs, 192),
        "branch3x3_2": _Conv(192, 320, 3, 2, False),
        "branch7x7x3_1": _Conv(inputs, 192),
        "branch7x7x3_2": _Conv(192, 192, (1, 7)),
        "branch7x7x3_3": _Conv(192, 192, (7, 1)),
        "branch7x7x3_4": _Conv(192, 192, 3, 2, False),
    }
    long = [f"branch7x7x3_{i}" for i in (1, 2, 3, 4)]
    return _Mixed(layers, [["branch3x3_1", "branch3x3_2"], long], "halve")


def _wide(inputs: int, pool: str) -> _Mixed:
    row, column = (1, 3), (3, 1)
    layers = {
        "branch1x1": _Conv(inputs, 320),
        "branch3x3_1": _Conv(inputs, 384),
        "branch3x3_2a": _Conv(384, 384, row),
        "branch3x3_2b": _Conv(384, 384, column),
        "branch3x3dbl_1": _Conv(inputs, 448),
        "branch3x3dbl_2": _Conv(448, 384, 3),
        "branch3x3dbl_3a": _Conv(384, 384, row),
        "branch3x3dbl_3b": _Conv(384, 384, column),
        "branch_pool": _Conv(inputs, 192),
    }
    single = ["branch3x3_1", ("branch3x3_2a", "branch3x3_2b")]
    double = ["branch3x3dbl_1", "branch3x3dbl_2", ("branch3x3dbl_3a", "branch3x3dbl_3b")]
    return _Mixed(layers, [["branch1x1"], single, double], pool)


class Inception(nn.Module):
    """Pictures in 0..1 of any size -> 2048 features and class logits without bias (as IS uses them)."""

    def __init__(self):
        super().__init__()
        self.Conv2d_1a_3x3 = _Conv(3, 32, 3, 2, False)
        self.Conv2d_2a_3x3 = _Conv(32, 32, 3, 1, False)
        self.Conv2d_2b_3x3 = _Conv(32, 64, 3)
        self.Conv2d_3b_1x1 = _Conv(64, 80)
        self.Conv2d_4a_3x3 = _Conv(80, 192, 3, 1, False)
        self.Mixed_5b, self.Mixed_5c, self.Mixed_5d = _narrow(192, 32), _narrow(256, 64), _narrow(288, 64)
        self.Mixed_6a = _halving(288)
        self.Mixed_6b, self.Mixed_6c = _crossed(768, 128), _crossed(768, 160)
        self.Mixed_6d, self.Mixed_6e = _crossed(768, 160), _crossed(768, 192)
        self.Mixed_7a = _second_halving(768)
        self.Mixed_7b, self.Mixed_7c = _wide(1280, "mean"), _wide(2048, "max")
        self.fc = nn.Linear(FEATURES, CLASSES)

    def forward(
        self, pictures: Float[Tensor, "batch 3 height width"]
    ) -> tuple[Float[Tensor, "batch 2048"], Float[Tensor, "batch 1008"]]:
        x = 2 * interpolate(pictures, size=(299, 299), mode="bilinear", align_corners=False) - 1
        x = self.Conv2d_2b_3x3(self.Conv2d_2a_3x3(self.Conv2d_1a_3x3(x)))
        x = self.Conv2d_4a_3x3(self.Conv2d_3b_1x1(max_pool2d(x, 3, 2)))
        x = max_pool2d(x, 3, 2)
        for name in ("5b", "5c", "5d", "6a", "6b", "6c", "6d", "6e", "7a", "7b", "7c"):
            x = self.get_submodule(f"Mixed_{name}")(x)
        features = x.mean((2, 3))
        return features, features @ self.fc.weight.mT


def inception_from(state: dict[str, Tensor]) -> Inception:
    """Build it from `pt_inception-2015-12-05-6726825d.pth`.

    Raises:
        HeadlabError: keys are missing or of another shape, as in torchvision's own ImageNet weights.
    """
    net = Inception()
    own = net.state_dict()
    state = {name: value for name, value in state.items() if not name.startswith("AuxLogits.")}
    wrong = [
        n for n in own if not n.endswith("num_batches_tracked") and (n not in state or state[n].shape != own[n].shape)
    ]
    if wrong:
        raise HeadlabError(
            f"this is not Inception of 2015: {', '.join(wrong[:4])}{' ...' if len(wrong) > 4 else ''} are missing or "
            "of another shape; take pt_inception-2015-12-05-6726825d.pth, torchvision's own weights give no FID"
        )
    net.load_state_dict(own | {n: state[n] for n in own if n in state})
    return net.eval().requires_grad_(False)
