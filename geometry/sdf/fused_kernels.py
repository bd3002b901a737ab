"""Triton kernels of the ensemble: all layers of the members' networks in one launch, forward and backward.

Rows are (point, member) pairs sorted by set of weights and cut into blocks of one set each. Hidden widths are filled up
with zeros to W, a power of two: units that are not there have weights of 0 on either side. Activations go through
scratch memory that a block alone reads and writes, so that they stay in cache; in training all layers are kept there.

    pre_0 = x A_0 + b_0,   pre_l = h_{l-1} M_l (+ x A_1 at the skip) + b_l,   h = softplus(100 pre) / 100,   f = h w + c

Products are in full single precision ("ieee"): TF32 would cost three digits of the distance. Run by Triton's
interpreter (TRITON_INTERPRET=1) they work on the CPU, which is how they are tested.
"""

# pyright: basic, reportGeneralTypeIssues=false

import triton
import triton.language as tl


@triton.jit(do_not_specialize=["pairs", "sets", "rows"])
def _softplus(z):
    return tl.maximum(z, 0.0) + tl.log(1.0 + tl.exp(-100.0 * tl.abs(z))) * 0.01


@triton.jit(do_not_specialize=["pairs", "sets", "rows"])
def forward_kernel(
    x_ptr, row_ptr, block_ptr, entry_ptr, hidden_ptr, last_ptr, bias_ptr, end_ptr, scratch_ptr, out_ptr,
    pairs, sets, rows,
    LAYERS: tl.constexpr, KEPT: tl.constexpr, SKIP: tl.constexpr, W: tl.constexpr,
    BLOCK: tl.constexpr, TILE: tl.constexpr,
):  # fmt: skip
    """One block of pairs through all layers.

    x [pairs, 3], row [pairs] (of the biases), block [blocks, 3] (set, first pair, end), entry [2, sets, 3, W],
    hidden [LAYERS - 1, sets, W, W], last [sets, W], bias [LAYERS, rows, W], end [rows], scratch [KEPT, pairs, W],
    out [pairs]. KEPT is LAYERS, or 2 where nothing is kept for a backward pass.
    """
    number = tl.program_id(0)
    which = tl.load(block_ptr + 3 * number)
    first = tl.load(block_ptr + 3 * number + 1)
    end = tl.load(block_ptr + 3 * number + 2)
    at = first + tl.arange(0, BLOCK)
    here = at < end
    x0 = tl.load(x_ptr + 3 * at, mask=here, other=0.0)
    x1 = tl.load(x_ptr + 3 * at + 1, mask=here, other=0.0)
    x2 = tl.load(x_ptr + 3 * at + 2, mask=here, other=0.0)
    row = tl.load(row_ptr + at, mask=here, other=0).to(tl.int64)
    place = at.to(tl.int64)[:, None] * W
    for layer in tl.static_range(LAYERS):
        into = scratch_ptr + (layer % KEPT) * pairs.to(tl.int64) * W
        before = scratch_ptr + ((layer + KEPT - 1) % KEPT) * pairs.to(tl.int64) * W
        for n in range(0, W, TILE):
            column = n + tl.arange(0, TILE)
            sum = tl.load(bias_ptr + (layer * rows + row)[:, None] * W + column[None, :], mask=here[:, None], other=0.0)
            if layer == 0 or layer == SKIP:
                entry = entry_ptr + ((0 if layer == 0 else 1) * sets + which) * 3 * W + column
                sum += x0[:, None] * tl.load(entry)[None, :]
                sum += x1[:, None] * tl.load(entry + W)[None, :]
                sum += x2[:, None] * tl.load(entry + 2 * W)[None, :]
            if layer > 0:
                weight = hidden_ptr + ((layer - 1) * sets + which).to(tl.int64) * W * W
                for k in range(0, W, TILE):
                    inner = k + tl.arange(0, TILE)
                    h = tl.load(before + place + inner[None, :], mask=here[:, None], other=0.0)
                    m = tl.load(weight + inner[:, None] * W + column[None, :])
                    sum += tl.dot(h, m, input_precision="ieee")
            tl.store(into + place + column[None, :], _softplus(sum), mask=here[:, None])
        tl.debug_barrier()  # the next layer reads what other threads of this block have written
    value = tl.load(end_ptr + row, mask=here, other=0.0)
    top = scratch_ptr + ((LAYERS - 1) % KEPT) * pairs.to(tl.int64) * W
    for n in range(0, W, TILE):
        column = n + tl.arange(0, TILE)
        h = tl.load(top + place + column[None, :], mask=here[:, None], other=0.0)
        value += tl.sum(h * tl.load(last_ptr + which * W + column)[None, :], 1)
    tl.store(out_ptr + at, value, mask=here)


@triton.jit(do_not_specialize=["pairs", "sets"])
def backward_kernel(
    grad_ptr, block_ptr, entry_ptr, hidden_ptr, last_ptr, scratch_ptr, flow_ptr, x_grad_ptr,
    pairs, sets,
    LAYERS: tl.constexpr, SKIP: tl.constexpr, W: tl.constexpr, BLOCK: tl.constexpr, TILE: tl.constexpr,
):  # fmt: skip
    """One block of pairs downwards: what flows into every unit before its softplus, and into the points.

    grad [pairs], scratch [LAYERS, pairs, W] as the forward kernel left it, flow [LAYERS, pairs, W], x_grad [pairs, 3].
    """
    number = tl.program_id(0)
    which = tl.load(block_ptr + 3 * number)
    first = tl.load(block_ptr + 3 * number + 1)
    end = tl.load(block_ptr + 3 * number + 2)
    at = first + tl.arange(0, BLOCK)
    here = at < end
    grad = tl.load(grad_ptr + at, mask=here, other=0.0)
    place = at.to(tl.int64)[:, None] * W
    g0 = tl.zeros([BLOCK], tl.float32)
    g1 = tl.zeros([BLOCK], tl.float32)
    g2 = tl.zeros([BLOCK], tl.float32)
    for step in tl.static_range(LAYERS):
        layer = LAYERS - 1 - step
        own = layer * pairs.to(tl.int64) * W
        above = (layer + 1) * pairs.to(tl.int64) * W
        for n in range(0, W, TILE):
            column = n + tl.arange(0, TILE)
            if layer == LAYERS - 1:
                flow = grad[:, None] * tl.load(last_ptr + which * W + column)[None, :]
            else:
                flow = tl.zeros([BLOCK, TILE], tl.float32)
                weight = hidden_ptr + (layer * sets + which).to(tl.int64) * W * W
                for k in range(0, W, TILE):
                    inner = k + tl.arange(0, TILE)
                    d = tl.load(flow_ptr + above + place + inner[None, :], mask=here[:, None], other=0.0)
                    m = tl.load(weight + column[None, :] * W + inner[:, None])
                    flow += tl.dot(d, m, input_precision="ieee")
            h = tl.load(scratch_ptr + own + place + column[None, :], mask=here[:, None], other=0.0)
            flow = flow * (1.0 - tl.exp(-100.0 * h))
            tl.store(flow_ptr + own + place + column[None, :], flow, mask=here[:, None])
            if layer == 0 or layer == SKIP:
                entry = entry_ptr + ((0 if layer == 0 else 1) * sets + which) * 3 * W + column
                g0 += tl.sum(flow * tl.load(entry)[None, :], 1)
                g1 += tl.sum(flow * tl.load(entry + W)[None, :], 1)
                g2 += tl.sum(flow * tl.load(entry + 2 * W)[None, :], 1)
        tl.debug_barrier()
    tl.store(x_grad_ptr + 3 * at, g0, mask=here)
    tl.store(x_grad_ptr + 3 * at + 1, g1, mask=here)
    tl.store(x_grad_ptr + 3 * at + 2, g2, mask=here)


@triton.jit(do_not_specialize=["pairs", "sets"])
def weight_kernel(
    scratch_ptr, flow_ptr, start_ptr, out_ptr, pairs, sets,
    W: tl.constexpr, BLOCK: tl.constexpr, TILE: tl.constexpr,
):  # fmt: skip
    """Gradient of one tile of one set's weights between two layers: Σ over its pairs of hᵀ flow.

    Grid: (LAYERS - 1) · sets, tiles of rows, tiles of columns. start [sets + 1]: first pair of each set. The order of
    the sum is always the same.
    """
    layer = tl.program_id(0) // sets
    which = tl.program_id(0) % sets
    inner = tl.program_id(1) * TILE + tl.arange(0, TILE)
    column = tl.program_id(2) * TILE + tl.arange(0, TILE)
    below = layer * pairs.to(tl.int64) * W
    above = (layer + 1) * pairs.to(tl.int64) * W
    end = tl.load(start_ptr + which + 1)
    sum = tl.zeros([TILE, TILE], tl.float32)
    for first in range(tl.load(start_ptr + which), end, BLOCK):
        at = first + tl.arange(0, BLOCK)
        here = at < end
        place = at.to(tl.int64) * W
        h = tl.load(scratch_ptr + below + place[None, :] + inner[:, None], mask=here[None, :], other=0.0)
        d = tl.load(flow_ptr + above + place[:, None] + column[None, :], mask=here[:, None], other=0.0)
        sum += tl.dot(h, d, input_precision="ieee")
    base = out_ptr + tl.program_id(0).to(tl.int64) * W * W
    tl.store(base + inner[:, None] * W + column[None, :], sum)
