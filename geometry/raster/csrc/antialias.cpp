// Silhouette antialiasing on the CPU; antialias.h says how it works. Blends are found in bands of rows, on several threads,
// and applied in pixel order.

#include <algorithm>
#include <new>
#include <vector>

#include "antialias.h"
#include "faces.h"
#include "raster.h"

namespace headlab {
namespace {

/// `Surface::across`. Sorting edges by lower vertex with counting sort keeps this linear.
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

/// A blend and the two pixels, counted over the batch.
template <class T>
struct PixelBlend {
    int64_t to, from;
    Blend<T> blend;
};

template <class T>
void find_blends(const AntialiasArgs<T>& a, int64_t item, const int32_t* faces, const int64_t* across, int y,
                 std::vector<PixelBlend<T>>& blends) {
    const int64_t base = item * a.height * static_cast<int64_t>(a.width);
    const Surface<T> surface{a.points + item * a.verts, faces, across, a.near_plane};
    for (int x = 0; x < a.width; ++x) {
        const int64_t p = base + static_cast<int64_t>(y) * a.width + x;
        for (const bool down : {false, true}) {
            if (down ? y + 1 >= a.height : x + 1 >= a.width) continue;
            const int64_t q = down ? p + a.width : p + 1;
            if (a.face[p] == a.face[q]) continue;
            Blend<T> b;
            if (!find_blend(surface, a.face[p], a.face[q], a.depth[p], a.depth[q], x, y, down, b)) continue;
            blends.push_back({b.neighbour_moves ? q : p, b.neighbour_moves ? p : q, b});
        }
    }
}

constexpr int kRows = 16;

template <class T>
Status collect(const AntialiasArgs<T>& a, const FaceList& list, std::vector<std::vector<PixelBlend<T>>>& blends) {
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
    std::vector<std::vector<PixelBlend<T>>> blends;
    status = collect(a, list, blends);
    if (status != Status::ok) return status;
    const int64_t per_item = static_cast<int64_t>(a.height) * a.width * a.channels;
    const int64_t bands = a.batch ? static_cast<int64_t>(blends.size()) / a.batch : 0;
    parallel_for(a.threads, a.batch, [&](int64_t item) {
        std::copy(a.image + item * per_item, a.image + (item + 1) * per_item, a.out + item * per_item);
        for (int64_t band = item * bands; band < (item + 1) * bands; ++band)
            for (const PixelBlend<T>& b : blends[static_cast<size_t>(band)]) {
                const T *from = a.image + b.from * a.channels, *own = a.image + b.to * a.channels;
                T* to = a.out + b.to * a.channels;
                for (int64_t c = 0; c < a.channels; ++c) to[c] += b.blend.weight * (from[c] - own[c]);
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
    std::vector<std::vector<PixelBlend<T>>> blends;
    status = collect(a, list, blends);
    if (status != Status::ok) return status;
    const int64_t per_item = static_cast<int64_t>(a.height) * a.width * a.channels;
    const int64_t bands = a.batch ? static_cast<int64_t>(blends.size()) / a.batch : 0;
    parallel_for(a.threads, a.batch, [&](int64_t item) {
        if (grad_image)
            std::copy(grad_out + item * per_item, grad_out + (item + 1) * per_item, grad_image + item * per_item);
        if (grad_points) std::fill(grad_points + item * a.verts, grad_points + (item + 1) * a.verts, Vertex<T>{});
        for (int64_t band = item * bands; band < (item + 1) * bands; ++band)
            for (const PixelBlend<T>& b : blends[static_cast<size_t>(band)]) {
                const T* g = grad_out + b.to * a.channels;
                T slope = 0;
                for (int64_t c = 0; c < a.channels; ++c) {
                    slope += g[c] * (a.image[b.from * a.channels + c] - a.image[b.to * a.channels + c]);
                    if (grad_image) {
                        grad_image[b.from * a.channels + c] += b.blend.weight * g[c];
                        grad_image[b.to * a.channels + c] -= b.blend.weight * g[c];
                    }
                }
                if (!grad_points) continue;
                Vertex<T> d[2];
                blend_backward(Surface<T>{a.points + item * a.verts, nullptr, nullptr, a.near_plane}, b.blend, slope, d);
                for (int k = 0; k < 2; ++k) {
                    Vertex<T>& to = grad_points[item * a.verts + b.blend.vertex[k]];
                    to.x += d[k].x, to.y += d[k].y, to.w += d[k].w;
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
