// Silhouette antialiasing.
//
// Two neighbouring pixels see different faces. Walk over the mesh from the nearer face along the line between the two
// centres: leave each face by the edge that the line crosses, go on in the face behind that edge, and stop where the mesh
// ends or folds back. That edge is the silhouette; it meets the line at distance `at` (0..1) from the pixel walked from.
// If at > 1/2 the nearer surface reaches into the other pixel, which is mixed with weight at - 1/2; otherwise the walker's
// own pixel is mixed with weight 1/2 - at. Each edge is left to the axis it is steeper against, so that slanted silhouettes
// are not blended twice. (Laine et al. 2020 look at the visible face only; small faces that turn away
// at a silhouette seldom own a pixel centre, so most silhouettes would be missed.)

#include <algorithm>
#include <new>
#include <vector>

#include "faces.h"
#include "raster.h"

namespace headlab {
namespace {

constexpr int kMaxSteps = 64;

/// For edge k (corner k to k + 1) of each face, 4 * neighbour + its edge, or -1 where the mesh ends (also where more than
/// two faces share the edge). Sorting edges by lower vertex with counting sort keeps this linear.
void build_adjacency(const int32_t* faces, int64_t count, int64_t verts, std::vector<int64_t>& across) {
    struct Half {
        int32_t high;
        int64_t slot;  // 4 * face + edge
    };
    across.assign(static_cast<size_t>(count) * 4, -1);
    std::vector<int64_t> begin(static_cast<size_t>(verts) + 1, 0);
    auto each_edge = [&](auto&& visit) {
        for (int64_t f = 0; f < count; ++f) {
            const int32_t* v = faces + 3 * f;
            if (v[0] < 0) continue;
            for (int k = 0; k < 3; ++k) {
                const int32_t a = v[k], b = v[k == 2 ? 0 : k + 1];
                visit(std::min(a, b), std::max(a, b), 4 * f + k);
            }
        }
    };
    each_edge([&](int32_t low, int32_t, int64_t) { ++begin[low + 1]; });
    for (int64_t i = 0; i < verts; ++i) begin[i + 1] += begin[i];
    std::vector<Half> halves(static_cast<size_t>(begin[verts]));
    std::vector<int64_t> cursor(begin.begin(), begin.end() - 1);
    each_edge([&](int32_t low, int32_t high, int64_t slot) { halves[cursor[low]++] = {high, slot}; });
    for (int64_t i = 0; i < verts; ++i) {
        const int64_t first = begin[i], last = begin[i + 1];
        for (int64_t a = first; a < last; ++a) {
            int matches = 0;
            int64_t other = -1;
            for (int64_t b = first; b < last; ++b)
                if (b != a && halves[b].high == halves[a].high) ++matches, other = halves[b].slot;
            if (matches == 1) across[halves[a].slot] = other;
        }
    }
}

template <class T>
struct Crossing {
    int edge;    // of the face it was found in
    T at;        // along the line, pixels from the start
    bool steep;  // the edge belongs to this axis
};

/// A vertex relative to the starting centre: `along` the walk, `up` across it.
template <class T>
struct Local {
    T along, up;
    bool visible;
};

template <class T>
class Walker {
  public:
    Walker(const Vertex<T>* points, const int32_t* faces, const int64_t* across, T near_plane)
        : points_(points), faces_(faces), across_(across), near_(near_plane) {}

    /// Find the silhouette on the way from centre (u, v) by one pixel in direction (du, dv); `face` covers (u, v).
    /// False if there is none, or it cannot be told (behind the camera).
    bool find(int64_t face, T u, T v, int du, int dv, int64_t& at_face, Crossing<T>& result) const {
        Crossing<T> c[3];
        if (crossings(face, u, v, du, dv, c) != 2) return false;
        Crossing<T> exit = c[0].at > c[1].at ? c[0] : c[1];
        for (int step = 0; step < kMaxSteps; ++step) {
            if (!(exit.at <= 1)) return false;  // the line ends inside this face: no silhouette between the centres
            at_face = face, result = exit;
            const int64_t next = across_[4 * face + exit.edge];
            if (next < 0) return exit.steep && exit.at >= 0;
            face = next >> 2;
            if (crossings(face, u, v, du, dv, c) != 2) return false;
            const int entry = static_cast<int>(next & 3);
            exit = c[0].edge == entry ? c[1] : c[0];
            if (exit.at < result.at) return result.steep && result.at >= 0;  // folds back
        }
        return false;
    }

  private:
    Local<T> local(int64_t vertex, T u, T v, int du, int dv) const {
        const Vertex<T>& p = points_[vertex];
        const T x = offset(p.x, u, p.w) / p.w, y = offset(p.y, v, p.w) / p.w;
        // (across the walk: any fixed perpendicular)
        return {du * x + dv * y, du != 0 ? y : x, p.w >= near_};
    }

    int crossings(int64_t face, T u, T v, int du, int dv, Crossing<T> (&out)[3]) const {
        Local<T> corner[3];
        for (int k = 0; k < 3; ++k) {
            corner[k] = local(faces_[3 * face + k], u, v, du, dv);
            if (!corner[k].visible) return 0;
        }
        int n = 0;
        for (int k = 0; k < 3; ++k) {
            const int j = k == 2 ? 0 : k + 1;
            const Local<T>&a = corner[k], &b = corner[j];
            if ((a.up > 0) == (b.up > 0)) continue;
            // From the lower vertex index, so that both faces of the edge find the same crossing.
            const bool swap = faces_[3 * face + j] < faces_[3 * face + k];
            const Local<T>&from = swap ? b : a, &to = swap ? a : b;
            const T t = from.up / (from.up - to.up);
            const T rise = std::abs(to.up - from.up), run = std::abs(to.along - from.along);
            out[n++] = {k, from.along + t * (to.along - from.along), du != 0 ? rise >= run : rise > run};
        }
        return n;
    }

    const Vertex<T>* points_;
    const int32_t* faces_;
    const int64_t* across_;
    T near_;
};

/// One blend: pixel `to` moves towards pixel `from` by `weight`.
template <class T>
struct Blend {
    int64_t to, from;
    T weight;
    // For the gradient: the edge, the walk's start and direction, and whether weight grows with the crossing.
    int32_t vertex[2];
    T u, v;
    int8_t du, dv, slope;
};

template <class T>
void find_blends(const AntialiasArgs<T>& a, int64_t item, const int32_t* faces, const int64_t* across, int y,
                 std::vector<Blend<T>>& blends) {
    const int64_t base = item * a.height * static_cast<int64_t>(a.width);
    const Walker<T> walker(a.points + item * a.verts, faces, across, a.near_plane);
    for (int x = 0; x < a.width; ++x) {
        const int64_t p = base + static_cast<int64_t>(y) * a.width + x;
        for (int down = 0; down < 2; ++down) {
            if (down ? y + 1 >= a.height : x + 1 >= a.width) continue;
            const int64_t q = down ? p + a.width : p + 1;
            const int32_t f = a.face[p], g = a.face[q];
            if (f == g) continue;
            const bool first = g < 0 || (f >= 0 && a.depth[p] <= a.depth[q]);
            const int direction = first ? 1 : -1;
            const int du = down ? 0 : direction, dv = down ? direction : 0;
            const T u = static_cast<T>(x + (first || down ? 0.5 : 1.5)), v = static_cast<T>(y + (first || !down ? 0.5 : 1.5));
            int64_t face;
            Crossing<T> c;
            if (!walker.find(first ? f : g, u, v, du, dv, face, c)) continue;
            const int64_t own = first ? p : q, other = first ? q : p;
            Blend<T> blend;
            const T reach = c.at - T(0.5);
            blend.to = reach > 0 ? other : own, blend.from = reach > 0 ? own : other;
            blend.weight = reach > 0 ? reach : -reach;
            blend.slope = reach > 0 ? 1 : -1;
            blend.vertex[0] = faces[3 * face + c.edge], blend.vertex[1] = faces[3 * face + (c.edge + 1) % 3];
            blend.u = u, blend.v = v, blend.du = static_cast<int8_t>(du), blend.dv = static_cast<int8_t>(dv);
            blends.push_back(blend);
        }
    }
}

constexpr int kRows = 16;

template <class T>
Status collect(const AntialiasArgs<T>& a, const FaceList& list, std::vector<std::vector<Blend<T>>>& blends) {
    const int64_t items = a.faces.batched ? a.batch : 1;
    std::vector<std::vector<int64_t>> across(static_cast<size_t>(items));
    parallel_for(a.threads, items,
                 [&](int64_t i) { build_adjacency(list.item(i), list.count(), a.verts, across[static_cast<size_t>(i)]); });
    const int64_t bands = (a.height + kRows - 1) / kRows;
    blends.resize(static_cast<size_t>(a.batch * bands));
    std::vector<char> bad(blends.size(), 0);
    parallel_for(a.threads, a.batch * bands, [&](int64_t task) {
        const int64_t item = task / bands;
        const int begin = static_cast<int>(task % bands) * kRows, end = std::min(begin + kRows, a.height);
        const int32_t* faces = list.item(item);
        // The band also looks one row down.
        const int64_t base = item * a.height * static_cast<int64_t>(a.width);
        for (int64_t p = base + int64_t(begin) * a.width; p < base + int64_t(std::min(end + 1, a.height)) * a.width; ++p) {
            const int32_t f = a.face[p];
            if (f >= 0 && (f >= list.count() || faces[3 * static_cast<int64_t>(f)] < 0)) bad[static_cast<size_t>(task)] = 1;
        }
        if (bad[static_cast<size_t>(task)]) return;
        const int64_t* neighbours = across[static_cast<size_t>(items == 1 ? 0 : item)].data();
        for (int y = begin; y < end; ++y) find_blends(a, item, faces, neighbours, y, blends[static_cast<size_t>(task)]);
    });
    for (char b : bad)
        if (b) return Status::bad_raster;
    return Status::ok;
}

}  // namespace

template <class T>
Status antialias(const AntialiasArgs<T>& a) try {
    FaceList list;
    Status status = list.load(a.faces, a.batch, a.verts, a.threads);
    if (status != Status::ok) return status;
    std::vector<std::vector<Blend<T>>> blends;
    status = collect(a, list, blends);
    if (status != Status::ok) return status;
    const int64_t per_item = static_cast<int64_t>(a.height) * a.width * a.channels;
    const int64_t bands = a.batch ? static_cast<int64_t>(blends.size()) / a.batch : 0;
    parallel_for(a.threads, a.batch, [&](int64_t item) {
        std::copy(a.image + item * per_item, a.image + (item + 1) * per_item, a.out + item * per_item);
        for (int64_t band = item * bands; band < (item + 1) * bands; ++band)
            for (const Blend<T>& b : blends[static_cast<size_t>(band)]) {
                const T *from = a.image + b.from * a.channels, *own = a.image + b.to * a.channels;
                T* to = a.out + b.to * a.channels;
                for (int64_t c = 0; c < a.channels; ++c) to[c] += b.weight * (from[c] - own[c]);
            }
    });
    return Status::ok;
} catch (const std::bad_alloc&) {
    return Status::out_of_memory;
}

template <class T>
Status antialias_backward(const AntialiasArgs<T>& a, const T* grad_out, T* grad_image, Vertex<T>* grad_points) try {
    FaceList list;
    Status status = list.load(a.faces, a.batch, a.verts, a.threads);
    if (status != Status::ok) return status;
    std::vector<std::vector<Blend<T>>> blends;
    status = collect(a, list, blends);
    if (status != Status::ok) return status;
    const int64_t per_item = static_cast<int64_t>(a.height) * a.width * a.channels;
    const int64_t bands = a.batch ? static_cast<int64_t>(blends.size()) / a.batch : 0;
    parallel_for(a.threads, a.batch, [&](int64_t item) {
        if (grad_image)
            std::copy(grad_out + item * per_item, grad_out + (item + 1) * per_item, grad_image + item * per_item);
        if (grad_points) std::fill(grad_points + item * a.verts, grad_points + (item + 1) * a.verts, Vertex<T>{});
        for (int64_t band = item * bands; band < (item + 1) * bands; ++band)
            for (const Blend<T>& b : blends[static_cast<size_t>(band)]) {
                const T* g = grad_out + b.to * a.channels;
                T slope = 0;
                for (int64_t c = 0; c < a.channels; ++c) {
                    slope += g[c] * (a.image[b.from * a.channels + c] - a.image[b.to * a.channels + c]);
                    if (grad_image) {
                        grad_image[b.from * a.channels + c] += b.weight * g[c];
                        grad_image[b.to * a.channels + c] -= b.weight * g[c];
                    }
                }
                if (!grad_points) continue;
                slope *= b.slope;
                // at = s0 + t (s1 - s0), t = r0 / (r0 - r1); s along the walk, r across it.
                const Vertex<T>&p = a.points[item * a.verts + b.vertex[0]], &q = a.points[item * a.verts + b.vertex[1]];
                const T xp = offset(p.x, b.u, p.w) / p.w, yp = offset(p.y, b.v, p.w) / p.w;
                const T xq = offset(q.x, b.u, q.w) / q.w, yq = offset(q.y, b.v, q.w) / q.w;
                const bool level = b.du != 0;
                const T s0 = b.du * xp + b.dv * yp, s1 = b.du * xq + b.dv * yq;
                const T r0 = level ? yp : xp, r1 = level ? yq : xq;
                const T inverse = T(1) / (r0 - r1), t = r0 * inverse;
                const T dt = slope * (s1 - s0);
                const T ds[2] = {slope * (1 - t), slope * t};
                const T dr[2] = {-dt * r1 * inverse * inverse, dt * r0 * inverse * inverse};
                for (int k = 0; k < 2; ++k) {
                    const Vertex<T>& v = k ? q : p;
                    Vertex<T>& to = grad_points[item * a.verts + b.vertex[k]];
                    const T du = level ? b.du * ds[k] : dr[k], dv = level ? dr[k] : b.dv * ds[k];
                    to.x += du / v.w, to.y += dv / v.w;
                    to.w -= (du * v.x + dv * v.y) / (v.w * v.w);
                }
            }
    });
    return Status::ok;
} catch (const std::bad_alloc&) {
    return Status::out_of_memory;
}

#define HL_INSTANTIATE(T)                                       \
    template Status antialias<T>(const AntialiasArgs<T>&);      \
    template Status antialias_backward<T>(const AntialiasArgs<T>&, const T*, T*, Vertex<T>*);
HL_INSTANTIATE(float)
HL_INSTANTIATE(double)

}  // namespace headlab
