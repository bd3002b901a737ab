"""Residual and attention blocks of the guided-diffusion UNet, modulated by time and by a global code.

    h = norm(x) (1 + s_t) + b_t          time: scale and shift (Dhariwal and Nichol, "Diffusion models beat GANs", 2021)
    h = h (1 + s_z) + b_z                code: DiffusionRig's has scale and shift, DiffAE's scale alone

Both are one multiplication and one addition per channel, with scale (1 + s_t)(1 + s_z) and shift b_t (1 + s_z) + b_z.
Parameter names are the authors' (in_layers, emb_layers, cond_emb_layers, out_layers, skip_connection, qkv, proj_out).
"""

import math

import torch
from jaxtyping import Float, Shaped
from torch import Tensor, nn
from torch.nn.functional import avg_pool2d, interpolate, linear, scaled_dot_product_attention, silu

Features = Float[Tensor, "batch chan height width"]


def timestep_embedding(t: Shaped[Tensor, "batch"], size: int, period: float = 10_000.0) -> Float[Tensor, "batch size"]:
    """cos and sin of t times frequencies from 1 down to 1 / period, in this order; a last 0 where the size is odd."""
    half = size // 2
    frequencies = torch.exp(-math.log(period) * torch.arange(half, dtype=torch.float32, device=t.device) / half)
    angles = t[:, None].float() * frequencies
    out = torch.cat([angles.cos(), angles.sin()], 1)
    return torch.cat([out, torch.zeros_like(out[:, :1])], 1) if size % 2 else out


def groups(channels: int) -> nn.GroupNorm:
    """GroupNorm of 32 groups."""
    return nn.GroupNorm(32, channels)


def zeroed(layer: nn.Module) -> nn.Module:
    """A layer that starts at 0, in place."""
    for parameter in layer.parameters():
        nn.init.zeros_(parameter)
    return layer


class ResBlock(nn.Module):
    """Two convolutions beside a shortcut; the second half is there only where something modulates it."""

    def __init__(
        self,
        inputs: int,
        outputs: int | None = None,
        *,
        time: int | None = None,
        code: int | None = None,
        code_shift: bool = True,
        up: bool = False,
        down: bool = False,
        dropout: float = 0.0,
    ):
        """Args:
        inputs: channels.
        outputs: channels; the inputs' where None.
        time: length of the time embedding; None: no second half, as in DiffAE's encoder.
        code: length of the code; None: there is none.
        code_shift: the code shifts as well as scales.
        up: doubles the size.
        down: halves it.
        dropout: share, in training.
        """
        super().__init__()
        outputs = outputs or inputs
        self.up, self.down, self.code_shift = up, down, code_shift
        self.in_layers = nn.Sequential(groups(inputs), nn.SiLU(), nn.Conv2d(inputs, outputs, 3, padding=1))
        self.emb_layers = self.cond_emb_layers = self.out_layers = None
        if time is not None:
            self.emb_layers = nn.Sequential(nn.SiLU(), nn.Linear(time, 2 * outputs))
            if code is not None:
                self.cond_emb_layers = nn.Sequential(nn.SiLU(), nn.Linear(code, (1 + code_shift) * outputs))
            last = zeroed(nn.Conv2d(outputs, outputs, 3, padding=1))
            self.out_layers = nn.Sequential(groups(outputs), nn.SiLU(), nn.Dropout(dropout), last)
        self.skip_connection = nn.Identity() if outputs == inputs else nn.Conv2d(inputs, outputs, 1)

    def forward(
        self,
        x: Features,
        time: Float[Tensor, "batch time_size"] | None = None,
        code: Float[Tensor, "batch code_size"] | None = None,
    ) -> Float[Tensor, "batch out_chan rows columns"]:
        norm, _, convolve = self.in_layers
        h = _silu(norm(x))
        if self.up or self.down:
            h, x = (_resized(y, self.up) for y in (h, x))
        h = convolve(h)
        if self.out_layers is not None and self.emb_layers is not None and time is not None:
            norm, _, dropout, convolve = self.out_layers
            scale, shift = self.emb_layers(time).chunk(2, 1)
            scale = 1 + scale
            if self.cond_emb_layers is not None:
                more, also = self.cond_emb_layers(code), None
                if self.code_shift:
                    more, also = more.chunk(2, 1)
                scale, shift = scale * (1 + more), shift * (1 + more)
                shift = shift if also is None else shift + also
            h = torch.addcmul(shift[..., None, None], norm(h), scale[..., None, None])
            h = convolve(dropout(_silu(h)))
        return self.skip_connection(x) + h


class AttentionBlock(nn.Module):
    """Self-attention over all pixels, beside a shortcut.

    The rows of `qkv` are ordered [head][q, k, v][channel] in the legacy order, [q, k, v][head][channel] in the new one.
    """

    def __init__(self, channels: int, heads: int = 1, new_order: bool = False):
        super().__init__()
        self.heads, self.new_order = heads, new_order
        self.fused = True  #: False computes the matrix of weights: for comparison
        self.norm = groups(channels)
        self.qkv = nn.Conv1d(channels, 3 * channels, 1)
        self.proj_out = zeroed(nn.Conv1d(channels, channels, 1))

    def forward(self, x: Features) -> Features:
        # Pixels as rows: for channels-last pictures this is the memory as it lies.
        rows = self.norm(x).flatten(2).mT
        mixed = linear(rows, self.qkv.weight[..., 0], self.qkv.bias)
        order = (3, self.heads) if self.new_order else (self.heads, 3)
        mixed = mixed.unflatten(2, (*order, -1)).movedim(2 if self.new_order else 3, 0)
        q, k, v = mixed.transpose(2, 3)  # (batch, heads, pixels, channels) each
        if self.fused:
            seen = scaled_dot_product_attention(q, k, v)
        else:
            scale = q.shape[-1] ** -0.25
            seen = torch.softmax((q * scale) @ (k * scale).mT, -1) @ v
        seen = seen.transpose(1, 2).flatten(2)
        return x + linear(seen, self.proj_out.weight[..., 0], self.proj_out.bias).mT.unflatten(2, x.shape[2:])  # type: ignore[index]


class Downsample(nn.Module):
    """Half the size by a convolution of stride 2."""

    def __init__(self, channels: int):
        super().__init__()
        self.op = nn.Conv2d(channels, channels, 3, 2, 1)

    def forward(self, x: Features) -> Float[Tensor, "batch chan rows columns"]:
        return self.op(x)


class Upsample(nn.Module):
    """Twice the size by repeating pixels, and a convolution."""

    def __init__(self, channels: int):
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, x: Features) -> Float[Tensor, "batch chan rows columns"]:
        return self.conv(_resized(x, True))


class Modulated(nn.Sequential):
    """Blocks in sequence, of which the residual ones are told time and code."""

    def forward(  # type: ignore[override]
        self,
        x: Features,
        time: Float[Tensor, "batch time_size"] | None = None,
        code: Float[Tensor, "batch code_size"] | None = None,
    ) -> Float[Tensor, "batch out_chan rows columns"]:
        for layer in self:
            x = layer(x, time, code) if isinstance(layer, ResBlock) else layer(x)
        return x


def _resized(x: Tensor, up: bool) -> Tensor:
    return interpolate(x, scale_factor=2, mode="nearest") if up else avg_pool2d(x, 2)


def _silu(x: Tensor) -> Tensor:
    """In place where no gradient needs the input."""
    return silu(x, inplace=not (torch.is_grad_enabled() and x.requires_grad))
