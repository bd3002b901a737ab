// The CUDA driver: every array in device memory, every launch on the caller's stream, nothing allocated here. float32;
// closest points and normals in float64 too.
//
// Forward. One thread sets up a face and draws it if it is small; larger ones go to a list that whole blocks draw. A pixel
// holds (depth key, face) packed into 64 bits and takes the smallest by atomicMin: nearest first, then the smaller face,
// whatever the order of arrival. Deeper layers take the smallest above the layer before.
//
// Backward without atomics. The caller sorts pixels by face and corners by vertex (stably), and passes where each face's
// pixels and each vertex's corners begin. One warp sums a face's pixels, one thread a vertex's corners: fixed orders.
// Antialiasing's forward pass and its gradient to the picture gather from the four neighbours.
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

/// Each pixel and its right and lower neighbour are a pair: 2 * pixel and 2 * pixel + 1, counted over the batch.
struct CudaAntialias {
    CudaMesh mesh;
    const int64_t* across;  // (lists, count, 4), antialias.h: Surface
    int height, width;
    int64_t channels;
    float near_plane;
    const int32_t* face;
    const float *depth, *image;
    float* weight;        // (batch, height, width, 2) out: > 0 the pixel moves towards its neighbour, < 0 the neighbour does
    int32_t* silhouette;  // the same shape, out: the silhouette's face, -1 none; or null
    float* out;           // or null: find the pairs only
};
void cuda_antialias(const CudaAntialias& args, void* stream);

struct CudaAntialiasBackward {
    CudaAntialias forward;  // `weight` as found, `silhouette` and `out` unused
    const float* grad_out;
    float* grad_image;     // or null
    CudaPixelLists lists;  // of pairs by silhouette
    float* corners;        // out: (batch, count, 3, 4); or null
};
void cuda_antialias_backward(const CudaAntialiasBackward& args, void* stream);

/// A tree over triangles sorted along a space-filling curve: four neighbours make a leaf, four neighbouring nodes the next
/// level's node, up to one root. Boxes (x, y, z low, then high) of all levels stand one after the other, the leaves' first.
constexpr int kTreeWidth = 4;

template <class T>
struct CudaClosest {
    const T* triangles;    // (meshes, count, 3, 3), sorted
    const int64_t* order;  // (meshes, count): their faces
    bool meshes_batched;
    int64_t batch, count, points;
    const T* query;        // (batch, points, 3)
    const int64_t* visit;  // (batch, points): neighbouring threads take points that lie close together
    const int64_t* start;  // (batch, points): a triangle that lies near, to begin with
    T* boxes;              // scratch: (meshes, nodes of all levels, 6)
    int32_t* face;
    T* bary;
};
template <class T>
void cuda_closest_point(const CudaClosest<T>& args, void* stream);

/// One thread sums over the corners of one vertex, in face order. Corner lists as in CudaGather, one for all items.
template <class T>
struct CudaNormals {
    const T* vertices;  // (batch, verts, 3)
    const int32_t* faces;
    const int64_t *order, *begin;
    int64_t batch, verts;
    T* out;         // normals or, backward, gradients to the vertices
    const T* grad;  // backward only
    T* scratch;     // backward only: as the vertices
};
template <class T>
void cuda_vertex_normals(const CudaNormals<T>& args, void* stream);
template <class T>
void cuda_vertex_normals_backward(const CudaNormals<T>& args, void* stream);

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
