#include "lanes_avx512.h"
//
#include "field.inl"
HL_FIELD_KERNELS(kAvx512Kernels)
