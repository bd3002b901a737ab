// What the native module computes. All arrays are C-contiguous and live in host memory; outputs are written whole.
//
// points  (batch, verts, 4)          x, y, z, w as in math.h
// faces   (count, 3) or (batch, count, 3), int32 or int64; rows of three -1 are padding
// face    (batch, height, width, layers) int32, -1 where nothing was hit
// bary    (batch, height, width, layers, 3), depth (batch, height, width, layers); 0 where nothing was hit
//
// The nearest triangle wins; among equals the smaller face index. Layers hold the further hits in that order. Results do
// not depend on `threads`: sums over pixels are taken in a fixed order.
#pragma once

#include <cstdint>

#include "math.h"

namespace headlab {

enum class Status : int { ok = 0, bad_face_index = 1, not_finite = 2, bad_raster = 3, out_of_memory = 4, no_faces = 5 };

struct Faces {
    const void* data;
    bool wide;     // int64 instead of int32
    bool batched;  // one list per batch item
    int64_t count;
};

template <class T>
struct RasterizeArgs {
    const Vertex<T>* points;
    int64_t batch, verts;
    Faces faces;
    int height, width, layers;
    T near_plane;
    bool cull;
    int threads;
    int32_t* face;
    T* bary;
    T* depth;
};

template <class T>
Status rasterize(const RasterizeArgs<T>& args);

template <class T>
struct RasterizeBackwardArgs {
    const Vertex<T>* points;
    int64_t batch, verts;
    Faces faces;
    int height, width, layers;
    int threads;
    const int32_t* face;
    const T* grad_bary;   // may be null
    const T* grad_depth;  // may be null
    Vertex<T>* grad_points;
};

template <class T>
Status rasterize_backward(const RasterizeBackwardArgs<T>& args);

/// Attributes (1 or batch, verts, channels) at the hits: sum of bary_i attributes[faces[face, i]]; 0 where none.
/// `pixels` counts the hits of one batch item (height x width x layers).
template <class T>
struct InterpolateArgs {
    const T* attributes;
    bool attributes_batched;
    int64_t batch, verts, channels, pixels;
    Faces faces;
    int threads;
    const int32_t* face;
    const T* bary;
    T* out;
};

template <class T>
Status interpolate(const InterpolateArgs<T>& args);

template <class T>
struct InterpolateBackwardArgs {
    const T* attributes;
    bool attributes_batched;
    int64_t batch, verts, channels, pixels;
    Faces faces;
    int threads;
    const int32_t* face;
    const T* bary;
    const T* grad_out;
    T* grad_attributes;  // may be null; shaped as the attributes
    T* grad_bary;        // may be null
};

template <class T>
Status interpolate_backward(const InterpolateBackwardArgs<T>& args);

/// Mix neighbouring pixels across silhouettes (antialias.cpp says how). image and out: (batch, height, width, channels).
template <class T>
struct AntialiasArgs {
    const Vertex<T>* points;
    int64_t batch, verts, channels;
    Faces faces;
    int height, width;
    T near_plane;  // edges with a corner nearer than this are left alone
    int threads;
    const int32_t* face;
    const T* depth;
    const T* image;
    T* out;  // unused by the backward pass
};

template <class T>
Status antialias(const AntialiasArgs<T>& args);

/// `grad_image` and `grad_points` may be null.
template <class T>
Status antialias_backward(const AntialiasArgs<T>& args, const T* grad_out, T* grad_image, Vertex<T>* grad_points);

/// The face of the mesh nearest to each point, and the weights of the nearest point on it. Equally near faces: the smaller
/// index. vertices (1 or batch, verts, 3), one face list, points (batch, count, 3), face (batch, count), bary (.., 3).
template <class T>
struct ClosestArgs {
    const T* vertices;
    bool vertices_batched;
    int64_t batch, verts, count;
    Faces faces;
    int threads;
    const T* points;
    int32_t* face;
    T* bary;
};

template <class T>
Status closest_point(const ClosestArgs<T>& args);

/// Unit sums of the adjacent faces' area vectors; 0 where that sum is. vertices and normals (batch, verts, 3).
template <class T>
struct NormalsArgs {
    const T* vertices;
    int64_t batch, verts;
    Faces faces;  // one list
    int threads;
};

template <class T>
Status vertex_normals(const NormalsArgs<T>& args, T* normals);

template <class T>
Status vertex_normals_backward(const NormalsArgs<T>& args, const T* grad_normals, T* grad_vertices);

}  // namespace headlab
