// What the kernels share.
#pragma once

#include <cstdint>

namespace headlab {
namespace {

constexpr int kThreads = 128;
#ifdef HL_WARP  // the emulation in the tests has no lanes
constexpr int kWarp = HL_WARP;
#else
constexpr int kWarp = 32;
#endif

inline unsigned blocks_for(int64_t work) {
    const int64_t blocks = (work + kThreads - 1) / kThreads;
    return static_cast<unsigned>(blocks < 1 ? 1 : blocks > (int64_t(1) << 30) ? int64_t(1) << 30 : blocks);
}

__device__ inline int64_t thread_index() { return static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x; }
__device__ inline int64_t thread_count() { return static_cast<int64_t>(gridDim.x) * blockDim.x; }

__device__ inline bool valid_face(const int32_t* v, int64_t verts) {
    return v[0] >= 0 && v[1] >= 0 && v[2] >= 0 && v[0] < verts && v[1] < verts && v[2] < verts;
}

/// Sum over a warp, always in the same order; every lane gets it.
__device__ inline float warp_sum(float x) {
    for (int offset = kWarp / 2; offset > 0; offset >>= 1) x += __shfl_xor_sync(0xffffffffu, x, offset);
    return x;
}

}  // namespace
}  // namespace headlab
