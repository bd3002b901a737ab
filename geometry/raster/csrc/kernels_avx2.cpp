#include "simd_avx2.h"
//
#include "kernels.inl"
HL_KERNELS(kAvx2Kernels, "avx2")
