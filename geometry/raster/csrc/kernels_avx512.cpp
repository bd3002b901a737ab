#include "simd_avx512.h"
//
#include "kernels.inl"
HL_KERNELS(kAvx512Kernels, "avx512")
