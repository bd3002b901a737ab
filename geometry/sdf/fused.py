"""The ensemble's members by the fused Triton kernels: values with first derivatives to points, latents and weights.

Used for CUDA tensors where Triton is installed (`available`). Latents reach the kernels as biases and anchors, so that
autograd carries their derivatives on. Not for training losses that need second derivatives: blended_gradient.py.
"""

import importlib.util
from dataclasses import dataclass
from importlib import import_module
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor
from torch.autograd.function import once_differentiable

from .identity import FoldedIdentity

#: Pairs of a block, and the side of the tiles that products are cut into.
_BLOCK, _TILE = 64, 32


@dataclass(frozen=True)
class PackedEnsemble:
    """Weights as the kernels want them: hidden widths filled up with 0 to a power of two."""

    entry: Float[Tensor, "2 sets 3 wide"]  #: from the point, to the first layer and to the skip's
    hidden: Float[Tensor, "between sets wide wide"]
    last: Float[Tensor, "sets wide"]
    bias: Float[Tensor, "layers rows wide"]
    end: Float[Tensor, "rows"]
    skip: int

    @classmethod
    def of(cls, head: FoldedIdentity, batch: torch.Size) -> "PackedEnsemble":
        """Differentiable in everything. One row of biases for each head and member."""
        layers = head.mlp.layers
        depth, skip = len(layers) - 1, head.mlp.skip
        wide = max(_TILE, 1 << (max(layer.weight.shape[-1] for layer in layers[:-1]) - 1).bit_length())

        def filled(x: Tensor, *sizes: int) -> Tensor:
            gaps = [gap for have, want in zip(x.shape[::-1], sizes[::-1], strict=False) for gap in (0, want - have)]
            return F.pad(x, gaps)

        entry = torch.stack([filled(layers[i].weight[:, -3:], 3, wide) for i in (0, skip)])
        hidden = []
        for number in range(1, depth):
            weight = layers[number].weight
            hidden.append(filled(weight[:, :-3] if number == skip else weight, wide, wide))
        biases = [filled(_rows(layer.bias, batch), wide) for layer in layers[:-1]]
        return cls(
            entry,
            torch.stack(hidden),
            filled(layers[-1].weight[..., 0], wide),
            torch.stack(biases),
            _rows(layers[-1].bias, batch)[:, 0],
            skip,
        )


def available(tensor: Tensor) -> bool:
    """Whether the kernels serve a tensor: single precision on CUDA, and Triton is installed."""
    return tensor.is_cuda and tensor.dtype == torch.float32 and importlib.util.find_spec("triton") is not None


def fused_members(
    head: FoldedIdentity,
    batch: torch.Size,
    local: Float[Tensor, "pairs 3"],
    row: Int[Tensor, "pairs"],
    sizes: list[int],
) -> Float[Tensor, "pairs"]:
    """What members say. Differentiable once, in everything.

    Args:
        head: the networks.
        batch: leading axes of heads, which `row` counts through.
        local: points in the members' own frames, sorted by set of weights.
        row: head and member of each, as head · members + member.
        sizes: pairs of each set.
    """
    packed = PackedEnsemble.of(head, batch)
    tensors = (packed.entry, packed.hidden, packed.last, packed.bias, packed.end)
    return _Members.apply(local.contiguous(), row, tuple(sizes), packed.skip, *tensors)


class _Members(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, local: Tensor, row: Tensor, sizes: tuple[int, ...], skip: int, entry: Tensor, hidden: Tensor,
        last: Tensor, bias: Tensor, end: Tensor,
    ) -> Tensor:  # fmt: skip
        kernels: Any = import_module(".fused_kernels", __package__)
        layers, rows, wide = bias.shape
        tensors = [t.contiguous() for t in (entry, hidden, last, bias, end)]
        blocks = _blocks(sizes, local.device)
        kept = layers if any(ctx.needs_input_grad) else 2
        scratch = local.new_empty(kept, len(local), wide)
        out = local.new_empty(len(local))
        if len(blocks):
            kernels.forward_kernel[(len(blocks),)](
                local, row, blocks, *tensors, scratch, out, len(local), len(sizes), rows,
                LAYERS=layers, KEPT=kept, SKIP=skip, W=wide, BLOCK=_BLOCK, TILE=_TILE,
            )  # fmt: skip
        ctx.save_for_backward(local, row, blocks, scratch, *tensors)
        ctx.sizes, ctx.skip = sizes, skip
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> Any:  # pyright: ignore[reportIncompatibleMethodOverride]
        kernels: Any = import_module(".fused_kernels", __package__)
        local, row, blocks, scratch, entry, hidden, last, bias, end = ctx.saved_tensors
        layers, _, wide = bias.shape
        sets, pairs = len(ctx.sizes), len(local)
        flow, x_grad = torch.zeros_like(scratch), torch.zeros_like(local)
        hidden_grad = torch.zeros_like(hidden)
        grad = grads[0].contiguous()
        if len(blocks):
            kernels.backward_kernel[(len(blocks),)](
                grad, blocks, entry, hidden, last, scratch, flow, x_grad, pairs, sets,
                LAYERS=layers, SKIP=ctx.skip, W=wide, BLOCK=_BLOCK, TILE=_TILE,
            )  # fmt: skip
        needs = ctx.needs_input_grad
        starts = F.pad(torch.tensor(ctx.sizes, device=local.device).cumsum(0), (1, 0)).int()
        if needs[5] and len(blocks):
            tiles = wide // _TILE
            kernels.weight_kernel[((layers - 1) * sets, tiles, tiles)](
                scratch, flow, starts, hidden_grad, pairs, sets, W=wide, BLOCK=_TILE, TILE=_TILE
            )
        entry_grad = last_grad = bias_grad = end_grad = None
        if needs[4]:
            parts = [(local[a:b].T @ flow[layer, a:b]) for layer in (0, ctx.skip) for a, b in _ranges(ctx.sizes)]
            entry_grad = torch.stack(parts).view_as(entry)
        if needs[6]:
            last_grad = torch.stack([grad[a:b] @ scratch[-1, a:b] for a, b in _ranges(ctx.sizes)])
        if needs[7]:
            bias_grad = torch.zeros_like(bias).index_add_(1, row, flow)
        if needs[8]:
            end_grad = torch.zeros_like(end).index_add_(0, row, grad)
        return x_grad, None, None, None, entry_grad, hidden_grad, last_grad, bias_grad, end_grad


def _rows(bias: Float[Tensor, "*some members out"], batch: torch.Size) -> Float[Tensor, "rows out"]:
    return bias.expand(*batch, *bias.shape[-2:]).reshape(-1, bias.shape[-1])


def _ranges(sizes: tuple[int, ...]) -> list[tuple[int, int]]:
    out, start = [], 0
    for size in sizes:
        out.append((start, start + size))
        start += size
    return out


def _blocks(sizes: tuple[int, ...], device: torch.device) -> Int[Tensor, "blocks 3"]:
    """Set, first pair and end of each block."""
    found = [
        (number, start, min(start + _BLOCK, end))
        for number, (begin, end) in enumerate(_ranges(sizes))
        for start in range(begin, end, _BLOCK)
    ]
    return torch.tensor(found, dtype=torch.int32, device=device).reshape(-1, 3)
