// Mathematics of closest points, shared by the C++ and CUDA drivers.
#pragma once

#include "math.h"

namespace headlab {

/// Squared distance from p to a box.
template <class T>
HL_FN T box_distance(const T (&p)[3], const T (&low)[3], const T (&high)[3]) {
    T sum = 0;
    for (int d = 0; d < 3; ++d) {
        const T below = low[d] - p[d], above = p[d] - high[d];
        T gap = below > above ? below : above;
        gap = gap > 0 ? gap : 0;
        sum += gap * gap;
    }
    return sum;
}

template <class T>
HL_FN T clamp01(T x) {
    x = x > 0 ? x : 0;
    return x < 1 ? x : 1;
}

/// Squared distance from p to the triangle with corner a and edges ab and ac: its plane's if the foot lies inside, else the
/// nearest edge's.
template <class T>
HL_FN T triangle_distance(const T (&p)[3], const T (&a)[3], const T (&ab)[3], const T (&ac)[3]) {
    constexpr T tiny = sizeof(T) == 4 ? T(1.17549435e-38) : T(2.2250738585072014e-308);  // the smallest normal number
    const T bx = ab[0], by = ab[1], bz = ab[2], cx = ac[0], cy = ac[1], cz = ac[2];
    const T x = p[0] - a[0], y = p[1] - a[1], z = p[2] - a[2];
    const T bb = bx * bx + by * by + bz * bz, cc = cx * cx + cy * cy + cz * cz, bc = bx * cx + by * cy + bz * cz;
    const T pb = x * bx + y * by + z * bz, pc = x * cx + y * cy + z * cz;
    // Edge ab, edge ac, edge bc.
    const T s = clamp01(pb / (bb > tiny ? bb : tiny));
    T ex = x - s * bx, ey = y - s * by, ez = z - s * bz;
    T best = ex * ex + ey * ey + ez * ez;
    const T t = clamp01(pc / (cc > tiny ? cc : tiny));
    ex = x - t * cx, ey = y - t * cy, ez = z - t * cz;
    T other = ex * ex + ey * ey + ez * ez;
    best = other < best ? other : best;
    const T dx = cx - bx, dy = cy - by, dz = cz - bz, dd = dx * dx + dy * dy + dz * dz;
    const T fx = x - bx, fy = y - by, fz = z - bz;
    const T r = clamp01((fx * dx + fy * dy + fz * dz) / (dd > tiny ? dd : tiny));
    ex = fx - r * dx, ey = fy - r * dy, ez = fz - r * dz;
    other = ex * ex + ey * ey + ez * ez;
    best = other < best ? other : best;
    // Plane, by the weights of b and c (times the Gram determinant).
    const T det = bb * cc - bc * bc, wb = pb * cc - pc * bc, wc = pc * bb - pb * bc;
    const bool within = (wb > 0) & (wc > 0) & (wb + wc < det);
    const T nx = by * cz - bz * cy, ny = bz * cx - bx * cz, nz = bx * cy - by * cx;
    const T nn = nx * nx + ny * ny + nz * nz, height = x * nx + y * ny + z * nz;
    const T flat = height * height / (nn > tiny ? nn : tiny);
    return (within & (flat < best)) ? flat : best;
}

HL_FN double dot3(const double (&x)[3], const double (&y)[3]) { return x[0] * y[0] + x[1] * y[1] + x[2] * y[2]; }

template <class T>
HL_FN void set3(T* out, double x, double y, double z) {
    out[0] = static_cast<T>(x), out[1] = static_cast<T>(y), out[2] = static_cast<T>(z);
}

/// Weights of the closest point of triangle abc to p, by the region of the triangle's Voronoi diagram that holds p
/// (Ericson, "Real-Time Collision Detection", 5.1.5). In double: the regions are told apart by small differences.
template <class T>
HL_FN void closest_weights(const T* p, const T* a, const T* b, const T* c, T* out) {
    double ab[3], ac[3], ap[3], bp[3], cp[3];
    for (int d = 0; d < 3; ++d) {
        ab[d] = double(b[d]) - a[d], ac[d] = double(c[d]) - a[d];
        ap[d] = double(p[d]) - a[d], bp[d] = double(p[d]) - b[d], cp[d] = double(p[d]) - c[d];
    }
    const double d1 = dot3(ab, ap), d2 = dot3(ac, ap), d3 = dot3(ab, bp), d4 = dot3(ac, bp), d5 = dot3(ab, cp), d6 = dot3(ac, cp);
    if (d1 <= 0 && d2 <= 0) return set3(out, 1, 0, 0);
    if (d3 >= 0 && d4 <= d3) return set3(out, 0, 1, 0);
    if (d6 >= 0 && d5 <= d6) return set3(out, 0, 0, 1);
    const double wc = d1 * d4 - d3 * d2, wb = d5 * d2 - d1 * d6, wa = d3 * d6 - d5 * d4;
    // Edges by their corners; those between equal corners have no length to divide by.
    const double on_ab = d1 - d3, on_ac = d2 - d6, on_bc = (d4 - d3) + (d5 - d6);
    const double sum = wa + wb + wc;  // the squared length of ab x ac
    const bool flat = sum <= 1e-14 * dot3(ab, ab) * dot3(ac, ac);
    if ((wc <= 0 || flat) && d1 >= 0 && d3 <= 0 && on_ab > 0) return set3(out, 1 - d1 / on_ab, d1 / on_ab, 0);
    if ((wb <= 0 || flat) && d2 >= 0 && d6 <= 0 && on_ac > 0) return set3(out, 1 - d2 / on_ac, 0, d2 / on_ac);
    if ((wa <= 0 || flat) && d4 - d3 >= 0 && d5 - d6 >= 0 && on_bc > 0) {
        const double t = (d4 - d3) / on_bc;
        return set3(out, 0, 1 - t, t);
    }
    set3(out, 1 - wb / sum - wc / sum, wb / sum, wc / sum);
}

}  // namespace headlab
