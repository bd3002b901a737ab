// Sixteen float lanes: AVX-512 F, DQ, VL, BW. See simd_scalar.h for what each function means.
#pragma once

#include <immintrin.h>

#include <cstdint>

namespace headlab {
namespace {

constexpr int kLanes = 16;
using Floats = __m512;
using Ints = __m512i;
using Mask = __mmask16;

#define HL_OP static inline __attribute__((always_inline))

HL_OP Floats set1(float x) { return _mm512_set1_ps(x); }
HL_OP Ints set1i(int32_t x) { return _mm512_set1_epi32(x); }
HL_OP Floats lane_index() {
    return _mm512_setr_ps(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
}
HL_OP Ints count_from(int32_t first) {
    const __m512i lane = _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
    return _mm512_add_epi32(_mm512_set1_epi32(first), lane);
}
constexpr int kBlockX = 4, kBlockY = 4;
HL_OP Floats block_x() { return _mm512_setr_ps(0, 1, 2, 3, 0, 1, 2, 3, 0, 1, 2, 3, 0, 1, 2, 3); }
HL_OP Floats block_y() { return _mm512_setr_ps(0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 2, 2, 3, 3, 3, 3); }
HL_OP Floats load(const float* p) { return _mm512_loadu_ps(p); }
HL_OP Ints loadi(const int32_t* p) { return _mm512_loadu_si512(p); }
HL_OP void store(float* p, Floats x) { _mm512_storeu_ps(p, x); }
HL_OP void storei(int32_t* p, Ints x) { _mm512_storeu_si512(p, x); }
HL_OP void store(float* p, Mask m, Floats x) { _mm512_mask_storeu_ps(p, m, x); }
HL_OP void storei(int32_t* p, Mask m, Ints x) { _mm512_mask_storeu_epi32(p, m, x); }
HL_OP Ints pack16(Ints low, Ints high) { return _mm512_or_si512(low, _mm512_slli_epi32(high, 16)); }
HL_OP Floats as_floats(Ints x) { return _mm512_castsi512_ps(x); }
HL_OP Mask first_lanes(int n) { return n >= 16 ? Mask(0xffff) : Mask((1u << n) - 1); }
HL_OP Floats load(const float* p, Mask m) { return _mm512_maskz_loadu_ps(m, p); }

HL_OP Floats add(Floats a, Floats b) { return _mm512_add_ps(a, b); }
HL_OP Floats sub(Floats a, Floats b) { return _mm512_sub_ps(a, b); }
HL_OP Floats mul(Floats a, Floats b) { return _mm512_mul_ps(a, b); }
HL_OP Floats div(Floats a, Floats b) { return _mm512_div_ps(a, b); }
HL_OP Floats mul_add(Floats a, Floats b, Floats c) { return _mm512_fmadd_ps(a, b, c); }
HL_OP Floats sub_mul(Floats c, Floats a, Floats b) { return _mm512_fnmadd_ps(a, b, c); }
HL_OP Floats minimum(Floats a, Floats b) { return _mm512_min_ps(a, b); }
HL_OP Floats maximum(Floats a, Floats b) { return _mm512_max_ps(a, b); }
HL_OP Floats absolute(Floats a) { return _mm512_abs_ps(a); }
HL_OP Floats round_up(Floats a) { return _mm512_roundscale_ps(a, _MM_FROUND_TO_POS_INF | _MM_FROUND_NO_EXC); }
HL_OP Floats round_down(Floats a) { return _mm512_roundscale_ps(a, _MM_FROUND_TO_NEG_INF | _MM_FROUND_NO_EXC); }
HL_OP Ints truncate(Floats a) { return _mm512_cvttps_epi32(a); }

HL_OP Mask less(Floats a, Floats b) { return _mm512_cmp_ps_mask(a, b, _CMP_LT_OQ); }
HL_OP Mask equal(Floats a, Floats b) { return _mm512_cmp_ps_mask(a, b, _CMP_EQ_OQ); }
HL_OP Mask ordered(Floats a) { return _mm512_cmp_ps_mask(a, a, _CMP_ORD_Q); }
HL_OP Mask less(Ints a, Ints b) { return _mm512_cmplt_epi32_mask(a, b); }
HL_OP Mask both(Mask a, Mask b) { return Mask(a & b); }
HL_OP Mask either(Mask a, Mask b) { return Mask(a | b); }
HL_OP Mask except(Mask a, Mask b) { return Mask(a & ~b); }
HL_OP uint32_t bits(Mask m) { return m; }
HL_OP Mask from_bits(uint32_t b) { return Mask(b); }
HL_OP Floats select(Mask m, Floats yes, Floats no) { return _mm512_mask_blend_ps(m, no, yes); }
HL_OP Ints select(Mask m, Ints yes, Ints no) { return _mm512_mask_blend_epi32(m, no, yes); }

/// Rows of four floats, one per lane, as four vectors. `row(i)` gives the address of lane i's.
template <class Row>
HL_OP void load_rows(Row&& row, Floats& x, Floats& y, Floats& z, Floats& w) {
    const auto four = [&](int k) __attribute__((always_inline)) {
        __m512 r = _mm512_castps128_ps512(_mm_loadu_ps(row(k)));
        r = _mm512_insertf32x4(r, _mm_loadu_ps(row(4 + k)), 1);
        r = _mm512_insertf32x4(r, _mm_loadu_ps(row(8 + k)), 2);
        return _mm512_insertf32x4(r, _mm_loadu_ps(row(12 + k)), 3);
    };
    const __m512 r0 = four(0), r1 = four(1), r2 = four(2), r3 = four(3);
    const __m512 a = _mm512_unpacklo_ps(r0, r1), b = _mm512_unpackhi_ps(r0, r1);
    const __m512 c = _mm512_unpacklo_ps(r2, r3), d = _mm512_unpackhi_ps(r2, r3);
    x = _mm512_shuffle_ps(a, c, 0x44), y = _mm512_shuffle_ps(a, c, 0xee);
    z = _mm512_shuffle_ps(b, d, 0x44), w = _mm512_shuffle_ps(b, d, 0xee);
}

/// Four vectors as rows of four floats, one per lane.
template <class Use>
HL_OP void each_row(Floats x, Floats y, Floats z, Floats w, Use&& use) {
    const __m512 a = _mm512_unpacklo_ps(x, y), b = _mm512_unpackhi_ps(x, y);
    const __m512 c = _mm512_unpacklo_ps(z, w), d = _mm512_unpackhi_ps(z, w);
    const __m512 r[4] = {_mm512_shuffle_ps(a, c, 0x44), _mm512_shuffle_ps(a, c, 0xee), _mm512_shuffle_ps(b, d, 0x44),
                         _mm512_shuffle_ps(b, d, 0xee)};
    for (int k = 0; k < 4; ++k) {
        use(k, _mm512_castps512_ps128(r[k]));
        use(4 + k, _mm512_extractf32x4_ps(r[k], 1));
        use(8 + k, _mm512_extractf32x4_ps(r[k], 2));
        use(12 + k, _mm512_extractf32x4_ps(r[k], 3));
    }
}
using Row4 = __m128;
HL_OP void store_row(void* p, Row4 r) { _mm_storeu_ps(static_cast<float*>(p), r); }
HL_OP void add_row(float* p, Row4 r) { _mm_storeu_ps(p, _mm_add_ps(_mm_loadu_ps(p), r)); }

/// Three vectors interleaved: a0 b0 c0 a1 b1 c1 ...
HL_OP void store_interleaved(float* p, Floats a, Floats b, Floats c) {
    const __m512i ab0 = _mm512_setr_epi32(0, 16, 0, 1, 17, 0, 2, 18, 0, 3, 19, 0, 4, 20, 0, 5);
    const __m512i c0 = _mm512_setr_epi32(0, 1, 16, 3, 4, 17, 6, 7, 18, 9, 10, 19, 12, 13, 20, 15);
    const __m512i ab1 = _mm512_setr_epi32(21, 0, 6, 22, 0, 7, 23, 0, 8, 24, 0, 9, 25, 0, 10, 26);
    const __m512i c1 = _mm512_setr_epi32(0, 21, 2, 3, 22, 5, 6, 23, 8, 9, 24, 11, 12, 25, 14, 15);
    const __m512i ab2 = _mm512_setr_epi32(0, 11, 27, 0, 12, 28, 0, 13, 29, 0, 14, 30, 0, 15, 31, 0);
    const __m512i c2 = _mm512_setr_epi32(26, 1, 2, 27, 4, 5, 28, 7, 8, 29, 10, 11, 30, 13, 14, 31);
    _mm512_storeu_ps(p, _mm512_permutex2var_ps(_mm512_permutex2var_ps(a, ab0, b), c0, c));
    _mm512_storeu_ps(p + 16, _mm512_permutex2var_ps(_mm512_permutex2var_ps(a, ab1, b), c1, c));
    _mm512_storeu_ps(p + 32, _mm512_permutex2var_ps(_mm512_permutex2var_ps(a, ab2, b), c2, c));
}

/// The sums of three vectors' lanes, in out[0..2]. Always added in the same order.
HL_OP void sum_lanes(Floats a, Floats b, Floats c, float* out) {
    const auto quarter = [](__m512 x) __attribute__((always_inline)) {
        const __m256 h = _mm256_add_ps(_mm512_castps512_ps256(x), _mm512_extractf32x8_ps(x, 1));
        return _mm_add_ps(_mm256_castps256_ps128(h), _mm256_extractf128_ps(h, 1));
    };
    const __m128 qc = quarter(c), r = _mm_hadd_ps(_mm_hadd_ps(quarter(a), quarter(b)), _mm_hadd_ps(qc, qc));
    _mm_storel_pi(reinterpret_cast<__m64*>(out), r);
    out[2] = _mm_cvtss_f32(_mm_movehl_ps(r, r));
}

}  // namespace
}  // namespace headlab
