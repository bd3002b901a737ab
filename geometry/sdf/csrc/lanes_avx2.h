// Eight float lanes: AVX2 and FMA. See lanes_plain.h for what each function means.
#pragma once

#include <immintrin.h>

#include <cstdint>

namespace headlab::field {
namespace {

constexpr int kLanes = 8, kVectors = 3, kUnits = 4;  // 12 sums, three rows and one weight in 16 registers
using Floats = __m256;
#define HL_OP static inline __attribute__((always_inline))

HL_OP Floats set1(float x) { return _mm256_set1_ps(x); }
HL_OP Floats load(const float* p) { return _mm256_loadu_ps(p); }
HL_OP void store(float* p, Floats x) { _mm256_storeu_ps(p, x); }
HL_OP Floats add(Floats a, Floats b) { return _mm256_add_ps(a, b); }
HL_OP Floats sub(Floats a, Floats b) { return _mm256_sub_ps(a, b); }
HL_OP Floats mul(Floats a, Floats b) { return _mm256_mul_ps(a, b); }
HL_OP Floats div(Floats a, Floats b) { return _mm256_div_ps(a, b); }
HL_OP Floats mul_add(Floats a, Floats b, Floats c) { return _mm256_fmadd_ps(a, b, c); }
HL_OP Floats maximum(Floats a, Floats b) { return _mm256_max_ps(a, b); }
HL_OP Floats absolute(Floats a) { return _mm256_andnot_ps(_mm256_set1_ps(-0.0f), a); }
HL_OP Floats root(Floats a) { return _mm256_sqrt_ps(a); }
HL_OP Floats nearest(Floats a) { return _mm256_round_ps(a, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC); }
HL_OP Floats times_power(Floats a, Floats n) {
    const __m256i whole = _mm256_cvtps_epi32(_mm256_max_ps(n, _mm256_set1_ps(-126.0f)));
    return _mm256_mul_ps(a, _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_add_epi32(whole, _mm256_set1_epi32(127)), 23)));
}
HL_OP Floats keep_less(Floats a, Floats b) { return _mm256_and_ps(_mm256_cmp_ps(a, b, _CMP_LT_OQ), a); }
HL_OP Floats if_more(Floats a, Floats b, Floats yes, Floats no) {
    return _mm256_blendv_ps(no, yes, _mm256_cmp_ps(a, b, _CMP_GT_OQ));
}
HL_OP uint32_t not_less(Floats a, Floats b) {
    return static_cast<uint32_t>(_mm256_movemask_ps(_mm256_cmp_ps(a, b, _CMP_NLT_UQ)));
}

}  // namespace
}  // namespace headlab::field
