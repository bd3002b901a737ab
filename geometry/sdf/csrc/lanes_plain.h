// Four float lanes without intrinsics: the compiler's vector types, so NEON or SSE2 where there is such a thing.
#pragma once

#include <cmath>
#include <cstdint>
#include <cstring>

namespace headlab::field {
namespace {

constexpr int kLanes = 4, kVectors = 3, kUnits = 4;
typedef float Floats __attribute__((vector_size(16)));
typedef int32_t Ints __attribute__((vector_size(16)));
#define HL_OP static inline __attribute__((always_inline))

HL_OP Floats set1(float x) { return Floats{x, x, x, x}; }
HL_OP Floats load(const float* p) {
    Floats x;
    std::memcpy(&x, p, sizeof x);
    return x;
}
HL_OP void store(float* p, Floats x) { std::memcpy(p, &x, sizeof x); }
HL_OP Floats add(Floats a, Floats b) { return a + b; }
HL_OP Floats sub(Floats a, Floats b) { return a - b; }
HL_OP Floats mul(Floats a, Floats b) { return a * b; }
HL_OP Floats div(Floats a, Floats b) { return a / b; }
HL_OP Floats mul_add(Floats a, Floats b, Floats c) { return a * b + c; }
HL_OP Floats maximum(Floats a, Floats b) { return a > b ? a : b; }
HL_OP Floats absolute(Floats a) { return a < 0 ? -a : a; }
HL_OP Floats root(Floats a) { return Floats{std::sqrt(a[0]), std::sqrt(a[1]), std::sqrt(a[2]), std::sqrt(a[3])}; }
/// To whole numbers, for |a| < 2^22.
HL_OP Floats nearest(Floats a) {
    const Floats big = set1(12582912.0f);  // 1.5 * 2^23: its last bit is worth 1
    return (a + big) - big;
}
/// a 2^n for whole n from -126; smaller ones count as -126.
HL_OP Floats times_power(Floats a, Floats n) {
    const Ints whole = __builtin_convertvector(maximum(n, set1(-126.0f)), Ints);
    const Ints bits = (whole + 127) << 23;
    Floats power;
    std::memcpy(&power, &bits, sizeof power);
    return a * power;
}
/// a where it is less than b, else 0.
HL_OP Floats keep_less(Floats a, Floats b) { return a < b ? a : set1(0); }
HL_OP Floats if_more(Floats a, Floats b, Floats yes, Floats no) { return a > b ? yes : no; }
/// A bit per lane.
HL_OP uint32_t not_less(Floats a, Floats b) {
    uint32_t out = 0;
    for (int i = 0; i < kLanes; ++i) out |= static_cast<uint32_t>(!(a[i] < b[i])) << i;
    return out;
}

}  // namespace
}  // namespace headlab::field
