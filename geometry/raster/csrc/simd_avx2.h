// Eight float lanes: AVX2 and FMA. See simd_scalar.h for what each function means.
#pragma once

#include <immintrin.h>

#include <cstdint>

namespace headlab {
namespace {

constexpr int kLanes = 8;
using Floats = __m256;
using Ints = __m256i;
struct Mask {
    __m256 v;
};

#define HL_OP static inline __attribute__((always_inline))

HL_OP Floats set1(float x) { return _mm256_set1_ps(x); }
HL_OP Ints set1i(int32_t x) { return _mm256_set1_epi32(x); }
HL_OP Floats lane_index() { return _mm256_setr_ps(0, 1, 2, 3, 4, 5, 6, 7); }
HL_OP Ints count_from(int32_t first) {
    return _mm256_add_epi32(_mm256_set1_epi32(first), _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7));
}
constexpr int kBlockX = 4, kBlockY = 2;
HL_OP Floats block_x() { return _mm256_setr_ps(0, 1, 2, 3, 0, 1, 2, 3); }
HL_OP Floats block_y() { return _mm256_setr_ps(0, 0, 0, 0, 1, 1, 1, 1); }
HL_OP Floats load(const float* p) { return _mm256_loadu_ps(p); }
HL_OP Ints loadi(const int32_t* p) { return _mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)); }
HL_OP void store(float* p, Floats x) { _mm256_storeu_ps(p, x); }
HL_OP void storei(int32_t* p, Ints x) { _mm256_storeu_si256(reinterpret_cast<__m256i*>(p), x); }
HL_OP void store(float* p, Mask m, Floats x) { _mm256_maskstore_ps(p, _mm256_castps_si256(m.v), x); }
HL_OP void storei(int32_t* p, Mask m, Ints x) { _mm256_maskstore_epi32(p, _mm256_castps_si256(m.v), x); }
HL_OP Ints pack16(Ints low, Ints high) { return _mm256_or_si256(low, _mm256_slli_epi32(high, 16)); }
HL_OP Floats as_floats(Ints x) { return _mm256_castsi256_ps(x); }
HL_OP Mask from_bits(uint32_t b) {
    const __m256i lane = _mm256_setr_epi32(1, 2, 4, 8, 16, 32, 64, 128);
    const __m256i on = _mm256_and_si256(_mm256_set1_epi32(static_cast<int>(b)), lane);
    return {_mm256_castsi256_ps(_mm256_cmpeq_epi32(on, lane))};
}
HL_OP Mask first_lanes(int n) {
    const __m256i lane = _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7);
    return {_mm256_castsi256_ps(_mm256_cmpgt_epi32(_mm256_set1_epi32(n), lane))};
}
HL_OP Floats load(const float* p, Mask m) { return _mm256_maskload_ps(p, _mm256_castps_si256(m.v)); }

HL_OP Floats add(Floats a, Floats b) { return _mm256_add_ps(a, b); }
HL_OP Floats sub(Floats a, Floats b) { return _mm256_sub_ps(a, b); }
HL_OP Floats mul(Floats a, Floats b) { return _mm256_mul_ps(a, b); }
HL_OP Floats div(Floats a, Floats b) { return _mm256_div_ps(a, b); }
HL_OP Floats mul_add(Floats a, Floats b, Floats c) { return _mm256_fmadd_ps(a, b, c); }
HL_OP Floats sub_mul(Floats c, Floats a, Floats b) { return _mm256_fnmadd_ps(a, b, c); }
HL_OP Floats minimum(Floats a, Floats b) { return _mm256_min_ps(a, b); }
HL_OP Floats maximum(Floats a, Floats b) { return _mm256_max_ps(a, b); }
HL_OP Floats absolute(Floats a) { return _mm256_andnot_ps(_mm256_set1_ps(-0.0f), a); }
HL_OP Floats round_up(Floats a) { return _mm256_ceil_ps(a); }
HL_OP Floats round_down(Floats a) { return _mm256_floor_ps(a); }
HL_OP Ints truncate(Floats a) { return _mm256_cvttps_epi32(a); }

HL_OP Mask less(Floats a, Floats b) { return {_mm256_cmp_ps(a, b, _CMP_LT_OQ)}; }
HL_OP Mask equal(Floats a, Floats b) { return {_mm256_cmp_ps(a, b, _CMP_EQ_OQ)}; }
HL_OP Mask ordered(Floats a) { return {_mm256_cmp_ps(a, a, _CMP_ORD_Q)}; }
HL_OP Mask less(Ints a, Ints b) { return {_mm256_castsi256_ps(_mm256_cmpgt_epi32(b, a))}; }
HL_OP Mask both(Mask a, Mask b) { return {_mm256_and_ps(a.v, b.v)}; }
HL_OP Mask either(Mask a, Mask b) { return {_mm256_or_ps(a.v, b.v)}; }
HL_OP Mask except(Mask a, Mask b) { return {_mm256_andnot_ps(b.v, a.v)}; }
HL_OP uint32_t bits(Mask m) { return static_cast<uint32_t>(_mm256_movemask_ps(m.v)); }
HL_OP Floats select(Mask m, Floats yes, Floats no) { return _mm256_blendv_ps(no, yes, m.v); }
HL_OP Ints select(Mask m, Ints yes, Ints no) { return _mm256_blendv_epi8(no, yes, _mm256_castps_si256(m.v)); }

template <class Row>
HL_OP void load_rows(Row&& row, Floats& x, Floats& y, Floats& z, Floats& w) {
    const auto two = [&](int k) __attribute__((always_inline)) {
        return _mm256_insertf128_ps(_mm256_castps128_ps256(_mm_loadu_ps(row(k))), _mm_loadu_ps(row(4 + k)), 1);
    };
    const __m256 r0 = two(0), r1 = two(1), r2 = two(2), r3 = two(3);
    const __m256 a = _mm256_unpacklo_ps(r0, r1), b = _mm256_unpackhi_ps(r0, r1);
    const __m256 c = _mm256_unpacklo_ps(r2, r3), d = _mm256_unpackhi_ps(r2, r3);
    x = _mm256_shuffle_ps(a, c, 0x44), y = _mm256_shuffle_ps(a, c, 0xee);
    z = _mm256_shuffle_ps(b, d, 0x44), w = _mm256_shuffle_ps(b, d, 0xee);
}

template <class Use>
HL_OP void each_row(Floats x, Floats y, Floats z, Floats w, Use&& use) {
    const __m256 a = _mm256_unpacklo_ps(x, y), b = _mm256_unpackhi_ps(x, y);
    const __m256 c = _mm256_unpacklo_ps(z, w), d = _mm256_unpackhi_ps(z, w);
    const __m256 r[4] = {_mm256_shuffle_ps(a, c, 0x44), _mm256_shuffle_ps(a, c, 0xee), _mm256_shuffle_ps(b, d, 0x44),
                         _mm256_shuffle_ps(b, d, 0xee)};
    for (int k = 0; k < 4; ++k) {
        use(k, _mm256_castps256_ps128(r[k]));
        use(4 + k, _mm256_extractf128_ps(r[k], 1));
    }
}
using Row4 = __m128;
HL_OP void store_row(void* p, Row4 r) { _mm_storeu_ps(static_cast<float*>(p), r); }
HL_OP void add_row(float* p, Row4 r) { _mm_storeu_ps(p, _mm_add_ps(_mm_loadu_ps(p), r)); }

HL_OP void store_interleaved(float* p, Floats a, Floats b, Floats c) {
    const __m256i third = _mm256_setr_epi32(0, 3, 6, 1, 4, 7, 2, 5);
    const __m256 x = _mm256_permutevar8x32_ps(a, third);  // a0 a3 a6 a1 a4 a7 a2 a5
    const __m256 y = _mm256_permutevar8x32_ps(b, _mm256_setr_epi32(5, 0, 3, 6, 1, 4, 7, 2));
    const __m256 z = _mm256_permutevar8x32_ps(c, _mm256_setr_epi32(2, 5, 0, 3, 6, 1, 4, 7));
    // Lane i of the first eight holds a where i % 3 == 0, b where 1, c where 2; and so on through 24 places.
    _mm256_storeu_ps(p, _mm256_blend_ps(_mm256_blend_ps(x, y, 0x92), z, 0x24));
    _mm256_storeu_ps(p + 8, _mm256_blend_ps(_mm256_blend_ps(z, x, 0x92), y, 0x24));
    _mm256_storeu_ps(p + 16, _mm256_blend_ps(_mm256_blend_ps(y, z, 0x92), x, 0x24));
}

HL_OP void sum_lanes(Floats a, Floats b, Floats c, float* out) {
    const auto half = [](__m256 x) __attribute__((always_inline)) {
        return _mm_add_ps(_mm256_castps256_ps128(x), _mm256_extractf128_ps(x, 1));
    };
    const __m128 hc = half(c), r = _mm_hadd_ps(_mm_hadd_ps(half(a), half(b)), _mm_hadd_ps(hc, hc));
    _mm_storel_pi(reinterpret_cast<__m64*>(out), r);
    out[2] = _mm_cvtss_f32(_mm_movehl_ps(r, r));
}

}  // namespace
}  // namespace headlab
