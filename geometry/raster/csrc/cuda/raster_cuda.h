// The CUDA driver: float32, every array in device memory, every launch on the caller's stream, nothing allocated here.
//
// Forward. One thread sets up a face and draws it if it is small; larger ones go to a list that whole blocks draw. A pixel
// holds (depth key, face) packed into 64 bits and takes the smallest by atomicMin: nearest first, then the smaller face,
// whatever the order of arrival. Deeper layers take the smallest above the layer before.
//
// Backward without atomics. The caller sorts pixels by face and corners by vertex (stably), and passes where each face's
// pixels and each vertex's corners begin. One warp sums a face's pixels, one thread a vertex's corners: fixed orders.
//
// Faces with an index out of range or a vertex that is not finite are not drawn; nothing is copied back to tell.
#pragma once

#include <cstdint>

#include "../math.h"

namespace headlab {

struct CudaMesh {
    const Vertex<float>* points;
    const int32_t* faces;
    bool faces_batched;
    int64_t batch, verts, count;
};

struct CudaRasterize {
    CudaMesh mesh;
    int height, width, layers;
    float near_plane;
    bool cull;
    uint64_t *nearest, *last;  // (batch, height, width) each; `last` may be null for one layer
    int32_t* large;            // 1 + 2 * batch * count
    int32_t* face;
    float *bary, *depth;
};
void cuda_rasterize(const CudaRasterize& args, void* stream);

/// Pixels sorted by batch item and face: those of face f of item b are pixels[begin[b * count + f] .. begin[.. + 1]).
struct CudaPixelLists {
    const int64_t *pixels, *begin;
};

struct CudaRasterizeBackward {
    CudaMesh mesh;
    int64_t height, width, layers;
    CudaPixelLists lists;
    const float *grad_bary, *grad_depth;  // either may be null
    float* corners;                       // out: (batch, count, 3, 4)
};
void cuda_rasterize_backward(const CudaRasterizeBackward& args, void* stream);

struct CudaInterpolate {
    const float* attributes;
    bool attributes_batched;
    const int32_t* faces;
    bool faces_batched;
    int64_t batch, verts, count, channels, pixels;  // pixels of one item, layers included
    const int32_t* face;
    const float* bary;
    float* out;
};
void cuda_interpolate(const CudaInterpolate& args, void* stream);

struct CudaInterpolateBackward {
    CudaInterpolate forward;  // `out` unused
    const float* grad_out;
    float* grad_bary;  // or null
    CudaPixelLists lists;
    float* corners;  // out: (batch, count, 3, channels); or null
};
void cuda_interpolate_backward(const CudaInterpolateBackward& args, void* stream);

/// out[b, v, c] = sum of corners[b, i, c] over the corners i of vertex v; over all items too if `summed`.
struct CudaGather {
    const float* corners;  // (batch, slots, channels)
    const int64_t* order;  // (lists, slots): corner indices sorted by vertex
    const int64_t* begin;  // (lists, verts + 1)
    bool lists_batched, summed;
    int64_t batch, verts, slots, channels;
    float* out;
};
void cuda_gather(const CudaGather& args, void* stream);

}  // namespace headlab
