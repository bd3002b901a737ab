// Vertex normals. Faces are summed in order, one mesh per task, so the result does not depend on the thread count.

#include <algorithm>
#include <cmath>
#include <new>
#include <vector>

#include "faces.h"
#include "raster.h"

namespace headlab {
namespace {

template <class T>
struct Vector {
    T x, y, z;
};

template <class T>
Vector<T> difference(const Vector<T>& a, const Vector<T>& b) {
    return {a.x - b.x, a.y - b.y, a.z - b.z};
}

template <class T>
Vector<T> cross(const Vector<T>& a, const Vector<T>& b) {
    return {a.y * b.z - a.z * b.y, a.z * b.x - a.x * b.z, a.x * b.y - a.y * b.x};
}

template <class T>
void add(Vector<T>& to, const Vector<T>& from, T sign = 1) {
    to.x += sign * from.x, to.y += sign * from.y, to.z += sign * from.z;
}

/// Sum of the adjacent faces' area vectors, doubled.
template <class T>
void sum_areas(const Vector<T>* p, int64_t verts, const int32_t* faces, int64_t count, Vector<T>* out) {
    std::fill(out, out + verts, Vector<T>{0, 0, 0});
    for (int64_t f = 0; f < count; ++f) {
        const int32_t* v = faces + 3 * f;
        if (v[0] < 0) continue;
        const Vector<T> n = cross(difference(p[v[1]], p[v[0]]), difference(p[v[2]], p[v[0]]));
        for (int k = 0; k < 3; ++k) add(out[v[k]], n);
    }
}

/// Length that neither overflows nor vanishes for tiny faces.
template <class T>
T length(const Vector<T>& v) {
    const T scale = std::max({std::abs(v.x), std::abs(v.y), std::abs(v.z)});
    if (!(scale > 0)) return 0;
    const T x = v.x / scale, y = v.y / scale, z = v.z / scale;
    return scale * std::sqrt(x * x + y * y + z * z);
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
        for (int64_t i = 0; i < a.verts; ++i) {  // n = t / |t|: dt = (g - (g n) n) / |t|
            Vector<T>& t = total[static_cast<size_t>(i)];
            const T size = length(t);
            if (!(size > 0)) {
                t = {0, 0, 0};
                continue;
            }
            const Vector<T> n{t.x / size, t.y / size, t.z / size};
            const T along = g[i].x * n.x + g[i].y * n.y + g[i].z * n.z;
            t = {(g[i].x - along * n.x) / size, (g[i].y - along * n.y) / size, (g[i].z - along * n.z) / size};
        }
        std::fill(out, out + a.verts, Vector<T>{0, 0, 0});
        for (int64_t f = 0; f < list.count(); ++f) {
            const int32_t* v = list.item(0) + 3 * f;
            if (v[0] < 0) continue;
            Vector<T> d = total[v[0]];
            add(d, total[v[1]]), add(d, total[v[2]]);
            const Vector<T> to_b = cross(difference(p[v[2]], p[v[0]]), d), to_c = cross(d, difference(p[v[1]], p[v[0]]));
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
