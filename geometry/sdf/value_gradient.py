"""Values of many small networks and their gradients to the point in one differentiable step: what training asks for.

The losses of signed distance fields need f and ∇f at every point, and the derivatives of both by weights, latents and
anchors. Differentiating twice through a general graph stores and passes over every hidden layer many times. Here the
four sweeps are written out (a_l = h_{l-1} W_l + b_l, h_l = s(a_l), s the softplus; bars are adjoints):

    up      h_l = s(a_l)                                          down    u_l = g_l s'(a_l),  g_{l-1} = u_l W_lᵀ
    up      ū_l = ḡ_{l-1} W_l,  ḡ_l = ū_l s'(a_l)                 down    ā_l = h̄_l s'(a_l) + ū_l g_l s''(a_l)

with W̄_l = h_{l-1}ᵀ ā_l + ḡ_{l-1}ᵀ u_l. As in fast_mlp.py units carry K = 100 log2(e) times their value, so that
s(a) = log2(1 + 2^a), s' = 1 - 2^-s and s'' = ln 2 · s' (1 - s') need no scaling.
"""

import math
from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from .mlp import BETA, FoldedMlp

_K = BETA / math.log(2)
_LN2 = math.log(2)

#: Exponents from here on are their own softplus in float32.
_LARGE = 64.0


def value_and_gradient(
    mlp: FoldedMlp,
    inputs: Float[Tensor, "rows free"],
    sizes: Sequence[int],
    members: Sequence[int],
    row: Int[Tensor, "rows"],
) -> tuple[Float[Tensor, "rows"], Float[Tensor, "rows free"]]:
    """What networks of one output say, and their gradients; both differentiable once more.

    Args:
        mlp: the networks, of three layers at least.
        inputs: sorted by set of weights.
        sizes: how many of them each set has.
        members: one member of each set, whose biases stand for those of the layers that no latent enters.
        row: for each input the row of the biases that latents do enter, all their leading axes flattened into one.
    """
    weights, biases = [], []
    free, last = inputs.shape[-1], len(mlp.layers) - 1
    assert 0 < mlp.skip < last
    for number, layer in enumerate(mlp.layers):
        weight = layer.weight
        if number in (0, mlp.skip):
            weight = torch.cat([weight[..., :-free, :], _K * weight[..., -free:, :]], -2)
            bias = layer.bias.reshape(-1, layer.bias.shape[-1])
        else:
            bias = layer.bias[list(members)]
        weights.append(weight / _K if number == last else weight)
        biases.append(bias if number == last else _K * bias)
    return _ValueAndGradient.apply(inputs, row, tuple(sizes), mlp.skip, *weights, *biases)


class _ValueAndGradient(torch.autograd.Function):
    """The four sweeps. Layers are networks in K units (the last one back to ordinary ones)."""

    @staticmethod
    def forward(ctx: Any, inputs: Tensor, row: Tensor, sizes: tuple[int, ...], skip: int, *layers: Tensor) -> Any:
        depth = len(layers) // 2
        weights, biases = layers[:depth], layers[depth:]
        free, hidden_layers = inputs.shape[-1], depth - 1
        value, gradient = inputs.new_empty(len(inputs)), torch.empty_like(inputs)
        kept: list[Tensor] = []
        start = 0
        for number, size in enumerate(sizes):
            part = slice(start, start + size)
            start += size
            if size == 0:
                continue
            x, rows = inputs[part], row[part]
            below, steeps = x, []
            for layer in range(hidden_layers):
                if layer in (0, skip):
                    units = (below @ weights[layer][number]).add_(biases[layer][rows])
                else:
                    units = torch.addmm(biases[layer][number], below, weights[layer][number])
                power = torch.clamp(units, max=_LARGE).exp2_().add_(1)
                steeps.append(power.reciprocal().neg_().add_(1))
                units = torch.maximum(units, power.log2_(), out=units)
                if layer + 1 == skip:
                    units = torch.cat([units, x], -1)
                kept += [below] if layer else []
                below = units
            kept.append(below)
            value[part] = torch.addmm(biases[-1][number], below, weights[-1][number]).squeeze(-1)
            flow = weights[-1][number].squeeze(-1).expand(size, -1)
            flows: list[Tensor] = []
            direct = None
            for layer in range(hidden_layers - 1, -1, -1):
                flow = flow * steeps[layer]
                flows.append(flow)
                flow = flow @ weights[layer][number].mT
                if layer == skip:
                    direct, flow = flow[:, -free:], flow[:, :-free]
            gradient[part] = flow if direct is None else flow + direct
            kept += steeps
            kept += flows[::-1]
        ctx.save_for_backward(inputs, row, *layers, *kept)
        ctx.sizes, ctx.skip, ctx.depth = sizes, skip, depth
        return value, gradient

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, value_bar: Tensor, gradient_bar: Tensor) -> Any:  # type: ignore[override]
        depth, skip = ctx.depth, ctx.skip
        inputs, row, *rest = ctx.saved_tensors
        weights, kept = rest[:depth], rest[2 * depth :]
        free, hidden_layers = inputs.shape[-1], depth - 1
        input_bar = torch.empty_like(inputs)
        weight_bars = [torch.zeros_like(weight) for weight in weights]
        bias_bars = [torch.zeros_like(bias) for bias in rest[depth : 2 * depth]]
        start, at = 0, 0
        for number, size in enumerate(ctx.sizes):
            part = slice(start, start + size)
            start += size
            if size == 0:
                continue
            rows = row[part]
            below = [inputs[part], *kept[at : at + hidden_layers]]
            steeps = kept[at + hidden_layers : at + 2 * hidden_layers]
            flows = kept[at + 2 * hidden_layers : at + 3 * hidden_layers]
            at += 3 * hidden_layers
            # Up: what the gradient's adjoint does to every layer.
            seed = gradient_bar[part]
            tangent, bends = seed, []
            for layer in range(hidden_layers):
                if layer == skip:
                    tangent = torch.cat([tangent, seed], -1)
                weight_bars[layer][number].addmm_(tangent.mT, flows[layer])
                turned = tangent @ weights[layer][number]
                bend = turned * flows[layer]
                bends.append(torch.addcmul(bend, bend, steeps[layer], value=-1).mul_(_LN2))
                tangent = turned.mul_(steeps[layer])
            weight_bars[-1][number, :, 0] += tangent.sum(0)
            # Down: the ordinary way back, with the bends on top.
            bar = value_bar[part].unsqueeze(-1)
            weight_bars[-1][number].addmm_(below[-1].mT, bar)
            bias_bars[-1][number] += bar.sum(0)
            flow = bar * weights[-1][number].squeeze(-1)
            direct = None
            for layer in range(hidden_layers - 1, -1, -1):
                flow = bends[layer].addcmul_(flow, steeps[layer])
                weight_bars[layer][number].addmm_(below[layer].mT, flow)
                if layer in (0, skip):
                    bias_bars[layer].index_add_(0, rows, flow)
                else:
                    bias_bars[layer][number] += flow.sum(0)
                flow = flow @ weights[layer][number].mT
                if layer == skip:
                    direct, flow = flow[:, -free:], flow[:, :-free]
            input_bar[part] = flow if direct is None else flow + direct
        return input_bar, None, None, None, *weight_bars, *bias_bars
