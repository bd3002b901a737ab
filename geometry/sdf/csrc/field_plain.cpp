#include "lanes_plain.h"
//
#include "field.inl"
HL_FIELD_KERNELS(kScalarKernels)
