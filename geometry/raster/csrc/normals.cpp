// Vertex normals. Faces are summed in order, one mesh per task, so the result does not depend on the thread count.

#include <algorithm>
#include <new>
#include <vector>

#include "faces.h"
#include "normals.h"
#include "raster.h"

namespace headlab {
namespace {

/// Sum of the adjacent faces' area vectors, doubled.
template <class T>
void sum_areas(const Vector<T>* p, int64_t verts, const int32_t* faces, int64_t count, Vector<T>* out) {
    std::fill(out, out + verts, Vector<T>{0, 0, 0});
    for (int64_t f = 0; f < count; ++f) {
        const int32_t* v = faces + 3 * f;
        if (v[0] < 0) continue;
        const Vector<T> n = area_vector(p[v[0]], p[v[1]], p[v[2]]);
        for (int k = 0; k < 3; ++k) add(out[v[k]], n);
    }
}

}  // namespace

template <class T>
Status vertex_normals(const NormalsArgs<T>& a, T* normals) try {
    FaceList list;
    const Status status = list.load(a.faces, 1, a.verts, a.threads);
    if (status != Status::ok) return status;
    parallel_for(a.threads, a.batch, [&](int64_t item) {
        auto* out = reinterpret_cast<Vector<T>*>(normals) + item * a.verts;
        const auto* p = reinterpret_cast<const Vector<T>*>(a.vertices) + item * a.verts;
        sum_areas(p, a.verts, list.item(0), list.count(), out);
        for (int64_t i = 0; i < a.verts; ++i) {
            const T size = length(out[i]);
            if (size > 0) out[i] = {out[i].x / size, out[i].y / size, out[i].z / size};
        }
    });
    return Status::ok;
} catch (const std::bad_alloc&) {
    return Status::out_of_memory;
}

template <class T>
Status vertex_normals_backward(const NormalsArgs<T>& a, const T* grad_normals, T* grad_vertices) try {
    FaceList list;
    const Status status = list.load(a.faces, 1, a.verts, a.threads);
    if (status != Status::ok) return status;
    parallel_for(a.threads, a.batch, [&](int64_t item) {
        std::vector<Vector<T>> total(static_cast<size_t>(a.verts));
        const auto* p = reinterpret_cast<const Vector<T>*>(a.vertices) + item * a.verts;
        const auto* g = reinterpret_cast<const Vector<T>*>(grad_normals) + item * a.verts;
        auto* out = reinterpret_cast<Vector<T>*>(grad_vertices) + item * a.verts;
        sum_areas(p, a.verts, list.item(0), list.count(), total.data());
        for (int64_t i = 0; i < a.verts; ++i) total[static_cast<size_t>(i)] = unit_backward(total[static_cast<size_t>(i)], g[i]);
        std::fill(out, out + a.verts, Vector<T>{0, 0, 0});
        for (int64_t f = 0; f < list.count(); ++f) {
            const int32_t* v = list.item(0) + 3 * f;
            if (v[0] < 0) continue;
            Vector<T> d = total[v[0]];
            add(d, total[v[1]]), add(d, total[v[2]]);
            Vector<T> to_b, to_c;
            area_backward(p[v[0]], p[v[1]], p[v[2]], d, to_b, to_c);
            add(out[v[1]], to_b), add(out[v[2]], to_c);
            add(out[v[0]], to_b, T(-1)), add(out[v[0]], to_c, T(-1));
        }
    });
    return Status::ok;
} catch (const std::bad_alloc&) {
    return Status::out_of_memory;
}

#define HL_INSTANTIATE(T)                                               \
    template Status vertex_normals<T>(const NormalsArgs<T>&, T*);       \
    template Status vertex_normals_backward<T>(const NormalsArgs<T>&, const T*, T*);
HL_INSTANTIATE(float)
HL_INSTANTIATE(double)

}  // namespace headlab
