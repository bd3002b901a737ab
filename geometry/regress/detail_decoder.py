"""DetailDecoder: jaw pose, expression and detail code -> displacement map (DECA's D_detail)."""

from collections.abc import Sequence
from itertools import pairwise

from jaxtyping import Float
from torch import Tensor, nn

#: Length of its input in DECA: jaw pose 3, expression 50, detail 128, in this order.
LATENT = 181

#: Largest displacement, metres: the map is tanh times this.
MOST = 0.01

#: DECA's BatchNorm2d(channels, 0.8) meant a momentum, but the second argument is eps. The published weights need it.
_EPS = 0.8

#: Side of the map before the five doublings.
_FIRST = 8


class DetailDecoder(nn.Module):
    """Fully connected layer, then five times upsample and convolve: 8 -> 256 pixels. The authors' parameter names."""

    def __init__(self, latent: int = LATENT, channels: Sequence[int] = (128, 128, 64, 64, 32, 16)) -> None:
        """Args:
        latent: length of the input.
        channels: of the first map, then after each doubling.
        """
        super().__init__()
        self._channels = channels[0]
        self.l1 = nn.Sequential(nn.Linear(latent, channels[0] * _FIRST**2))
        blocks: list[nn.Module] = [nn.BatchNorm2d(channels[0])]
        for inputs, outputs in pairwise(channels):
            blocks += [
                nn.Upsample(scale_factor=2, mode="bilinear"),
                nn.Conv2d(inputs, outputs, 3, padding=1),
                nn.BatchNorm2d(outputs, eps=_EPS),
                nn.LeakyReLU(0.2, inplace=True),
            ]
        blocks += [nn.Conv2d(channels[-1], 1, 3, padding=1), nn.Tanh()]
        self.conv_blocks = nn.Sequential(*blocks)

    def forward(self, latent: Float[Tensor, "batch latent"]) -> Float[Tensor, "batch 1 size size"]:
        """Displacement along the coarse normal per texel, metres, row 0 at v = 1."""
        first = self.l1(latent).unflatten(-1, (self._channels, _FIRST, _FIRST))
        return self.conv_blocks(first) * MOST
