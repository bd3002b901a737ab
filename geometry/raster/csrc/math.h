// Mathematics of the rasteriser, shared by the C++ and CUDA drivers.
//
// A vertex is (x, y, z, w): pixel u = x / w (right), v = y / w (down), pixel (row i, column j) has its centre at
// (j + 0.5, i + 0.5), depth is z. Everything below is in these units.
//
// Coverage. The screen triangle is sorted by (v, u), so that a shared edge is evaluated from the same end with the same
// operations in both of its triangles: E(p) = dx (py - ay) - dy (px - ax) gets exactly one sign there, and the top-left
// rule gives E = 0 to exactly one side. Hence no pixel on a shared edge is lost or drawn twice. E is evaluated in double.
//
// Weights. With x'_i = x_i - u w_i and y'_i = y_i - v w_i, the numbers a_0 = x'_1 y'_2 - x'_2 y'_1 (and cyclic) divided by
// their sum are the perspective-correct weights of the vertices. No division by w_i: the formula also holds for triangles
// that cross the camera plane, so clipping decides coverage only (Olano and Greer, "Triangle scan conversion using 2D
// homogeneous coordinates", 1997).
#pragma once

#include <cmath>
#include <cstdint>

#ifdef __CUDACC__
#define HL_FN static __host__ __device__ __forceinline__
#elif defined(_MSC_VER)
#define HL_FN static __forceinline
#else
// Internal linkage and forced inlining: files compiled for different instruction sets must never share a function body.
#define HL_FN static inline __attribute__((always_inline))
#endif

namespace headlab {

template <class T>
struct Vertex {
    T x, y, z, w;
};

/// x - u w with one rounding, so that a vertex near the pixel keeps all its digits.
HL_FN float offset(float x, float u, float w) {
#ifdef __CUDA_ARCH__
    return fmaf(-u, w, x);
#else
    return static_cast<float>(static_cast<double>(x) - static_cast<double>(u) * static_cast<double>(w));
#endif
}
HL_FN double offset(double x, double u, double w) { return x - u * w; }

/// Weights of one pixel and what their gradient needs.
template <class T>
struct Weights {
    T x[3], y[3];  // vertices relative to the pixel, times w
    T scale;       // 1 / sum of a_i
    T b[3];
};

template <class T>
HL_FN Weights<T> weights_at(const Vertex<T>& p0, const Vertex<T>& p1, const Vertex<T>& p2, T u, T v) {
    Weights<T> r;
    r.x[0] = offset(p0.x, u, p0.w), r.y[0] = offset(p0.y, v, p0.w);
    r.x[1] = offset(p1.x, u, p1.w), r.y[1] = offset(p1.y, v, p1.w);
    r.x[2] = offset(p2.x, u, p2.w), r.y[2] = offset(p2.y, v, p2.w);
    const T a0 = r.x[1] * r.y[2] - r.x[2] * r.y[1];
    const T a1 = r.x[2] * r.y[0] - r.x[0] * r.y[2];
    const T a2 = r.x[0] * r.y[1] - r.x[1] * r.y[0];
    const T sum = a0 + a1 + a2;
    r.scale = sum != T(0) ? T(1) / sum : T(0);
    r.b[0] = a0 * r.scale, r.b[1] = a1 * r.scale, r.b[2] = a2 * r.scale;
    return r;
}

/// Gradient of a loss to the three vertices, given its gradient g to the weights at pixel (u, v).
template <class T>
HL_FN void weights_backward(const Weights<T>& r, const T (&g)[3], T u, T v, Vertex<T> (&out)[3]) {
    const T mean = g[0] * r.b[0] + g[1] * r.b[1] + g[2] * r.b[2];
    const T h0 = (g[0] - mean) * r.scale, h1 = (g[1] - mean) * r.scale, h2 = (g[2] - mean) * r.scale;
    out[0].x = h2 * r.y[1] - h1 * r.y[2], out[0].y = h1 * r.x[2] - h2 * r.x[1];
    out[1].x = h0 * r.y[2] - h2 * r.y[0], out[1].y = h2 * r.x[0] - h0 * r.x[2];
    out[2].x = h1 * r.y[0] - h0 * r.y[1], out[2].y = h0 * r.x[1] - h1 * r.x[0];
    for (int i = 0; i < 3; ++i) {
        out[i].z = T(0);
        out[i].w = -(u * out[i].x + v * out[i].y);
    }
}

/// How depths are compared. The key is affine in the picture for the first two, so it costs no division per pixel.
enum class DepthKey : int {
    inverse,  // z == w everywhere (pinhole): -1 / w
    affine,   // w == 1 everywhere (orthographic): z
    ratio,    // anything else: (sum l_i z_i / w_i) / (sum l_i / w_i)
};

/// A triangle on the screen, corners sorted by (v, u).
template <class T>
struct ScreenTriangle {
    T u[3], v[3];
    T key[3];  // numerator of the depth key at the corners
    T q[3];    // denominator (DepthKey::ratio only)
    int32_t face;
};

/// Edge from corner a towards corner b, evaluated in double whatever T is.
struct Edge {
    double ax, ay, dx, dy;
    bool owns_zero;  // top or left edge: pixels exactly on it belong to the triangle
};

HL_FN double edge_value(const Edge& e, double px, double py) {
    const double left = e.dx * (py - e.ay);
    const double right = e.dy * (px - e.ax);
    return left - right;
}

template <class T>
HL_FN double signed_area(const ScreenTriangle<T>& t) {
    const double dx = double(t.u[1]) - double(t.u[0]), dy = double(t.v[1]) - double(t.v[0]);
    const double left = dx * (double(t.v[2]) - double(t.v[0]));
    const double right = dy * (double(t.u[2]) - double(t.u[0]));
    return left - right;
}

/// Edge a -> b of a sorted triangle, oriented so that it is positive inside; `sign` is the side of the third corner.
template <class T>
HL_FN Edge make_edge(const ScreenTriangle<T>& t, int a, int b, double sign) {
    Edge e;
    e.ax = t.u[a], e.ay = t.v[a];
    e.dx = sign * (double(t.u[b]) - double(t.u[a]));
    e.dy = sign * (double(t.v[b]) - double(t.v[a]));
    // Sorted corners: the edge runs downwards, or to the right when level. Inside lies to the right of a left edge.
    e.owns_zero = t.v[a] != t.v[b] ? sign < 0 : sign > 0;
    return e;
}

HL_FN bool inside(double e, bool owns_zero) { return e > 0 || (e == 0 && owns_zero); }

/// Index of the first pixel centre at or after x, and of the first strictly after: ceil(x - 0.5), floor(x - 0.5) + 1,
/// clamped to [0, limit] before the conversion, since x may be any finite number.
HL_FN int first_centre(double x, int limit) {
    const double c = ceil(x - 0.5);
    return c <= 0 ? 0 : c >= limit ? limit : static_cast<int>(c);
}
HL_FN int past_centre(double x, int limit) {
    const double c = floor(x - 0.5) + 1;
    return c <= 0 ? 0 : c >= limit ? limit : static_cast<int>(c);
}

/// Clip a triangle to w >= near. Returns the number of corners (0, 3 or 4) written to `out`.
/// A cut corner is computed from the inner end of its edge, so both triangles of the edge get the same one.
template <class T>
HL_FN int clip_near(const Vertex<T> (&p)[3], T near_plane, Vertex<T> (&out)[4]) {
    int n = 0;
    for (int i = 0; i < 3; ++i) {
        const Vertex<T>&a = p[i], &b = p[(i + 1) % 3];
        const bool a_in = a.w >= near_plane, b_in = b.w >= near_plane;
        if (a_in) out[n++] = a;
        if (a_in != b_in) {
            const Vertex<T>&in = a_in ? a : b, &off = a_in ? b : a;
            // Weights of the two ends, each without cancellation: the cut lies close to the end that is close to w = 0.
            const T scale = T(1) / (in.w - off.w);
            const T s = (near_plane - off.w) * scale, t = (in.w - near_plane) * scale;
            out[n++] = {s * in.x + t * off.x, s * in.y + t * off.y, s * in.z + t * off.z, near_plane};
        }
    }
    return n;
}

/// Project three corners, sort them, and give the triangle's doubled area: > 0 clockwise as seen, 0 degenerate or not
/// finite. `area` is that of the corners in the given order, so its sign tells front (negative) from back.
template <class T>
HL_FN double project_triangle(const Vertex<T>& a, const Vertex<T>& b, const Vertex<T>& c, DepthKey mode,
                              ScreenTriangle<T>& t) {
    const Vertex<T> p[3] = {a, b, c};
    for (int i = 0; i < 3; ++i) {
        const T q = T(1) / p[i].w;
        t.u[i] = p[i].x / p[i].w, t.v[i] = p[i].y / p[i].w;
        t.key[i] = mode == DepthKey::inverse ? -q : mode == DepthKey::affine ? p[i].z : p[i].z * q;
        t.q[i] = q;
    }
    double parity = 1;
    for (int pass = 0; pass < 3; ++pass) {
        const int i = pass == 1 ? 1 : 0, j = i + 1;
        if (t.v[j] < t.v[i] || (t.v[j] == t.v[i] && t.u[j] < t.u[i])) {
            T s;
            s = t.u[i], t.u[i] = t.u[j], t.u[j] = s;
            s = t.v[i], t.v[i] = t.v[j], t.v[j] = s;
            s = t.key[i], t.key[i] = t.key[j], t.key[j] = s;
            s = t.q[i], t.q[i] = t.q[j], t.q[j] = s;
            parity = -parity;
        }
    }
    const double area = signed_area(t);
    return area - area == 0 ? parity * area : 0;  // an overflowed corner makes this NaN
}

}  // namespace headlab
