"""Texture lookup."""

import torch
from jaxtyping import Float
from torch import Tensor


def sample_texture(
    texture: Float[Tensor, "#batch chan tex_height tex_width"], uv: Float[Tensor, "batch height width 2"]
) -> Float[Tensor, "batch height width chan"]:
    """Bilinear texture lookup, differentiable in both. Beyond the border the edge texels go on.

    Args:
        texture: one for all or one per batch item. Row 0 lies at the top, v = 1; texel (i, j) has its centre at
            u = (j + 0.5) / tex_width, v = 1 - (i + 0.5) / tex_height.
        uv: coordinates, u right, v up, 0..1 over the texture.
    """
    grid = torch.stack([2 * uv[..., 0] - 1, 1 - 2 * uv[..., 1]], -1)
    texture = texture.expand(uv.shape[0], -1, -1, -1)
    out = torch.nn.functional.grid_sample(texture, grid, mode="bilinear", padding_mode="border", align_corners=False)
    return out.movedim(1, -1)
