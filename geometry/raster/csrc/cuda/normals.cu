#include "../normals.h"
#include "device.h"
#include "raster_cuda.h"

namespace headlab {
namespace {

/// Calls visit(corner, v), with the face's vertices, for the corners of a vertex.
template <class T, class Visit>
__device__ void each_corner(const CudaNormals<T>& a, int64_t vertex, Visit&& visit) {
    for (int64_t k = a.begin[vertex]; k < a.begin[vertex + 1]; ++k) {
        const int32_t* v = a.faces + a.order[k] / 3 * 3;
        if (valid_face(v, a.verts)) visit(static_cast<int>(a.order[k] % 3), v);
    }
}

template <class T>
__device__ Vector<T> area_sum(const CudaNormals<T>& a, const Vector<T>* p, int64_t vertex) {
    Vector<T> sum{0, 0, 0};
    each_corner(a, vertex, [&](int, const int32_t* v) { add(sum, area_vector(p[v[0]], p[v[1]], p[v[2]])); });
    return sum;
}

template <class T>
__global__ void normals(CudaNormals<T> a) {
    for (int64_t i = thread_index(); i < a.batch * a.verts; i += thread_count()) {
        const auto* p = reinterpret_cast<const Vector<T>*>(a.vertices) + i / a.verts * a.verts;
        Vector<T> n = area_sum(a, p, i % a.verts);
        const T size = length(n);
        if (size > 0) n = {n.x / size, n.y / size, n.z / size};
        reinterpret_cast<Vector<T>*>(a.out)[i] = n;
    }
}

template <class T>
__global__ void area_gradient(CudaNormals<T> a) {
    for (int64_t i = thread_index(); i < a.batch * a.verts; i += thread_count()) {
        const auto* p = reinterpret_cast<const Vector<T>*>(a.vertices) + i / a.verts * a.verts;
        const Vector<T> g = reinterpret_cast<const Vector<T>*>(a.grad)[i];
        reinterpret_cast<Vector<T>*>(a.scratch)[i] = unit_backward(area_sum(a, p, i % a.verts), g);
    }
}

template <class T>
__global__ void vertex_gradient(CudaNormals<T> a) {
    for (int64_t i = thread_index(); i < a.batch * a.verts; i += thread_count()) {
        const int64_t first = i / a.verts * a.verts;
        const auto *p = reinterpret_cast<const Vector<T>*>(a.vertices) + first,
                   *total = reinterpret_cast<const Vector<T>*>(a.scratch) + first;
        Vector<T> sum{0, 0, 0};
        each_corner(a, i % a.verts, [&](int corner, const int32_t* v) {
            Vector<T> d = total[v[0]], to_b, to_c;
            add(d, total[v[1]]), add(d, total[v[2]]);
            area_backward(p[v[0]], p[v[1]], p[v[2]], d, to_b, to_c);
            if (corner == 0) add(sum, to_b, T(-1)), add(sum, to_c, T(-1));
            if (corner == 1) add(sum, to_b);
            if (corner == 2) add(sum, to_c);
        });
        reinterpret_cast<Vector<T>*>(a.out)[i] = sum;
    }
}

}  // namespace

template <class T>
void cuda_vertex_normals(const CudaNormals<T>& a, void* stream) {
    auto s = static_cast<cudaStream_t>(stream);
    if (a.batch * a.verts > 0) normals<<<blocks_for(a.batch * a.verts), kThreads, 0, s>>>(a);
}

template <class T>
void cuda_vertex_normals_backward(const CudaNormals<T>& a, void* stream) {
    auto s = static_cast<cudaStream_t>(stream);
    const int64_t work = a.batch * a.verts;
    if (work == 0) return;
    area_gradient<<<blocks_for(work), kThreads, 0, s>>>(a);
    vertex_gradient<<<blocks_for(work), kThreads, 0, s>>>(a);
}

#define HL_INSTANTIATE(T)                                                \
    template void cuda_vertex_normals<T>(const CudaNormals<T>&, void*);  \
    template void cuda_vertex_normals_backward<T>(const CudaNormals<T>&, void*);
HL_INSTANTIATE(float)
HL_INSTANTIATE(double)

}  // namespace headlab
