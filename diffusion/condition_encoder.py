"""From maps of a head at the picture's size to features at the latents' size.

Channels, in this order: shaded 3, normal 3, albedo 3, nearness 1, mask 1. The values are DiffusionRig's (normals -1..1,
colours about 0..1, nothing = 0); nearness is `datasets/synthetic/pairs.nearness`.
"""

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import avg_pool2d, max_pool2d, silu

from ..datasets.synthetic.pairs import EditPairBatch, nearness
from ..geometry.errors import HeadlabError
from .conditions import Conditions, shade

#: Of the maps.
CHANNELS = 11


class ConditionEncoder(nn.Module):
    """Every pixel of the latents gets its patch of the maps, then three convolutions."""

    def __init__(self, factor: int, width: int, channels: int = CHANNELS):
        """Args:
        factor: how many times smaller latents are than pictures.
        width: channels of the features.
        channels: of the maps.
        """
        super().__init__()
        self.factor, self.channels = factor, channels
        self.patch = nn.Conv2d(channels * factor * factor, 2 * width, 1)
        self.mix = nn.Conv2d(2 * width, 2 * width, 3, 1, 1)
        self.out = nn.Conv2d(2 * width, width, 3, 1, 1)

    def forward(self, maps: Float[Tensor, "batch chan height width"]) -> Float[Tensor, "batch features rows columns"]:
        x = self.patch(nn.functional.pixel_unshuffle(maps, self.factor))
        x = x + self.mix(silu(x))
        return self.out(silu(x))


def network_maps(
    conditions: Conditions, distance: Float[Tensor, "*batch"], size: int
) -> Float[Tensor, "*batch 11 size size"]:
    """Maps as the denoiser takes them. Rendered finer they are averaged down (nearness: the nearest), as in training.

    Args:
        conditions: of one head or a batch, square, size or a whole multiple of it.
        distance: from the camera to the head's focus (`default_decode.focus`, posed) along its axis, metres.
        size: side of the pictures, pixels. Training rendered twice as fine.

    Raises:
        HeadlabError: rendered at another size.
    """
    height, width = conditions.size
    if height != width or height % size:
        raise HeadlabError(
            f"conditions of {height} x {width} pixels do not fit a model of {size} x {size}; "
            f"render them at a multiple of {size}"
        )
    near = nearness(conditions.depth, distance)[..., None, :, :]
    fine = [conditions.shaded, conditions.normal, conditions.albedo, near, conditions.mask[..., None, :, :]]
    if height == size:
        return torch.cat(fine, -3)
    step = height // size
    leading = conditions.mask.shape[:-2]

    def pooled(x: Tensor, pool) -> Tensor:
        return pool(x.reshape(-1, *x.shape[-3:]), step).reshape(*leading, x.shape[-3], size, size)

    return torch.cat([pooled(x, max_pool2d if i == 3 else avg_pool2d) for i, x in enumerate(fine)], -3)


def pair_maps(
    pairs: EditPairBatch, face: torch.Tensor | int, light: Float[Tensor, "batch 9 3"] | None = None
) -> Float[Tensor, "batch 11 height width"]:
    """The maps of one face of each pair.

    Args:
        pairs: from the generator.
        face: 0 or 1, one for all or (batch,).
        light: in place of the pictures'.
    """
    each = torch.arange(len(pairs))
    faces = torch.as_tensor(face).expand(len(pairs))
    normal = pairs.normal[each, faces].float() / 127
    albedo = pairs.albedo[each, faces].float() / 255
    mask = pairs.mask[each, faces, None].float() / 255
    if light is None:
        assert pairs.codes.light is not None
        light = pairs.codes.light[each, faces]
    # Where a pixel is covered in part, both are averages with zeros: the light sees the covered part's normal.
    shaded = shade(normal / mask.clamp(min=1e-3), albedo, light)
    return torch.cat([shaded, normal, albedo, pairs.head[each, faces, None].float(), mask], 1)
