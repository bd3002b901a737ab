"""The default regressor's network: from an upright crop to numbers about a head, by way of points of the face.

A residual convolutional net finds 128 points as the means of heat maps (soft-argmax), exact to parts of a pixel;
everything is read from those places, from what the net sees there, and from the whole picture. Dense landmarks carry
identity (Wood et al., 3D face reconstruction with dense landmarks, ECCV 2022); a net that only pools loses it.
"""

from dataclasses import dataclass, fields
from itertools import pairwise

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import interpolate

#: Leading identity components that a crop of this size can tell anything about; the others stay 0.
SHAPES = 64
#: Points of the face that the net finds.
POINTS = 128
_WIDTHS = (32, 64, 112, 176, 192)
_MERGED = 64
_WHOLE = 256
_SEEN = 4
_HIDDEN = 512
_FEATURES = 384
#: Cells along a heat map's side.
_CELLS = 24
#: Places enter the layers after them in these parts of the crop's side.
_PLACE = 8.0


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
    """Two 3 x 3 convolutions, the second around a shortcut; halves the picture where not said otherwise."""

    def __init__(self, inputs: int, outputs: int, stride: int = 2):
        super().__init__()
        self.down = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
        self.norm = nn.BatchNorm2d(outputs)
        self.first = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False)
        self.first_norm = nn.BatchNorm2d(outputs)

    def forward(self, x: Float[Tensor, "batch inputs rows columns"]) -> Float[Tensor, "batch outputs low narrow"]:
        x = torch.relu(self.norm(self.down(x)))
        return torch.relu(x + self.first_norm(self.first(x)))


class Refined(nn.Module):
    """Two 3 x 3 convolutions around a shortcut, of one size."""

    def __init__(self, width: int):
        super().__init__()
        self.first = nn.Conv2d(width, width, 3, 1, 1, bias=False)
        self.first_norm = nn.BatchNorm2d(width)
        self.second = nn.Conv2d(width, width, 3, 1, 1, bias=False)
        self.second_norm = nn.BatchNorm2d(width)

    def forward(self, x: Float[Tensor, "batch width rows columns"]) -> Float[Tensor, "batch width rows columns"]:
        inner = torch.relu(self.first_norm(self.first(x)))
        return torch.relu(x + self.second_norm(self.second(inner)))


class DefaultNet(nn.Module):
    """Crop -> HeadNumbers. Differentiable to pixels; in eval mode every picture is read for itself."""

    light_mean: Tensor
    light_std: Tensor
    cells: Tensor

    def __init__(self, expressions: int, albedos: int, shapes: int = SHAPES):
        """Args:
        expressions: number of the head model's actions.
        albedos: number of the albedo model's components.
        shapes: number of identity components to read.
        """
        super().__init__()
        self.stem = nn.Conv2d(3, _WIDTHS[0], 5, 2, 2, bias=False)
        self.stem_norm = nn.BatchNorm2d(_WIDTHS[0])
        self.fine = Refined(_WIDTHS[0])  # 48 cells a side
        self.stages = nn.ModuleList(  # 24, 12, 6
            nn.Sequential(Residual(a, b), Refined(b)) for a, b in pairwise(_WIDTHS[:-1])
        )
        self.last = Residual(_WIDTHS[-2], _WIDTHS[-1])  # 3
        self.sides = nn.ModuleList(nn.Conv2d(width, _MERGED, 1) for width in _WIDTHS[1:-1])
        self.merges = nn.ModuleList(Residual(_MERGED, _MERGED, 1) for _ in range(2))
        self.heat = nn.Conv2d(_MERGED, POINTS, 1)
        self.seen = nn.Linear(_MERGED, _SEEN)
        self.whole = nn.Linear(9 * _WIDTHS[-1], _WHOLE)
        self.whole_norm = nn.BatchNorm1d(_WHOLE)
        known = POINTS * (2 + _SEEN) + _WHOLE
        self.known_norm = nn.BatchNorm1d(known)
        self.hidden = nn.Linear(known, _HIDDEN)
        self.hidden_norm = nn.BatchNorm1d(_HIDDEN)
        self.deeper = nn.Linear(_HIDDEN, _HIDDEN)
        self.deeper_norm = nn.BatchNorm1d(_HIDDEN)
        self.feature = nn.Linear(_HIDDEN, _FEATURES)
        self.feature_norm = nn.BatchNorm1d(_FEATURES)
        self.sizes = (shapes, expressions, 4, 6, 1, 2, 1, 27, albedos)
        self.out = nn.Linear(_FEATURES, sum(self.sizes))
        self.register_buffer("light_mean", torch.zeros(9, 3))
        self.register_buffer("light_std", torch.ones(9, 3))
        middle = (torch.arange(_CELLS) + 0.5) / _CELLS
        self.register_buffer("cells", torch.cartesian_prod(middle, middle).flip(-1), persistent=False)
        with torch.no_grad():
            self.heat.weight.mul_(3.0)
            self.out.weight.mul_(0.3)
            self.out.bias.zero_()
            start = shapes + expressions
            self.out.bias[shapes:start] = -2.0
            self.out.bias[start + 4 : start + 10] = torch.tensor([1.0, 0, 0, 0, 1, 0])

    @staticmethod
    def fixed_outputs(expressions: int, shapes: int = SHAPES) -> int:
        """Number of outputs besides the albedo's."""
        return shapes + expressions + 41

    def features_and_points(
        self, crops: Float[Tensor, "batch 3 96 96"]
    ) -> tuple[Float[Tensor, "batch features"], Float[Tensor, "batch points 2"]]:
        """What all numbers are linear in (before their ranges are put on), and where the points are.

        Points are in parts of the crop's side, x right, y down.
        """
        x = self.fine(torch.relu(self.stem_norm(self.stem(crops * 2 - 1))))
        scales = []
        for stage in self.stages:
            x = stage(x)
            scales.append(x)
        whole = torch.relu(self.whole_norm(self.whole(self.last(x).flatten(1))))
        merged = self.sides[-1](scales[-1])
        for side, merge, scale in zip(reversed(self.sides[:-1]), self.merges, reversed(scales[:-1]), strict=True):
            merged = merge(interpolate(merged, scale_factor=2, mode="bilinear") + side(scale))
        places = torch.softmax(self.heat(merged).flatten(2).float(), -1)
        points = places @ self.cells
        seen = places @ self.seen(merged.flatten(2).mT).float()
        known = torch.cat([_PLACE * points.flatten(1), seen.flatten(1), whole.float()], 1)
        x = torch.relu(self.hidden_norm(self.hidden(self.known_norm(known))))
        x = x + torch.relu(self.deeper_norm(self.deeper(x)))
        return torch.relu(self.feature_norm(self.feature(x))), points

    def features(self, crops: Float[Tensor, "batch 3 96 96"]) -> Float[Tensor, "batch features"]:
        """What all numbers are linear in (before their ranges are put on)."""
        return self.features_and_points(crops)[0]

    def forward(self, crops: Float[Tensor, "batch 3 96 96"]) -> HeadNumbers:
        """Read crops (sRGB, 0..1) cut by `UprightSquare`."""
        return self.numbers(self.features(crops))

    def numbers(self, features: Float[Tensor, "batch features"]) -> HeadNumbers:
        """The linear part and the ranges."""
        out = self.out(features).float()
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
