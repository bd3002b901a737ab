"""EmoNet (Toisoul et al. 2021): face crop -> expression class, valence and arousal; weights by the user.

The authors' key names, so that `emonet_8.pth` and `emonet_5.pth` load as they are: a face alignment network of two
hourglasses whose last heat map tells where to look, and convolutions over its features.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import interpolate, max_pool2d

from ...geometry.errors import HeadlabError

#: Side of its input, pixels: the face's box, RGB 0..1.
SIZE = 256
_STACKS, _LEVELS, _WIDTH, _POINTS = 2, 4, 256, 68


class _Block(nn.Module):
    """Three convolutions whose outputs are joined, around a shortcut."""

    def __init__(self, inputs: int, outputs: int):
        super().__init__()
        half, quarter = outputs // 2, outputs // 4
        self.bn1, self.conv1 = nn.BatchNorm2d(inputs), nn.Conv2d(inputs, half, 3, 1, 1, bias=False)
        self.bn2, self.conv2 = nn.BatchNorm2d(half), nn.Conv2d(half, quarter, 3, 1, 1, bias=False)
        self.bn3, self.conv3 = nn.BatchNorm2d(quarter), nn.Conv2d(quarter, quarter, 3, 1, 1, bias=False)
        self.downsample = None
        if inputs != outputs:
            self.downsample = nn.Sequential(
                nn.BatchNorm2d(inputs), nn.ReLU(), nn.Conv2d(inputs, outputs, 1, bias=False)
            )

    def forward(self, x: Tensor) -> Tensor:
        first = self.conv1(torch.relu(self.bn1(x)))
        second = self.conv2(torch.relu(self.bn2(first)))
        third = self.conv3(torch.relu(self.bn3(second)))
        return torch.cat([first, second, third], 1) + (x if self.downsample is None else self.downsample(x))


class _Hourglass(nn.Module):
    def __init__(self):
        super().__init__()
        for level in range(1, _LEVELS + 1):
            for name in ("b1", "b2", "b3"):
                self.add_module(f"{name}_{level}", _Block(_WIDTH, _WIDTH))
        self.b2_plus_1 = _Block(_WIDTH, _WIDTH)

    def forward(self, x: Tensor, level: int = _LEVELS) -> Tensor:
        upper = self.get_submodule(f"b1_{level}")(x)
        lower = self.get_submodule(f"b2_{level}")(max_pool2d(x, 2))
        lower = self.forward(lower, level - 1) if level > 1 else self.b2_plus_1(lower)
        lower = self.get_submodule(f"b3_{level}")(lower)
        return upper + interpolate(lower, scale_factor=2.0, mode="nearest")


@dataclass(frozen=True)
class Emotions:
    """What a network reads in faces."""

    scores: Float[Tensor, "batch classes"]  #: logits
    valence: Float[Tensor, "batch"]  #: -1..1
    arousal: Float[Tensor, "batch"]  #: -1..1


class EmoNet(nn.Module):
    """Crops of 256 pixels -> Emotions."""

    def __init__(self, expressions: int = 8):
        super().__init__()
        self.expressions = expressions
        self.conv1, self.bn1 = nn.Conv2d(3, 64, 7, 2, 3), nn.BatchNorm2d(64)
        self.conv2, self.conv3, self.conv4 = _Block(64, 128), _Block(128, 128), _Block(128, _WIDTH)
        for i in range(_STACKS):
            self.add_module(f"m{i}", _Hourglass())
            self.add_module(f"top_m_{i}", _Block(_WIDTH, _WIDTH))
            self.add_module(f"conv_last{i}", nn.Conv2d(_WIDTH, _WIDTH, 1))
            self.add_module(f"bn_end{i}", nn.BatchNorm2d(_WIDTH))
            self.add_module(f"l{i}", nn.Conv2d(_WIDTH, _POINTS, 1))
        self.bl0, self.al0 = nn.Conv2d(_WIDTH, _WIDTH, 1), nn.Conv2d(_POINTS, _WIDTH, 1)
        self.conv1x1_input_emo_2 = nn.Conv2d(_WIDTH * (_STACKS + 1), _WIDTH, 1)
        layers = [layer for _ in range(4) for layer in (_Block(_WIDTH, _WIDTH), nn.MaxPool2d(2))]
        self.emo_net_2 = nn.Sequential(*layers)
        self.emo_fc_2 = nn.Sequential(
            nn.Linear(_WIDTH, 128), nn.BatchNorm1d(128), nn.ReLU(), nn.Linear(128, expressions + 2)
        )

    def forward(self, crops: Float[Tensor, "batch 3 256 256"]) -> Emotions:
        x = torch.relu(self.bn1(self.conv1(crops)))
        x = self.conv4(self.conv3(max_pool2d(self.conv2(x), 2)))
        state, seen, heat = x, [], x
        for i in range(_STACKS):
            y = self.get_submodule(f"top_m_{i}")(self.get_submodule(f"m{i}")(state))
            y = torch.relu(self.get_submodule(f"bn_end{i}")(self.get_submodule(f"conv_last{i}")(y)))
            heat = self.get_submodule(f"l{i}")(y)
            if i < _STACKS - 1:
                y = self.bl0(y)  # what is handed on is also what is looked at
                state = state + y + self.al0(heat)
            seen.append(y)
        looked_at = torch.cat(seen, 1) * heat.sum(1, keepdim=True)
        features = self.emo_net_2(self.conv1x1_input_emo_2(torch.cat([x, looked_at], 1))).mean((2, 3))
        out = self.emo_fc_2(features)
        return Emotions(out[:, :-2], out[:, -2].clamp(-1, 1), out[:, -1].clamp(-1, 1))


def emonet_from(state: dict[str, Tensor]) -> EmoNet:
    """Build it from the state of `emonet_8.pth` or `emonet_5.pth`; a leading `module.` is dropped.

    Raises:
        HeadlabError: not EmoNet, or keys are missing; all are named.
    """
    state = {name.removeprefix("module."): value for name, value in state.items()}
    last = state.get("emo_fc_2.3.weight")
    if last is None or last.shape[0] not in (7, 10):
        raise HeadlabError("this is not EmoNet of 5 or 8 classes (emo_fc_2.3.weight with 7 or 10 rows is missing)")
    net = EmoNet(last.shape[0] - 2)
    missing = [n for n in net.state_dict() if n not in state and not n.endswith("num_batches_tracked")]
    if missing:
        raise HeadlabError(f"EmoNet's weights lack {', '.join(missing)}; get the file again")
    net.load_state_dict({n: state.get(n, v) for n, v in net.state_dict().items()})
    return net.eval().requires_grad_(False)
