// Sixteen float lanes. See lanes_plain.h for what each function means.
#pragma once

#include <immintrin.h>

#include <cstdint>

namespace headlab::field {
namespace {

constexpr int kLanes = 16, kVectors = 3, kUnits = 8;  // 24 sums, three rows and one weight in 32 registers
using Floats = __m512;
#define HL_OP static inline __attribute__((always_inline))

HL_OP Floats set1(float x) { return _mm512_set1_ps(x); }
HL_OP Floats load(const float* p) { return _mm512_loadu_ps(p); }
HL_OP void store(float* p, Floats x) { _mm512_storeu_ps(p, x); }
HL_OP Floats add(Floats a, Floats b) { return _mm512_add_ps(a, b); }
HL_OP Floats sub(Floats a, Floats b) { return _mm512_sub_ps(a, b); }
HL_OP Floats mul(Floats a, Floats b) { return _mm512_mul_ps(a, b); }
HL_OP Floats div(Floats a, Floats b) { return _mm512_div_ps(a, b); }
HL_OP Floats mul_add(Floats a, Floats b, Floats c) { return _mm512_fmadd_ps(a, b, c); }
HL_OP Floats maximum(Floats a, Floats b) { return _mm512_max_ps(a, b); }
HL_OP Floats absolute(Floats a) { return _mm512_abs_ps(a); }
HL_OP Floats root(Floats a) { return _mm512_sqrt_ps(a); }
HL_OP Floats nearest(Floats a) { return _mm512_roundscale_ps(a, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC); }
HL_OP Floats times_power(Floats a, Floats n) { return _mm512_scalef_ps(a, n); }
HL_OP Floats keep_less(Floats a, Floats b) { return _mm512_maskz_mov_ps(_mm512_cmp_ps_mask(a, b, _CMP_LT_OQ), a); }
HL_OP Floats if_more(Floats a, Floats b, Floats yes, Floats no) {
    return _mm512_mask_blend_ps(_mm512_cmp_ps_mask(a, b, _CMP_GT_OQ), no, yes);
}
HL_OP uint32_t not_less(Floats a, Floats b) { return _mm512_cmp_ps_mask(a, b, _CMP_NLT_UQ); }

}  // namespace
}  // namespace headlab::field
