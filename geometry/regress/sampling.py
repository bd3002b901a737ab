"""Image warping that gives the numbers of scikit-image's `warp`, differentiable and on any device."""

from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor


def warp(
    image: Float[Tensor, "chan height width"],
    inverse: Float[Tensor, "3 3"],
    size: tuple[int, int],
    order: Literal[1, 3] = 1,
) -> Float[Tensor, "chan rows columns"]:
    """Resample an image through an affine map; 0 outside of it.

    As scikit-image does, the result is clamped to the range of the input, which includes 0 where the result does.

    Args:
        image: the input.
        inverse: output indices (x, y, 1) -> input indices.
        size: (rows, columns) of the output.
        order: 1 is bilinear, 3 bicubic (Catmull-Rom: a = -1/2, where torch's own has -3/4).
    """
    height, width = image.shape[-2:]
    rows, columns = size
    matrix = inverse.to(device=image.device, dtype=torch.float64)
    y = torch.arange(rows, dtype=torch.float64, device=image.device)[:, None]
    x = torch.arange(columns, dtype=torch.float64, device=image.device)[None]
    u = matrix[0, 0] * x + matrix[0, 1] * y + matrix[0, 2]
    v = matrix[1, 0] * x + matrix[1, 1] * y + matrix[1, 2]
    left, top = u.floor(), v.floor()
    across, down = _weights(u - left, order), _weights(v - top, order)
    first = 0 if order == 1 else -1
    flat = image.flatten(-2)
    result = image.new_zeros(image.shape[0], rows, columns)
    for j, wy in enumerate(down):
        row = top.long() + (first + j)
        line = image.new_zeros(result.shape)
        for i, wx in enumerate(across):
            column = left.long() + (first + i)
            inside = (row >= 0) & (row < height) & (column >= 0) & (column < width)
            index = row.clamp(0, height - 1) * width + column.clamp(0, width - 1)
            weight = (wx * inside).to(image.dtype)
            line = line + flat[:, index.flatten()].unflatten(-1, (rows, columns)) * weight
        result = result + line * wy.to(image.dtype)
    with torch.no_grad():
        low, high = image.amin(), image.amax()
        if bool((result.amin() <= 0) & (result.amax() >= 0)):
            low, high = low.clamp(max=0), high.clamp(min=0)
    return result.clamp(low, high)


def _weights(t: Float[Tensor, "rows columns"], order: int) -> list[Float[Tensor, "rows columns"]]:
    """Of the two or four neighbours of a position t (0..1) past the second last of them."""
    if order == 1:
        return [1 - t, t]
    return [
        ((2 - t) * t - 1) * t / 2,
        ((3 * t - 5) * t * t + 2) / 2,
        ((4 - 3 * t) * t + 1) * t / 2,
        (t - 1) * t * t / 2,
    ]
