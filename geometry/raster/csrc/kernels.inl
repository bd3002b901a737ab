// The inner loops, on top of one of the simd_*.h headers. Documented in kernels.h.

#include <cstddef>

#include "kernels.h"

namespace headlab {
namespace {

uint32_t project(const Vertex<float>* points, int64_t count, float near_plane, ScreenVertex* out) {
    const Floats one = set1(1), near_v = set1(near_plane), nothing = set1(__builtin_nanf(""));
    uint32_t flags = 0;
    int64_t i = 0;
    for (; i + kLanes <= count; i += kLanes) {
        Floats x, y, z, w;
        load_rows([&](int k) { return &points[i + k].x; }, x, y, z, w);
        const Floats zero = add(add(sub(x, x), sub(y, y)), add(sub(z, z), sub(w, w)));  // NaN if any is not finite
        constexpr uint32_t kAll = (1u << kLanes) - 1;
        if (bits(ordered(zero)) != kAll) flags |= kNotFinite;
        if (bits(equal(z, w)) != kAll) flags |= kNotPinhole;
        if (bits(equal(w, one)) != kAll) flags |= kNotFlat;
        const Mask behind = less(w, near_v);
        each_row(select(behind, nothing, div(x, w)), div(y, w), div(z, w), div(one, w),
                 [&](int k, Row4 r) { store_row(&out[i + k].u, r); });
    }
    for (; i < count; ++i) {
        const Vertex<float>& p = points[i];
        const float zero = (p.x - p.x) + (p.y - p.y) + (p.z - p.z) + (p.w - p.w);
        if (!(zero == 0)) flags |= kNotFinite;
        if (p.z != p.w) flags |= kNotPinhole;
        if (p.w != 1) flags |= kNotFlat;
        out[i] = {p.w < near_plane ? __builtin_nanf("") : p.x / p.w, p.y / p.w, p.z / p.w, 1 / p.w};
    }
    return flags;
}

struct Corner {
    Floats u, v, key;
};

/// Put two corners in (v, u) order; `flipped` counts swaps modulo two.
HL_OP void order(Corner& a, Corner& b, Mask& flipped) {
    const Mask swap = either(less(b.v, a.v), both(equal(b.v, a.v), less(b.u, a.u)));
    const Corner low{select(swap, b.u, a.u), select(swap, b.v, a.v), select(swap, b.key, a.key)};
    b = {select(swap, a.u, b.u), select(swap, a.v, b.v), select(swap, a.key, b.key)};
    a = low;
    flipped = except(either(flipped, swap), both(flipped, swap));
}

int set_up(const SetUpArgs& a, FastTriangle* out, bool* todo) {
    const ScreenVertex* vertices = a.vertices;
    const Floats zero = set1(0), half = set1(0.5f), one = set1(1), minus = set1(-1);
    const Floats width = set1(static_cast<float>(a.width)), height = set1(static_cast<float>(a.height));
    int made = 0;
    for (int64_t f = a.begin; f < a.end; f += kLanes) {
        const int lanes = a.end - f < kLanes ? static_cast<int>(a.end - f) : kLanes;
        int32_t copy[3 * kLanes];
        const int32_t* index = a.faces + 3 * f;
        uint32_t padding = 0;
        if (a.padding || lanes < kLanes) {
            for (int k = 0; k < kLanes; ++k) {
                const bool skip = k >= lanes || index[3 * k] < 0;
                padding |= static_cast<uint32_t>(skip) << k;
                for (int c = 0; c < 3; ++c) copy[3 * k + c] = skip ? 0 : index[3 * k + c];
            }
            if (padding == (1u << (kLanes - 1)) * 2 - 1) continue;
            index = copy;
        }
        Corner p[3];
        for (int c = 0; c < 3; ++c) {
            Floats z, q;
            load_rows([&](int k) { return &vertices[index[3 * k + c]].u; }, p[c].u, p[c].v, z, q);
            p[c].key = a.pinhole ? sub(zero, q) : z;
        }
        const Mask seen = ordered(add(add(p[0].u, p[1].u), p[2].u));  // no corner before the near plane
        Mask flipped = from_bits(0);
        order(p[0], p[1], flipped), order(p[1], p[2], flipped), order(p[0], p[1], flipped);

        const Floats dx01 = sub(p[1].u, p[0].u), dy01 = sub(p[1].v, p[0].v), dx02 = sub(p[2].u, p[0].u);
        const Floats dy02 = sub(p[2].v, p[0].v), dx12 = sub(p[2].u, p[1].u), dy12 = sub(p[2].v, p[1].v);
        const Floats area = sub_mul(mul(dx01, dy02), dy01, dx02);
        const Mask right = less(zero, area);  // the middle corner's side
        const Floats sign = select(right, one, minus), size = absolute(area);

        const Floats left = minimum(minimum(p[0].u, p[1].u), p[2].u), far = maximum(maximum(p[0].u, p[1].u), p[2].u);
        const Floats x0 = minimum(maximum(round_up(sub(left, half)), zero), width);
        const Floats x1 = minimum(maximum(add(round_down(sub(far, half)), one), zero), width);
        const Floats y0 = minimum(maximum(round_up(sub(p[0].v, half)), zero), height);
        const Floats y1 = minimum(maximum(add(round_down(sub(p[2].v, half)), one), zero), height);
        const Mask on_screen = both(less(x0, x1), less(y0, y1));

        // |dx| (py - ay) + |dy| (px - ax) is at most twice the box's area; single precision errs by 2^-22 of it.
        const Floats margin = mul(mul(add(sub(far, left), one), add(dy02, one)), set1(1.0f / (1 << 20)));
        const Mask sound = both(less(mul(margin, set1(1024)), size), less(size, set1(1e30f)));
        uint32_t keep = bits(both(seen, on_screen)), wide = bits(except(from_bits(keep), sound)) | ~bits(seen);
        if (a.cull) {
            const Mask clockwise = either(except(right, flipped), except(flipped, right));
            keep &= ~bits(clockwise) | wide;
        }
        keep = (keep | wide) & ~padding & ((1u << (kLanes - 1)) * 2 - 1);
        if (keep == 0) continue;

        const Floats scale = div(one, size), other = sub(zero, sign);
        const uint32_t left_over = wide & keep;
        if (left_over) *todo = true;
        const Floats mark = select(from_bits(left_over), set1(FastTriangle::kTodo), margin);
        FastTriangle spare, *to[kLanes];
        for (int k = 0; k < kLanes; ++k) {
            to[k] = keep >> k & 1 ? out + made : &spare;
            made += keep >> k & 1;
        }
        const auto put = [&to](size_t byte, Floats x, Floats y, Floats z, Floats w) __attribute__((always_inline)) {
            each_row(x, y, z, w, [&](int k, Row4 r) __attribute__((always_inline)) {
                store_row(reinterpret_cast<char*>(to[k]) + byte, r);
            });
        };
        put(offsetof(FastTriangle, u), p[0].u, p[1].u, p[2].u, p[0].v);
        put(offsetof(FastTriangle, v) + sizeof(float), p[1].v, p[2].v, mul(sign, dx01), mul(sign, dy01));
        put(offsetof(FastTriangle, dx12), mul(sign, dx12), mul(sign, dy12), mul(other, dx02), mul(other, dy02));
        put(offsetof(FastTriangle, key), p[0].key, mul(sub(p[1].key, p[0].key), scale), mul(sub(p[2].key, p[0].key), scale),
            mark);
        const Ints columns = pack16(truncate(x0), truncate(x1)), rows = pack16(truncate(y0), truncate(y1));
        put(offsetof(FastTriangle, x0), as_floats(columns), as_floats(rows),
            as_floats(count_from(static_cast<int32_t>(f))), zero);
    }
    return made;
}

/// Those of the given pixels (lanes of the block at x, y) that are inside, decided in double.
__attribute__((noinline)) uint32_t decide(const FastTriangle& t, uint32_t lanes, int x, int y) {
    ScreenTriangle<float> s;
    for (int i = 0; i < 3; ++i) s.u[i] = t.u[i], s.v[i] = t.v[i];
    const double sign = signed_area(s) > 0 ? 1 : -1;
    const Edge e01 = make_edge(s, 0, 1, sign), e12 = make_edge(s, 1, 2, sign), e02 = make_edge(s, 0, 2, -sign);
    uint32_t result = 0;
    for (; lanes; lanes &= lanes - 1) {
        const int k = __builtin_ctz(lanes);
        const double px = x + k % kBlockX + 0.5, py = y + k / kBlockX + 0.5;
        if (inside(edge_value(e01, px, py), e01.owns_zero) && inside(edge_value(e12, px, py), e12.owns_zero) &&
            inside(edge_value(e02, px, py), e02.owns_zero))
            result |= 1u << k;
    }
    return result;
}

/// Draw the pixels of a triangle that single precision finds inside, and, if `Exact`, decide those that it is not sure about.
/// Returns whether there are any of the latter.
template <bool Peel, bool Exact>
HL_OP bool draw_one(const TileView<float>& tile, const FastTriangle& t) {
    const int left = ((t.x0 > tile.x0 ? t.x0 : tile.x0) - tile.x0) & ~(kBlockX - 1);
    const int top = ((t.y0 > tile.y0 ? t.y0 : tile.y0) - tile.y0) & ~(kBlockY - 1);
    const int right = (t.x1 < tile.x1 ? t.x1 : tile.x1) - tile.x0, bottom = (t.y1 < tile.y1 ? t.y1 : tile.y1) - tile.y0;
    const Floats dx01 = set1(t.dx01), dy01 = set1(t.dy01), dx12 = set1(t.dx12), dy12 = set1(t.dy12);
    const Floats dx02 = set1(t.dx02), dy02 = set1(t.dy02), u0 = set1(t.u[0]), u1 = set1(t.u[1]);
    const Floats v0 = set1(t.v[0]), v1 = set1(t.v[1]);
    const Floats key0 = set1(t.key), key1 = set1(t.key1), key2 = set1(t.key2);
    const Floats margin = set1(t.margin), minus_margin = set1(-t.margin);
    const Floats centre_x = add(block_x(), set1(static_cast<float>(tile.x0) + 0.5f));
    const Floats centre_y = add(block_y(), set1(static_cast<float>(tile.y0) + 0.5f));
    const Ints face = set1i(t.face);
    float* const keys = tile.key;
    int32_t* const hits = tile.face;
    const int64_t pitch = static_cast<int64_t>(tile.blocks) * 16;
    Mask doubtful = from_bits(0);
    // Whole vectors at fixed places: a load that only partly overlaps a recent store would have to wait for it.
    for (int y = top; y < bottom; y += kBlockY) {
        const Floats py = add(set1(static_cast<float>(y)), centre_y);
        const Floats from0 = sub(py, v0), from1 = sub(py, v1);
        const Floats c01 = mul(dx01, from0), c02 = mul(dx02, from0), c12 = mul(dx12, from1);
        const int64_t row = (y >> 2) * pitch + (y & 3) * 4;
        for (int x = left; x < right; x += kBlockX) {
            const Floats px = add(set1(static_cast<float>(x)), centre_x);
            const Floats s0 = sub(px, u0), s1 = sub(px, u1);
            const Floats l2 = sub_mul(c01, dy01, s0), l1 = sub_mul(c02, dy02, s0), l0 = sub_mul(c12, dy12, s1);
            const Floats least = minimum(minimum(l0, l1), l2);
            Mask in = less(margin, least);
            const Mask unsure = except(less(minus_margin, least), in);
            doubtful = either(doubtful, unsure);
            if (Exact && bits(unsure)) in = either(in, from_bits(decide(t, bits(unsure), tile.x0 + x, tile.y0 + y)));
            const Floats key = mul_add(l2, key2, mul_add(l1, key1, key0));
            const int64_t at = row + (kBlockX == 4 ? x * 4 : (x >> 2) * 16 + (x & 3));
            const Floats before = load(keys + at);
            Mask draw = both(in, less(key, before));
            if (Peel) {
                const Floats last = load(tile.last_key + at);
                const Mask later = both(equal(key, last), less(loadi(tile.last_face + at), face));
                draw = both(draw, either(less(last, key), later));
            }
            store(keys + at, select(draw, key, before));
            storei(hits + at, select(draw, face, loadi(hits + at)));
        }
    }
    return bits(doubtful) != 0;
}

/// Again, with certainty: what was drawn before does not change.
template <bool Peel>
__attribute__((noinline)) void draw_exact(const TileView<float>& tile, const FastTriangle& t) {
    draw_one<Peel, true>(tile, t);
}

void draw(const TileView<float>& tile, const FastTriangle* triangles, const uint16_t* items, int64_t count) {
    for (int64_t i = 0; i < count; ++i) {
        const FastTriangle& t = triangles[items[i]];
        if (t.margin < 0)
            tile.draw_wide(tile, t.wide);
        else if (tile.last_key) {
            if (draw_one<true, false>(tile, t)) draw_exact<true>(tile, t);
        } else {
            if (draw_one<false, false>(tile, t)) draw_exact<false>(tile, t);
        }
    }
}

/// Vertices of up to kLanes pixels' faces, relative to the pixels (math.h: Weights), and the weights.
struct PixelWeights {
    Floats x[3], y[3], z[3], b[3], scale;
    Floats u, v;
};

/// `hit` holds kLanes faces that exist.
HL_OP void pixel_weights(const Vertex<float>* points, const int32_t* faces, const int32_t* hit, int x, int y, PixelWeights& p) {
    const int32_t* index[kLanes];
    for (int k = 0; k < kLanes; ++k) index[k] = faces + 3 * static_cast<int64_t>(hit[k]);
    p.u = add(lane_index(), set1(static_cast<float>(x) + 0.5f)), p.v = set1(static_cast<float>(y) + 0.5f);
    for (int c = 0; c < 3; ++c) {
        Floats w;
        load_rows([&](int k) { return &points[index[k][c]].x; }, p.x[c], p.y[c], p.z[c], w);
        p.x[c] = sub_mul(p.x[c], p.u, w), p.y[c] = sub_mul(p.y[c], p.v, w);
    }
    const Floats a0 = sub(mul(p.x[1], p.y[2]), mul(p.x[2], p.y[1]));
    const Floats a1 = sub(mul(p.x[2], p.y[0]), mul(p.x[0], p.y[2]));
    const Floats a2 = sub(mul(p.x[0], p.y[1]), mul(p.x[1], p.y[0]));
    const Floats sum = add(add(a0, a1), a2), zero = set1(0);
    p.scale = select(equal(sum, zero), zero, div(set1(1), sum));
    p.b[0] = mul(a0, p.scale), p.b[1] = mul(a1, p.scale), p.b[2] = mul(a2, p.scale);
}

/// A face hit by one of the pixels, or -1; and which pixels hit one.
HL_OP int32_t any_hit(const int32_t* hit, int count, uint32_t* lanes) {
    uint32_t mask = bits(less(set1i(-1), loadi(hit)));
    if (count < kLanes) mask &= (1u << count) - 1;
    *lanes = mask;
    return mask ? hit[__builtin_ctz(mask)] : -1;
}

void resolve(const ResolveArgs& a) {
    const Floats zero = set1(0);
    for (int i = 0; i < a.count; i += kLanes) {
        const int n = a.count - i < kLanes ? a.count - i : kLanes;
        uint32_t lanes;
        const int32_t any = any_hit(a.hit + i, n, &lanes);  // reading past the row's end is allowed here
        const Mask some = first_lanes(n);
        Floats depth = zero, b[3] = {zero, zero, zero};
        if (any >= 0) {
            alignas(64) int32_t hit[kLanes];
            const Mask on = from_bits(lanes);
            storei(hit, select(on, loadi(a.hit + i), set1i(any)));
            PixelWeights p;
            pixel_weights(a.points, a.faces, hit, a.x0 + i, a.y, p);
            for (int c = 0; c < 3; ++c) b[c] = select(on, p.b[c], zero);
            depth = mul_add(b[2], p.z[2], mul_add(b[1], p.z[1], mul(b[0], p.z[0])));
        }
        storei(a.face + i, some, loadi(a.hit + i));
        store(a.depth + i, some, depth);
        if (n == kLanes) {
            store_interleaved(a.bary + 3 * i, b[0], b[1], b[2]);
        } else {
            alignas(64) float row[3 * kLanes];
            store_interleaved(row, b[0], b[1], b[2]);
            for (int k = 0; k < 3 * n; ++k) a.bary[3 * i + k] = row[k];
        }
    }
}

void pixel_gradient(const PixelGradientArgs& a) {
    for (int i = 0; i < a.count; i += kLanes) {
        const int n = a.count - i < kLanes ? a.count - i : kLanes;
        alignas(64) int32_t hit[kLanes], there[kLanes];
        alignas(64) float gb[3][kLanes] = {}, gz[kLanes] = {};
        int32_t any = -1;
        for (int k = 0; k < kLanes; ++k) {
            hit[k] = k < n ? a.face[i + k] : -1;
            if (hit[k] >= 0) any = hit[k];
        }
        if (any < 0) continue;
        for (int k = 0; k < n; ++k) {
            if (a.grad_bary)
                for (int c = 0; c < 3; ++c) gb[c][k] = a.grad_bary[3 * (i + k) + c];
            if (a.grad_depth) gz[k] = a.grad_depth[i + k];
        }
        for (int k = 0; k < kLanes; ++k) there[k] = hit[k] < 0 ? any : hit[k];
        PixelWeights p;
        pixel_weights(a.points, a.faces, there, a.x0 + i, a.y, p);
        const Floats to_z = load(gz);
        Floats g[3];
        for (int c = 0; c < 3; ++c) g[c] = mul_add(to_z, p.z[c], load(gb[c]));
        const Floats mean = mul_add(g[2], p.b[2], mul_add(g[1], p.b[1], mul(g[0], p.b[0])));
        const Floats h0 = mul(sub(g[0], mean), p.scale), h1 = mul(sub(g[1], mean), p.scale);
        const Floats h2 = mul(sub(g[2], mean), p.scale);
        const Floats dx[3] = {sub(mul(h2, p.y[1]), mul(h1, p.y[2])), sub(mul(h0, p.y[2]), mul(h2, p.y[0])),
                              sub(mul(h1, p.y[0]), mul(h0, p.y[1]))};
        const Floats dy[3] = {sub(mul(h1, p.x[2]), mul(h2, p.x[1])), sub(mul(h2, p.x[0]), mul(h0, p.x[2])),
                              sub(mul(h0, p.x[1]), mul(h1, p.x[0]))};
        for (int c = 0; c < 3; ++c) {
            const Floats dw = sub(set1(0), mul_add(p.u, dx[c], mul(p.v, dy[c])));
            Row4 rows[kLanes];
            each_row(dx[c], dy[c], mul(to_z, p.b[c]), dw, [&](int k, Row4 r) { rows[k] = r; });
            for (int k = 0; k < kLanes; ++k)  // in pixel order, whatever the number of lanes
                if (hit[k] >= 0) add_row(&a.grad[a.faces[3 * static_cast<int64_t>(hit[k]) + c]].x, rows[k]);
        }
    }
}

void interpolate(const AttributeArgs& a) {
    const int64_t channels = a.channels, whole = channels / kLanes * kLanes;
    const Mask rest = first_lanes(static_cast<int>(channels - whole));
    for (int64_t i = 0; i < a.count; ++i) {
        float* out = a.out + i * channels;
        const int32_t f = a.face[i];
        if (f < 0) {
            for (int64_t c = 0; c < whole; c += kLanes) store(out + c, set1(0));
            if (whole < channels) store(out + whole, rest, set1(0));
            continue;
        }
        const int32_t* v = a.faces + 3 * static_cast<int64_t>(f);
        const Floats b0 = set1(a.bary[3 * i]), b1 = set1(a.bary[3 * i + 1]), b2 = set1(a.bary[3 * i + 2]);
        const float *v0 = a.attributes + v[0] * channels, *v1 = a.attributes + v[1] * channels,
                    *v2 = a.attributes + v[2] * channels;
        for (int64_t c = 0; c < whole; c += kLanes)
            store(out + c, mul_add(b2, load(v2 + c), mul_add(b1, load(v1 + c), mul(b0, load(v0 + c)))));
        if (whole < channels)
            store(out + whole, rest,
                  mul_add(b2, load(v2 + whole, rest), mul_add(b1, load(v1 + whole, rest), mul(b0, load(v0 + whole, rest)))));
    }
}

/// Pixels of one run see the same face: its attributes are loaded, and the sums for its vertices stored, once.
void attribute_gradient(const AttributeGradientArgs& a) {
    constexpr int64_t kRun = 64;
    const int64_t channels = a.channels;
    for (int64_t i = 0; i < a.count;) {
        const int32_t f = a.face[i];
        if (f < 0) {
            if (a.grad_bary) a.grad_bary[3 * i] = a.grad_bary[3 * i + 1] = a.grad_bary[3 * i + 2] = 0;
            ++i;
            continue;
        }
        int64_t end = i + 1;
        while (end < a.count && end < i + kRun && a.face[end] == f) ++end;
        const int32_t* v = a.faces + 3 * static_cast<int64_t>(f);
        const int64_t row[3] = {v[0] * channels, v[1] * channels, v[2] * channels};
        if (a.grad_bary)
            for (int64_t k = 3 * i; k < 3 * end; ++k) a.grad_bary[k] = 0;
        for (int64_t c = 0; c < channels; c += kLanes) {
            const Mask some = first_lanes(channels - c < kLanes ? static_cast<int>(channels - c) : kLanes);
            Floats value[3], sum[3];
            for (int k = 0; k < 3; ++k) {
                value[k] = a.grad_bary ? load(a.attributes + row[k] + c, some) : set1(0);
                sum[k] = set1(0);
            }
            for (int64_t p = i; p < end; ++p) {
                const Floats g = load(a.grad_out + p * channels + c, some);
                for (int k = 0; k < 3; ++k) sum[k] = mul_add(set1(a.bary[3 * p + k]), g, sum[k]);
                if (a.grad_bary) {
                    float dot[3];
                    sum_lanes(mul(value[0], g), mul(value[1], g), mul(value[2], g), dot);
                    for (int k = 0; k < 3; ++k) a.grad_bary[3 * p + k] += dot[k];
                }
            }
            if (a.grad_attributes)
                for (int k = 0; k < 3; ++k) {
                    float* to = a.grad_attributes + row[k] + c;
                    store(to, some, add(load(to, some), sum[k]));
                }
        }
        i = end;
    }
}

}  // namespace
}  // namespace headlab

#define HL_KERNELS(variable, text)                                                                       \
    namespace headlab {                                                                                  \
    const Kernels variable{text,    project,        set_up,      draw,                                   \
                           resolve, pixel_gradient, interpolate, attribute_gradient};                    \
    }
