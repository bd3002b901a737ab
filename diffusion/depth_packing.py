"""Depth as picture channels: LDM3D's packing of 16 bits into three 8-bit channels, and the plain fourth channel.

LDM3D (Stan et al. 2023): red unused, green = d >> 8, blue = d & 255 of a depth d of 0..65535; a 6-channel autoencoder
sees colour and these three. The low byte of a decoded picture is mostly noise; `unpacked` is exact only on exact bytes.
"""

import torch
from jaxtyping import Float, Int
from torch import Tensor

Depth = Float[Tensor, "*batch height width"]


def packed(depth: Depth) -> Float[Tensor, "*batch 3 height width"]:
    """Depth 0..1 -> (0, high byte, low byte) / 255."""
    return bytes_of(levels(depth)).to(depth.dtype) / 255


def unpacked(channels: Float[Tensor, "*batch 3 height width"]) -> Depth:
    """Inverse of `packed`: depth 0..1; values between bytes are rounded to the nearest one."""
    high, low = (channels[..., 1:, :, :].clamp(0, 1) * 255).round().to(torch.int32).unbind(-3)
    return (256 * high + low).to(channels.dtype) / 65535


def levels(depth: Depth) -> Int[Tensor, "*batch height width"]:
    """Depth 0..1 -> 0..65535, rounded: truncation, as in the authors' code, loses a level for one value in twelve."""
    return (depth.clamp(0, 1).double() * 65535).round().to(torch.int32)


def bytes_of(depth: Int[Tensor, "*batch height width"]) -> Int[Tensor, "*batch 3 height width"]:
    """0..65535 -> (0, d >> 8, d & 255)."""
    return torch.stack([torch.zeros_like(depth), depth >> 8, depth & 255], -3)
