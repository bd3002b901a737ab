// Mathematics of vertex normals, shared by the C++ and CUDA drivers.
#pragma once

#include "math.h"

namespace headlab {

template <class T>
struct Vector {
    T x, y, z;
};

template <class T>
HL_FN Vector<T> difference(const Vector<T>& a, const Vector<T>& b) {
    return {a.x - b.x, a.y - b.y, a.z - b.z};
}

template <class T>
HL_FN Vector<T> cross(const Vector<T>& a, const Vector<T>& b) {
    return {a.y * b.z - a.z * b.y, a.z * b.x - a.x * b.z, a.x * b.y - a.y * b.x};
}

template <class T>
HL_FN void add(Vector<T>& to, const Vector<T>& from, T sign = 1) {
    to.x += sign * from.x, to.y += sign * from.y, to.z += sign * from.z;
}

/// Normal of a face, as long as twice its area.
template <class T>
HL_FN Vector<T> area_vector(const Vector<T>& a, const Vector<T>& b, const Vector<T>& c) {
    return cross(difference(b, a), difference(c, a));
}

/// Length that neither overflows nor vanishes for tiny faces.
template <class T>
HL_FN T length(const Vector<T>& v) {
    const T x0 = v.x < 0 ? -v.x : v.x, y0 = v.y < 0 ? -v.y : v.y, z0 = v.z < 0 ? -v.z : v.z;
    const T larger = x0 > y0 ? x0 : y0, scale = larger > z0 ? larger : z0;
    if (!(scale > 0)) return 0;
    const T x = v.x / scale, y = v.y / scale, z = v.z / scale;
    return scale * std::sqrt(x * x + y * y + z * z);
}

/// Gradient to a sum of area vectors, given that to its unit vector: n = t / |t|, dt = (g - (g n) n) / |t|; 0 if t is 0.
template <class T>
HL_FN Vector<T> unit_backward(const Vector<T>& t, const Vector<T>& g) {
    const T size = length(t);
    if (!(size > 0)) return {0, 0, 0};
    const Vector<T> n{t.x / size, t.y / size, t.z / size};
    const T along = g.x * n.x + g.y * n.y + g.z * n.z;
    return {(g.x - along * n.x) / size, (g.y - along * n.y) / size, (g.z - along * n.z) / size};
}

/// Gradient to corners b and c of a face, given that to its area vector; corner a gets minus their sum.
template <class T>
HL_FN void area_backward(const Vector<T>& a, const Vector<T>& b, const Vector<T>& c, const Vector<T>& grad, Vector<T>& to_b,
                         Vector<T>& to_c) {
    to_b = cross(difference(c, a), grad), to_c = cross(grad, difference(b, a));
}

}  // namespace headlab
