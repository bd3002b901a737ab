// One float lane, for processors without AVX2. The same names exist for eight (simd_avx2.h) and sixteen lanes
// (simd_avx512.h); kernels.inl is written once on top of them.
#pragma once

#include <cmath>
#include <cstdint>
#include <cstring>

namespace headlab {
namespace {

constexpr int kLanes = 1;
using Floats = float;
using Ints = int32_t;
using Mask = bool;

#ifdef _MSC_VER
#define HL_OP static __forceinline
#else
#define HL_OP static inline __attribute__((always_inline))
#endif

HL_OP Floats set1(float x) { return x; }
HL_OP Ints set1i(int32_t x) { return x; }
HL_OP Floats lane_index() { return 0; }
HL_OP Ints count_from(int32_t first) { return first; }  // first, first + 1, ...
/// Places of the lanes in a block of the tile (kernels.h).
constexpr int kBlockX = 1, kBlockY = 1;
HL_OP Floats block_x() { return 0; }
HL_OP Floats block_y() { return 0; }
HL_OP Floats load(const float* p) { return *p; }
HL_OP Ints loadi(const int32_t* p) { return *p; }
HL_OP void store(float* p, Floats x) { *p = x; }
HL_OP void storei(int32_t* p, Ints x) { *p = x; }
HL_OP void store(float* p, Mask m, Floats x) {
    if (m) *p = x;
}
HL_OP void storei(int32_t* p, Mask m, Ints x) {
    if (m) *p = x;
}
HL_OP Ints pack16(Ints low, Ints high) {  // low | high << 16
    return static_cast<Ints>(static_cast<uint32_t>(high) << 16 | static_cast<uint32_t>(low));
}
HL_OP Floats as_floats(Ints x) {
    Floats f;
    std::memcpy(&f, &x, sizeof f);
    return f;
}
HL_OP Mask from_bits(uint32_t b) { return (b & 1) != 0; }
HL_OP Mask first_lanes(int n) { return n > 0; }
HL_OP Floats load(const float* p, Mask m) { return m ? *p : 0; }

HL_OP Floats add(Floats a, Floats b) { return a + b; }
HL_OP Floats sub(Floats a, Floats b) { return a - b; }
HL_OP Floats mul(Floats a, Floats b) { return a * b; }
HL_OP Floats div(Floats a, Floats b) { return a / b; }
/// a b + c and c - a b, rounded once (here by way of double).
HL_OP Floats mul_add(Floats a, Floats b, Floats c) { return static_cast<float>(double(a) * double(b) + double(c)); }
HL_OP Floats sub_mul(Floats c, Floats a, Floats b) { return static_cast<float>(double(c) - double(a) * double(b)); }
HL_OP Floats minimum(Floats a, Floats b) { return a < b ? a : b; }
HL_OP Floats maximum(Floats a, Floats b) { return a > b ? a : b; }
HL_OP Floats absolute(Floats a) { return std::fabs(a); }
HL_OP Floats round_up(Floats a) { return std::ceil(a); }
HL_OP Floats round_down(Floats a) { return std::floor(a); }
HL_OP Ints truncate(Floats a) { return static_cast<int32_t>(a); }

HL_OP Mask less(Floats a, Floats b) { return a < b; }
HL_OP Mask equal(Floats a, Floats b) { return a == b; }
HL_OP Mask ordered(Floats a) { return a == a; }
HL_OP Mask less(Ints a, Ints b) { return a < b; }
HL_OP Mask both(Mask a, Mask b) { return a && b; }
HL_OP Mask either(Mask a, Mask b) { return a || b; }
HL_OP Mask except(Mask a, Mask b) { return a && !b; }
HL_OP uint32_t bits(Mask m) { return m ? 1u : 0u; }
HL_OP Floats select(Mask m, Floats yes, Floats no) { return m ? yes : no; }
HL_OP Ints select(Mask m, Ints yes, Ints no) { return m ? yes : no; }

template <class Row>
HL_OP void load_rows(Row&& row, Floats& x, Floats& y, Floats& z, Floats& w) {
    const float* p = row(0);
    x = p[0], y = p[1], z = p[2], w = p[3];
}

struct Row4 {
    float x, y, z, w;
};
template <class Use>
HL_OP void each_row(Floats x, Floats y, Floats z, Floats w, Use&& use) {
    use(0, Row4{x, y, z, w});
}
HL_OP void store_row(void* p, Row4 r) { std::memcpy(p, &r, sizeof r); }
HL_OP void add_row(float* p, Row4 r) { p[0] += r.x, p[1] += r.y, p[2] += r.z, p[3] += r.w; }
HL_OP void store_interleaved(float* p, Floats a, Floats b, Floats c) { p[0] = a, p[1] = b, p[2] = c; }
HL_OP void sum_lanes(Floats a, Floats b, Floats c, float* out) { out[0] = a, out[1] = b, out[2] = c; }

}  // namespace
}  // namespace headlab
