// Mathematics of silhouette antialiasing, shared by the C++ and CUDA drivers.
//
// Two neighbouring pixels see different faces. Walk over the mesh from the nearer face along the line between the two
// centres: leave each face by the edge that the line crosses, go on in the face behind that edge, and stop where the mesh
// ends or folds back. That edge is the silhouette; it meets the line at distance `at` (0..1) from the pixel walked from.
// If at > 1/2 the nearer surface reaches into the other pixel, which is mixed with weight at - 1/2; otherwise the walker's
// own pixel is mixed with weight 1/2 - at. Each edge is left to the axis it is steeper against, so that slanted silhouettes
// are not blended twice. (Laine et al. 2020 look at the visible face only; small faces that turn away
// at a silhouette seldom own a pixel centre, so most silhouettes would be missed.)
#pragma once

#include "math.h"

namespace headlab {

/// A mesh on the screen. For edge k (corner k to k + 1) of face f, across[4 f + k] is 4 * neighbour + the neighbour's edge,
/// or -1 where the mesh ends (also where more than two faces share the edge).
template <class T>
struct Surface {
    const Vertex<T>* points;
    const int32_t* faces;
    const int64_t* across;
    T near_plane;  // faces with a corner nearer than this end the walk
};

/// Where the walk leaves a face.
template <class T>
struct Crossing {
    int edge;    // of the face it was found in
    T at;        // along the line, pixels from the start
    bool steep;  // the edge belongs to this axis
};

/// A vertex relative to the walk's start: `along` the walk, `up` across it.
template <class T>
struct Local {
    T along, up;
    bool visible;
};

/// The walk from centre (u, v) by one pixel in direction (du, dv).
template <class T>
struct Walk {
    T u, v;
    int du, dv;
};

template <class T>
HL_FN Local<T> local_vertex(const Surface<T>& s, int64_t vertex, const Walk<T>& walk) {
    const Vertex<T> p = s.points[vertex];
    const T x = offset(p.x, walk.u, p.w) / p.w, y = offset(p.y, walk.v, p.w) / p.w;
    // (across the walk: any fixed perpendicular)
    return {walk.du * x + walk.dv * y, walk.du != 0 ? y : x, p.w >= s.near_plane};
}

template <class T>
HL_FN int crossings(const Surface<T>& s, int64_t face, const Walk<T>& walk, Crossing<T> (&out)[3]) {
    Local<T> corner[3];
    for (int k = 0; k < 3; ++k) {
        corner[k] = local_vertex(s, s.faces[3 * face + k], walk);
        if (!corner[k].visible) return 0;
    }
    int n = 0;
    for (int k = 0; k < 3; ++k) {
        const int j = k == 2 ? 0 : k + 1;
        const Local<T>&a = corner[k], &b = corner[j];
        if ((a.up > 0) == (b.up > 0)) continue;
        // From the lower vertex index, so that both faces of the edge find the same crossing.
        const bool swap = s.faces[3 * face + j] < s.faces[3 * face + k];
        const Local<T>&from = swap ? b : a, &to = swap ? a : b;
        const T t = from.up / (from.up - to.up);
        const T along = to.along - from.along, up = to.up - from.up;
        const T rise = up < 0 ? -up : up, run = along < 0 ? -along : along;
        out[n++] = {k, from.along + t * along, walk.du != 0 ? rise >= run : rise > run};
    }
    return n;
}

/// Find the silhouette on the way; `face` covers the start. False if there is none, or it cannot be told (behind the
/// camera).
template <class T>
HL_FN bool find_silhouette(const Surface<T>& s, int64_t face, const Walk<T>& walk, int64_t& at_face, Crossing<T>& result) {
    constexpr int kMaxSteps = 64;
    Crossing<T> c[3];
    if (crossings(s, face, walk, c) != 2) return false;
    Crossing<T> exit = c[0].at > c[1].at ? c[0] : c[1];
    for (int step = 0; step < kMaxSteps; ++step) {
        if (!(exit.at <= 1)) return false;  // the line ends inside this face: no silhouette between the centres
        at_face = face, result = exit;
        const int64_t next = s.across[4 * face + exit.edge];
        if (next < 0) return exit.steep && exit.at >= 0;
        face = next >> 2;
        if (crossings(s, face, walk, c) != 2) return false;
        const int entry = static_cast<int>(next & 3);
        exit = c[0].edge == entry ? c[1] : c[0];
        if (exit.at < result.at) return result.steep && result.at >= 0;  // folds back
    }
    return false;
}

/// What happens to a pixel and its right or lower neighbour: one of them moves towards the other by `weight`.
template <class T>
struct Blend {
    T weight;
    bool neighbour_moves;
    int slope;  // of the weight against the crossing: 1 or -1
    int64_t face;  // the silhouette: edge `edge` of it
    int edge;
    int32_t vertex[2];
    Walk<T> walk;
};

/// Pixel (row y, column x) sees face f at depth zf, its neighbour below (`down`) or to the right g at zg; f != g, -1 none.
template <class T>
HL_FN bool find_blend(const Surface<T>& s, int32_t f, int32_t g, T zf, T zg, int x, int y, bool down, Blend<T>& out) {
    const bool own = g < 0 || (f >= 0 && zf <= zg);  // the walk starts at the pixel, not at its neighbour
    const int direction = own ? 1 : -1;
    out.walk = {static_cast<T>(x + (own || down ? 0.5 : 1.5)), static_cast<T>(y + (own || !down ? 0.5 : 1.5)),
                down ? 0 : direction, down ? direction : 0};
    Crossing<T> c;
    if (!find_silhouette(s, own ? f : g, out.walk, out.face, c)) return false;
    const T reach = c.at - T(0.5);
    out.weight = reach > 0 ? reach : -reach;
    out.slope = reach > 0 ? 1 : -1;
    out.neighbour_moves = (reach > 0) == own;
    out.edge = c.edge;
    out.vertex[0] = s.faces[3 * out.face + c.edge], out.vertex[1] = s.faces[3 * out.face + (c.edge == 2 ? 0 : c.edge + 1)];
    return true;
}

/// Gradient to the silhouette's two vertices (x, y, w; z is left 0), given that of a loss to the weight.
template <class T>
HL_FN void blend_backward(const Surface<T>& s, const Blend<T>& b, T grad, Vertex<T> (&out)[2]) {
    // at = s0 + t (s1 - s0), t = r0 / (r0 - r1); s along the walk, r across it.
    const Vertex<T> p = s.points[b.vertex[0]], q = s.points[b.vertex[1]];
    const Walk<T>& walk = b.walk;
    const T slope = grad * b.slope;
    const T xp = offset(p.x, walk.u, p.w) / p.w, yp = offset(p.y, walk.v, p.w) / p.w;
    const T xq = offset(q.x, walk.u, q.w) / q.w, yq = offset(q.y, walk.v, q.w) / q.w;
    const bool level = walk.du != 0;
    const T s0 = walk.du * xp + walk.dv * yp, s1 = walk.du * xq + walk.dv * yq;
    const T r0 = level ? yp : xp, r1 = level ? yq : xq;
    const T inverse = T(1) / (r0 - r1), t = r0 * inverse;
    const T dt = slope * (s1 - s0);
    const T ds[2] = {slope * (1 - t), slope * t};
    const T dr[2] = {-dt * r1 * inverse * inverse, dt * r0 * inverse * inverse};
    for (int k = 0; k < 2; ++k) {
        const Vertex<T>& v = k ? q : p;
        const T du = level ? walk.du * ds[k] : dr[k], dv = level ? dr[k] : walk.dv * ds[k];
        out[k] = {du / v.w, dv / v.w, T(0), -(du * v.x + dv * v.y) / (v.w * v.w)};
    }
}

}  // namespace headlab
