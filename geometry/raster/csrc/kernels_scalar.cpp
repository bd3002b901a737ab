#include "simd_scalar.h"
//
#include "kernels.inl"
HL_KERNELS(kScalarKernels, "scalar")
