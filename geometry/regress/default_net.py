"""The default regressor's network: a small residual convolutional net from an upright crop to numbers about a head."""

from dataclasses import dataclass, fields
from itertools import pairwise

import torch
from jaxtyping import Float
from torch import Tensor, nn

#: Leading identity components that a crop of this size can tell anything about; the others stay 0.
SHAPES = 64
_WIDTHS = (48, 96, 160, 256)
_FEATURES = 384


@dataclass(frozen=True)
class HeadNumbers:
    """What the network says. Lengths in parts of the crop's side where not said otherwise."""

    shape: Float[Tensor, "*batch shape"]  #: leading β
    expression: Float[Tensor, "*batch expr"]  #: ψ, 0..1
    eyes: Float[Tensor, "*batch 2 2"]  #: left, right: down and to the subject's left, radians
    rotation: Float[Tensor, "*batch 3 3"]  #: of a head on the camera's axis
    log_scale: Float[Tensor, "*batch"]  #: of crop sides per metre at the face
    offset: Float[Tensor, "*batch 2"]  #: of the face's middle from the crop's, x right, y down
    log_distance: Float[Tensor, "*batch"]  #: of metres to the camera
    light: Float[Tensor, "*batch 9 3"]
    albedo: Float[Tensor, "*batch comps"]

    def map(self, function) -> "HeadNumbers":
        """Apply a function to every tensor."""
        return HeadNumbers(**{f.name: function(getattr(self, f.name)) for f in fields(self)})

    def __getitem__(self, index) -> "HeadNumbers":
        return self.map(lambda value: value[index])


class Residual(nn.Module):
    """Two 3 x 3 convolutions around a shortcut; halves the picture."""

    def __init__(self, inputs: int, outputs: int):
        super().__init__()
        self.down = nn.Conv2d(inputs, outputs, 3, 2, 1, bias=False)
        self.norm = nn.BatchNorm2d(outputs)
        self.first = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False)
        self.first_norm = nn.BatchNorm2d(outputs)

    def forward(self, x: Float[Tensor, "batch inputs rows columns"]) -> Float[Tensor, "batch outputs low narrow"]:
        x = torch.relu(self.norm(self.down(x)))
        return torch.relu(x + self.first_norm(self.first(x)))


class DefaultNet(nn.Module):
    """Crop -> HeadNumbers. Differentiable to pixels; in eval mode every picture is read for itself."""

    light_mean: Tensor
    light_std: Tensor

    def __init__(self, expressions: int, albedos: int, shapes: int = SHAPES):
        """Args:
        expressions: number of the head model's actions.
        albedos: number of the albedo model's components.
        shapes: number of identity components to read.
        """
        super().__init__()
        self.stem = nn.Conv2d(3, 24, 5, 2, 2, bias=False)
        self.stem_norm = nn.BatchNorm2d(24)
        widths = (24, *_WIDTHS)
        self.blocks = nn.Sequential(*(Residual(a, b) for a, b in pairwise(widths)))
        self.feature = nn.Linear(9 * _WIDTHS[-1], _FEATURES)
        self.feature_norm = nn.BatchNorm1d(_FEATURES)
        self.sizes = (shapes, expressions, 4, 6, 1, 2, 1, 27, albedos)
        self.out = nn.Linear(_FEATURES, sum(self.sizes))
        self.register_buffer("light_mean", torch.zeros(9, 3))
        self.register_buffer("light_std", torch.ones(9, 3))
        with torch.no_grad():
            self.out.weight.mul_(0.3)
            self.out.bias.zero_()
            start = shapes + expressions
            self.out.bias[shapes:start] = -2.0
            self.out.bias[start + 4 : start + 10] = torch.tensor([1.0, 0, 0, 0, 1, 0])

    @staticmethod
    def fixed_outputs(expressions: int, shapes: int = SHAPES) -> int:
        """Number of outputs besides the albedo's."""
        return shapes + expressions + 41

    def features(self, crops: Float[Tensor, "batch 3 96 96"]) -> Float[Tensor, "batch features"]:
        """What all numbers are linear in (before their ranges are put on)."""
        x = torch.relu(self.stem_norm(self.stem(crops * 2 - 1)))
        x = self.blocks(x)
        return torch.relu(self.feature_norm(self.feature(x.flatten(1))))

    def forward(self, crops: Float[Tensor, "batch 3 96 96"]) -> HeadNumbers:
        """Read crops (sRGB, 0..1) cut by `UprightSquare`."""
        out = self.out(self.features(crops)).float()
        shape, psi, eyes, turn, scale, offset, distance, light, albedo = out.split(self.sizes, -1)
        return HeadNumbers(
            shape,
            torch.sigmoid(psi),
            0.3 * eyes.unflatten(-1, (2, 2)),
            orthonormal(turn.unflatten(-1, (2, 3))),
            0.3 * scale[..., 0] + 1.4,
            0.1 * offset,
            distance[..., 0],
            light.unflatten(-1, (9, 3)) * self.light_std + self.light_mean,
            albedo,
        )


def orthonormal(rows: Float[Tensor, "*batch 2 3"]) -> Float[Tensor, "*batch 3 3"]:
    """Rotation whose first two columns come from two vectors by Gram-Schmidt (Zhou et al. 2019)."""
    a = torch.nn.functional.normalize(rows[..., 0, :], dim=-1)
    b = rows[..., 1, :] - (a * rows[..., 1, :]).sum(-1, keepdim=True) * a
    b = torch.nn.functional.normalize(b, dim=-1)
    return torch.stack([a, b, torch.linalg.cross(a, b)], -1)
