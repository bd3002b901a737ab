// The inner loops, on top of one of the lanes_*.h headers. Documented in field.h. Nothing of the standard library is
// instantiated here: code for a newer processor must not end up in what runs on an older one.

#include "field.h"

namespace headlab::field {
namespace {

constexpr int kBlock = kVectors * kLanes;

HL_OP Floats clamp_low(Floats x, float low) { return maximum(x, set1(low)); }

/// 2^x for x <= 0, to 1e-7 of it (minimax polynomial on half an octave to either side).
HL_OP Floats exp2_negative(Floats x) {
    const Floats n = nearest(clamp_low(x, -150.0f)), f = sub(clamp_low(x, -150.0f), n);
    Floats p = set1(1.341000515e-03f);
    p = mul_add(p, f, set1(9.676036358e-03f));
    p = mul_add(p, f, set1(5.550297298e-02f));
    p = mul_add(p, f, set1(2.402210737e-01f));
    p = mul_add(p, f, set1(6.931472254e-01f));
    p = mul_add(p, f, set1(1.000000075e+00f));
    return times_power(p, n);
}

/// log2(1 + 2^z), within 4e-7: max(z, 0) + log2(1 + t) with t = 2^-|z|, a minimax polynomial of t.
HL_OP Floats softplus(Floats z) {
    const Floats t = exp2_negative(sub(set1(0), absolute(z)));
    Floats q = set1(1.552990759e-02f);
    q = mul_add(q, t, set1(-7.955769749e-02f));
    q = mul_add(q, t, set1(1.942942775e-01f));
    q = mul_add(q, t, set1(-3.259019441e-01f));
    q = mul_add(q, t, set1(4.735534014e-01f));
    q = mul_add(q, t, set1(-7.205854674e-01f));
    q = mul_add(q, t, set1(1.442667829e+00f));
    return mul_add(q, t, maximum(z, set1(0)));
}

/// Eight units at V vectors of points: finish(unit, vector, sum).
template <int V, class Finish>
HL_OP void panel(const float* weight, const float* rows, int fan_in, const float* start, Finish&& finish) {
    for (int first = 0; first < kPanel; first += kUnits) {
        Floats sum[kUnits][V];
#pragma GCC unroll 8
        for (int u = 0; u < kUnits; ++u)
#pragma GCC unroll 3
            for (int v = 0; v < V; ++v) sum[u][v] = set1(start == nullptr ? 0.0f : start[first + u]);
        for (int k = 0; k < fan_in; ++k) {
            Floats x[V];
#pragma GCC unroll 3
            for (int v = 0; v < V; ++v) x[v] = load(rows + k * kBlock + v * kLanes);
#pragma GCC unroll 8
            for (int u = 0; u < kUnits; ++u) {
                const Floats w = set1(weight[k * kPanel + first + u]);
#pragma GCC unroll 3
                for (int v = 0; v < V; ++v) sum[u][v] = mul_add(w, x[v], sum[u][v]);
            }
        }
#pragma GCC unroll 8
        for (int u = 0; u < kUnits; ++u)
#pragma GCC unroll 3
            for (int v = 0; v < V; ++v) finish(first + u, v, sum[u][v]);
    }
}

/// One row: Σ_k weight[k * step] rows[k].
template <int V>
HL_OP void weigh(const float* weight, int64_t step, const float* rows, int count, float start, float* out) {
    for (int v = 0; v < V; ++v) {
        Floats even = set1(start), odd = set1(0);
        int k = 0;
        for (; k + 1 < count; k += 2) {
            even = mul_add(set1(weight[k * step]), load(rows + k * kBlock + v * kLanes), even);
            odd = mul_add(set1(weight[(k + 1) * step]), load(rows + (k + 1) * kBlock + v * kLanes), odd);
        }
        if (k < count) even = mul_add(set1(weight[k * step]), load(rows + k * kBlock + v * kLanes), even);
        store(out + v * kLanes, add(even, odd));
    }
}

template <int V>
HL_OP void copy_rows(const float* from, int rows, float* to) {
    for (int r = 0; r < rows; ++r)
        for (int v = 0; v < V; ++v) store(to + r * kBlock + v * kLanes, load(from + r * kBlock + v * kLanes));
}

HL_OP int whole_panels(int units) { return (units + kPanel - 1) / kPanel; }

template <int V>
void run(const RunArgs& a) {
    const Mlp& mlp = *a.mlp;
    const int last = mlp.depth - 1;
    const float* below = a.inputs;
    float* rows = a.scratch;
    for (int depth = 0; depth < last; ++depth) {
        const Layer& layer = mlp.layers[depth];
        const int panels = whole_panels(layer.out);
        const float* weight = layer.forward + static_cast<int64_t>(a.set) * panels * layer.fan_in * kPanel;
        const float* bias = layer.bias + static_cast<int64_t>(a.member) * panels * kPanel;
        for (int p = 0; p < panels; ++p) {
            float* out = rows + static_cast<int64_t>(p) * kPanel * kBlock;
            panel<V>(weight + static_cast<int64_t>(p) * layer.fan_in * kPanel, below, layer.fan_in, bias + p * kPanel,
                     [out](int u, int v, Floats z) __attribute__((always_inline)) {
                         store(out + u * kBlock + v * kLanes, softplus(z));
                     });
        }
        if (depth + 1 == mlp.skip) copy_rows<V>(a.inputs, mlp.free, rows + static_cast<int64_t>(layer.out) * kBlock);
        below = rows;
        rows += static_cast<int64_t>(panels * kPanel + mlp.free) * kBlock;
    }
    const Layer& top = mlp.layers[last];
    const float* plain = top.plain + static_cast<int64_t>(a.set) * top.fan_in * top.out;
    const float* bias = top.bias + static_cast<int64_t>(a.member) * whole_panels(top.out) * kPanel;
    for (int o = 0; o < top.out; ++o) weigh<V>(plain + o, top.out, below, top.fan_in, bias[o], a.out + o * kBlock);
    if (a.gradient == nullptr) return;

    // Downwards, each layer's units giving way to the flow through them: flow (1 - 2^-units).
    float* units = const_cast<float*>(below);
    for (int r = 0; r < top.fan_in; ++r)
        for (int v = 0; v < V; ++v) {
            float* at = units + r * kBlock + v * kLanes;
            const Floats steep = sub(set1(1), exp2_negative(sub(set1(0), load(at))));
            store(at, mul(set1(plain[r]), steep));
        }
    const float* direct = nullptr;
    for (int depth = last - 1; depth > 0; --depth) {
        const Layer& layer = mlp.layers[depth];
        const int hidden = mlp.layers[depth - 1].out, panels = whole_panels(layer.fan_in);
        float* lower = units - static_cast<int64_t>(whole_panels(hidden) * kPanel + mlp.free) * kBlock;
        const float* weight = layer.backward + static_cast<int64_t>(a.set) * panels * layer.out * kPanel;
        for (int p = 0; p < panels; ++p) {
            const int first = p * kPanel, fan_in = layer.fan_in;
            panel<V>(weight + static_cast<int64_t>(first) * layer.out, units, layer.out, nullptr,
                     [lower, first, hidden, fan_in](int u, int v, Floats flow) __attribute__((always_inline)) {
                         if (first + u >= fan_in) return;
                         float* at = lower + (first + u) * kBlock + v * kLanes;
                         const Floats steep = sub(set1(1), exp2_negative(sub(set1(0), load(at))));
                         store(at, first + u < hidden ? mul(flow, steep) : flow);
                     });
        }
        if (depth == mlp.skip) direct = lower + static_cast<int64_t>(hidden) * kBlock;
        units = lower;
    }
    const Layer& bottom = mlp.layers[0];
    const float* first = bottom.plain + static_cast<int64_t>(a.set) * bottom.fan_in * bottom.out;
    for (int f = 0; f < mlp.free; ++f) {
        float* out = a.gradient + f * kBlock;
        weigh<V>(first + static_cast<int64_t>(f) * bottom.out, 1, units, bottom.out, 0, out);
        if (direct != nullptr)
            for (int v = 0; v < V; ++v)
                store(out + v * kLanes, add(load(out + v * kLanes), load(direct + f * kBlock + v * kLanes)));
    }
}

void run_block(const RunArgs& a) {
    if (a.count <= kLanes) return run<1>(a);
    if (a.count <= 2 * kLanes) return run<2>(a);
    run<3>(a);
}

void shares(const ShareArgs& a) {
    float x[3][kLanes] = {};
    for (int i = 0; i < a.count; ++i)
        for (int c = 0; c < 3; ++c) x[c][i] = a.points[3 * i + c];
    const Floats px = load(x[0]), py = load(x[1]), pz = load(x[2]);
    Floats sum = set1(a.background);
    for (int k = 0; k < a.anchors_count; ++k) {
        const float* anchor = a.anchors + 3 * k;
        const Floats dx = sub(px, set1(anchor[0])), dy = sub(py, set1(anchor[1])), dz = sub(pz, set1(anchor[2]));
        const Floats d = add(root(mul_add(dx, dx, mul_add(dy, dy, mul(dz, dz)))), set1(a.offset));
        const Floats w = exp2_negative(mul(mul(d, d), set1(a.scale)));
        store(a.share + k * kLanes, w);
        sum = add(sum, w);
    }
    const int members = a.anchors_count + 1;
    store(a.share + a.anchors_count * kLanes, set1(a.background));
    // Where the field fades its sign shall be right, too: members are left out by their true shares, w / Σ w.
    const Floats allowed = mul(set1(a.allowed), sum);
    Floats limit = allowed;
    for (int round = 0; round < 4; ++round) {
        Floats left_out = set1(0);
        for (int k = 0; k < members; ++k) left_out = add(left_out, keep_less(load(a.share + k * kLanes), limit));
        const Floats lower = mul(round < 3 ? limit : allowed, set1(round < 3 ? 0.5f : 1.0f / static_cast<float>(members)));
        limit = if_more(left_out, allowed, lower, limit);
    }
    const Floats scale = div(set1(1), add(sum, set1(a.epsilon)));
    const uint32_t used = a.count >= 32 ? ~0u : (1u << a.count) - 1;
    for (int k = 0; k < members; ++k) {
        const Floats w = load(a.share + k * kLanes);
        a.kept[k] = not_less(w, limit) & used;
        store(a.share + k * kLanes, mul(w, scale));
    }
}

}  // namespace
}  // namespace headlab::field

#define HL_FIELD_KERNELS(name)     \
    namespace headlab::field {     \
    extern const Kernels name;     \
    const Kernels name = {kLanes, kBlock, &run_block, &shares}; \
    }
