// Enough of CUDA to run csrc/cuda/raster.cu on the CPU, one thread after the other, warps of one lane.
#pragma once

#include <cmath>
#include <cstdint>
#include <cstring>

#define __device__
#define __global__
#define HL_WARP 1

struct dim3 {
    unsigned x = 1, y = 1, z = 1;
    dim3(unsigned a = 1, unsigned b = 1, unsigned c = 1) : x(a), y(b), z(c) {}
};
inline dim3 blockIdx, blockDim, gridDim, threadIdx;
using cudaStream_t = void*;

inline uint32_t __float_as_uint(float x) {
    uint32_t b;
    std::memcpy(&b, &x, sizeof b);
    return b;
}
inline float __shfl_xor_sync(unsigned, float x, int) { return x; }
inline int atomicAdd(int* to, int x) { return (*to += x) - x; }
inline unsigned long long atomicMin(unsigned long long* to, unsigned long long x) {
    const unsigned long long old = *to;
    if (x < old) *to = x;
    return old;
}

template <class Kernel>
void launch(dim3 grid, unsigned block, Kernel&& kernel) {
    gridDim = grid, blockDim = dim3(block);
    // Backwards: results must not depend on the order.
    for (unsigned y = grid.y; y-- > 0;)
        for (unsigned x = grid.x; x-- > 0;)
            for (unsigned t = block; t-- > 0;) {
                blockIdx = dim3(x, y), threadIdx = dim3(t);
                kernel();
            }
}
