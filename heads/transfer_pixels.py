"""Plain picture operations of the compositor: looking up, blurring, fading."""

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import grid_sample, max_pool2d, pad


def pixel_centres(shape: torch.Size, like: Tensor) -> Float[Tensor, "height width 2"]:
    y, x = (torch.arange(n, dtype=like.dtype) + 0.5 for n in shape)
    return torch.stack(torch.meshgrid(x, y, indexing="xy"), -1)


def sample(
    photo: Float[Tensor, "3 height width"], pixels: Float[Tensor, "height width 2"]
) -> Float[Tensor, "3 height width"]:
    """Bicubic lookup; within a hundredth of a pixel of its centre, the pixel itself."""
    height, width = photo.shape[-2:]
    grid = pixels / pixels.new_tensor([width, height]) * 2 - 1
    picture = grid_sample(photo[None], grid[None], mode="bicubic", padding_mode="border", align_corners=False)[0]
    still = (pixels - pixel_centres(photo.shape[-2:], photo)).abs().amax(-1) < 0.01
    return torch.where(still, photo, picture.clamp(0, 1))


def rim_fade(shape: torch.Size, like: Tensor, sides: tuple[bool, bool, bool, bool], margin: float) -> Tensor:
    """1 inside, falling smoothly to 0 at those sides (left, top, right, bottom) where the photo goes on."""
    height, width = shape
    x, y = torch.arange(width, dtype=like.dtype) + 0.5, torch.arange(height, dtype=like.dtype) + 0.5
    fade = torch.ones(height, width, dtype=like.dtype)
    for wanted, distance in zip(sides, (x[None], y[:, None], width - x[None], height - y[:, None]), strict=True):
        if wanted:
            fade = fade * step(distance, 0.0, margin)
    return fade


def step(x: Float[Tensor, "*any"], low: float, high: float) -> Float[Tensor, "*any"]:
    """Smooth step from 0 at `low` to 1 at `high`, which may be the lower of the two."""
    t = ((x - low) / (high - low)).clamp(0, 1)
    return t * t * (3 - 2 * t)


def box(image: Float[Tensor, "chan height width"], radius: int) -> Float[Tensor, "chan height width"]:
    """Mean over squares of side 2 radius + 1, of what lies inside the picture; by running sums."""
    height, width = image.shape[-2:]
    total = pad(image.double().cumsum(-1).cumsum(-2), (1, 0, 1, 0))
    top, bottom = _span(height, radius)
    left, right = _span(width, radius)
    rows = total[:, bottom] - total[:, top]
    area = ((bottom - top)[:, None] * (right - left)).to(image.dtype)
    return (rows[..., right] - rows[..., left]).to(image.dtype) / area


def soft(mask: Float[Tensor, "height width"], radius: int) -> Float[Tensor, "height width"]:
    """A mask grown by `radius` pixels and blurred over as many."""
    grown = max_pool2d(mask[None, None], 2 * radius + 1, 1, radius)[0]
    return box(grown, radius)[0]


def _span(length: int, radius: int) -> tuple[Tensor, Tensor]:
    index = torch.arange(length)
    return (index - radius).clamp(min=0), (index + radius + 1).clamp(max=length)
