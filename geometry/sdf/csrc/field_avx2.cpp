#include "lanes_avx2.h"
//
#include "field.inl"
HL_FIELD_KERNELS(kAvx2Kernels)
