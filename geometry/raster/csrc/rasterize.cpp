// Forward pass: triangles are set up in chunks and sorted into picture tiles, then each tile is drawn and resolved.
//
// A tile meets its triangles in face order, so "strictly nearer replaces" gives ties to the smaller face. Tiles are
// independent; which thread draws one does not matter.

#include <algorithm>
#include <limits>
#include <new>
#include <vector>

#include "faces.h"
#include "raster.h"

namespace headlab {
namespace {

constexpr int kChunkFaces = 512;
constexpr int64_t kGroupFaces = 1 << 19;  // faces set up at once; bounds the memory of large batches

/// The triangles of some consecutive faces, and for each tile the list of those that touch it.
template <class T>
struct Chunk {
    std::vector<ScreenTriangle<T>> triangles;
    std::vector<uint32_t> begin;  // per tile, into `items`
    std::vector<uint16_t> items;
};

struct Tiling {
    int height, width, tile_h, tile_w, rows, cols;

    Tiling(int h, int w) : height(h), width(w) {
        tile_w = std::min(w, 256);
        tile_h = std::max(8, std::min({h, 32, 16384 / tile_w}));
        rows = (h + tile_h - 1) / tile_h, cols = (w + tile_w - 1) / tile_w;
    }
    int count() const { return rows * cols; }
};

struct Box {
    int x0, x1, y0, y1;  // pixels, end exclusive
    bool empty() const { return x0 >= x1 || y0 >= y1; }
};

template <class T>
Box pixel_box(const ScreenTriangle<T>& t, int height, int width) {
    const T left = std::min({t.u[0], t.u[1], t.u[2]}), right = std::max({t.u[0], t.u[1], t.u[2]});
    return {first_centre(left, width), past_centre(right, width), first_centre(t.v[0], height),
            past_centre(t.v[2], height)};
}

template <class T>
void set_up(const RasterizeArgs<T>& a, const Vertex<T>* points, const int32_t* faces, int64_t begin, int64_t end,
            DepthKey mode, const Tiling& tiling, Chunk<T>& chunk) {
    chunk.triangles.clear();
    std::vector<Box> boxes;
    boxes.reserve(kChunkFaces);
    auto add = [&](const Vertex<T>& p0, const Vertex<T>& p1, const Vertex<T>& p2, int64_t face) {
        ScreenTriangle<T> t;
        const double area = project_triangle(p0, p1, p2, mode, t);
        if (area == 0 || (a.cull && area > 0)) return;
        const Box box = pixel_box(t, a.height, a.width);
        if (box.empty()) return;
        t.face = static_cast<int32_t>(face);
        chunk.triangles.push_back(t);
        boxes.push_back(box);
    };
    for (int64_t f = begin; f < end; ++f) {
        const int32_t* v = faces + 3 * f;
        if (v[0] < 0) continue;
        const Vertex<T> p[3] = {points[v[0]], points[v[1]], points[v[2]]};
        if (p[0].w >= a.near_plane && p[1].w >= a.near_plane && p[2].w >= a.near_plane) {
            add(p[0], p[1], p[2], f);
            continue;
        }
        Vertex<T> q[4];
        const int corners = clip_near(p, a.near_plane, q);
        if (corners >= 3) add(q[0], q[1], q[2], f);
        if (corners == 4) add(q[0], q[2], q[3], f);
    }
    // Counting sort by tile.
    chunk.begin.assign(static_cast<size_t>(tiling.count()) + 1, 0);
    auto each_tile = [&](auto&& visit) {
        for (size_t i = 0; i < boxes.size(); ++i) {
            const Box& b = boxes[i];
            for (int r = b.y0 / tiling.tile_h; r <= (b.y1 - 1) / tiling.tile_h; ++r)
                for (int c = b.x0 / tiling.tile_w; c <= (b.x1 - 1) / tiling.tile_w; ++c)
                    visit(static_cast<size_t>(r) * tiling.cols + c, i);
        }
    };
    each_tile([&](size_t tile, size_t) { ++chunk.begin[tile + 1]; });
    for (size_t i = 1; i < chunk.begin.size(); ++i) chunk.begin[i] += chunk.begin[i - 1];
    chunk.items.resize(chunk.begin.back());
    std::vector<uint32_t> cursor(chunk.begin.begin(), chunk.begin.end() - 1);
    each_tile([&](size_t tile, size_t i) { chunk.items[cursor[tile]++] = static_cast<uint16_t>(i); });
}

/// One tile's depth keys and faces; the second pair holds the layer before the one being drawn.
template <class T>
struct TileBuffer {
    std::vector<T> key, last_key;
    std::vector<int32_t> face, last_face;
};

template <class T>
void draw(const ScreenTriangle<T>& t, DepthKey mode, const Box& tile, bool peel, TileBuffer<T>& buffer) {
    Box box = pixel_box(t, tile.y1, tile.x1);
    box.x0 = std::max(box.x0, tile.x0), box.y0 = std::max(box.y0, tile.y0);
    const double area = signed_area(t);
    const double sign = area > 0 ? 1 : -1;
    const Edge e01 = make_edge(t, 0, 1, sign), e12 = make_edge(t, 1, 2, sign), e02 = make_edge(t, 0, 2, -sign);
    const double inverse = 1 / (sign * area);
    const double k0 = t.key[0], k1 = (t.key[1] - k0) * inverse, k2 = (t.key[2] - k0) * inverse;
    const double q0 = t.q[0], q1 = (t.q[1] - q0) * inverse, q2 = (t.q[2] - q0) * inverse;
    const int width = tile.x1 - tile.x0;
    for (int y = box.y0; y < box.y1; ++y) {
        for (int x = box.x0; x < box.x1; ++x) {
            const double px = x + 0.5, py = y + 0.5;
            const double l2 = edge_value(e01, px, py), l0 = edge_value(e12, px, py), l1 = edge_value(e02, px, py);
            if (!inside(l2, e01.owns_zero) || !inside(l0, e12.owns_zero) || !inside(l1, e02.owns_zero)) continue;
            double value = k0 + l1 * k1 + l2 * k2;
            if (mode == DepthKey::ratio) value /= q0 + l1 * q1 + l2 * q2;
            const T key = static_cast<T>(value);
            const size_t i = static_cast<size_t>(y - tile.y0) * width + (x - tile.x0);
            if (peel && !(key > buffer.last_key[i] || (key == buffer.last_key[i] && t.face > buffer.last_face[i])))
                continue;
            if (key < buffer.key[i]) buffer.key[i] = key, buffer.face[i] = t.face;
        }
    }
}

template <class T>
void resolve(const RasterizeArgs<T>& a, const Vertex<T>* points, const int32_t* faces, const Box& tile, int64_t item,
             int layer, const TileBuffer<T>& buffer) {
    const int width = tile.x1 - tile.x0;
    for (int y = tile.y0; y < tile.y1; ++y) {
        for (int x = tile.x0; x < tile.x1; ++x) {
            const int64_t o = ((item * a.height + y) * a.width + x) * a.layers + layer;
            const int32_t f = buffer.face[static_cast<size_t>(y - tile.y0) * width + (x - tile.x0)];
            a.face[o] = f;
            if (f < 0) {
                a.bary[3 * o] = a.bary[3 * o + 1] = a.bary[3 * o + 2] = a.depth[o] = 0;
                continue;
            }
            const int32_t* v = faces + 3 * static_cast<int64_t>(f);
            const Vertex<T>&p0 = points[v[0]], &p1 = points[v[1]], &p2 = points[v[2]];
            const Weights<T> w = weights_at(p0, p1, p2, static_cast<T>(x + 0.5), static_cast<T>(y + 0.5));
            for (int i = 0; i < 3; ++i) a.bary[3 * o + i] = w.b[i];
            a.depth[o] = w.b[0] * p0.z + w.b[1] * p1.z + w.b[2] * p2.z;
        }
    }
}

template <class T>
void draw_tile(const RasterizeArgs<T>& a, int64_t item, const FaceList& list, DepthKey mode, const Tiling& tiling,
               const Chunk<T>* chunks, int64_t chunk_count, int tile_index) {
    static thread_local TileBuffer<T> buffer;
    const int r = tile_index / tiling.cols, c = tile_index % tiling.cols;
    const Box tile{c * tiling.tile_w, std::min((c + 1) * tiling.tile_w, a.width), r * tiling.tile_h,
                   std::min((r + 1) * tiling.tile_h, a.height)};
    const size_t size = static_cast<size_t>(tile.x1 - tile.x0) * (tile.y1 - tile.y0);
    for (int layer = 0; layer < a.layers; ++layer) {
        if (layer > 0) {
            buffer.last_key.swap(buffer.key);
            buffer.last_face.swap(buffer.face);
        }
        buffer.key.assign(size, std::numeric_limits<T>::infinity());
        buffer.face.assign(size, -1);
        for (int64_t i = 0; i < chunk_count; ++i) {
            const Chunk<T>& chunk = chunks[i];
            for (uint32_t k = chunk.begin[tile_index]; k < chunk.begin[tile_index + 1]; ++k)
                draw(chunk.triangles[chunk.items[k]], mode, tile, layer > 0, buffer);
        }
        resolve(a, a.points + item * a.verts, list.item(item), tile, item, layer, buffer);
    }
}

template <class T>
bool finite_points(const RasterizeArgs<T>& a, std::vector<DepthKey>& modes) {
    modes.resize(static_cast<size_t>(a.batch));
    std::vector<char> bad(static_cast<size_t>(a.batch), 0);
    parallel_for(a.threads, a.batch, [&](int64_t b) {
        const Vertex<T>* p = a.points + b * a.verts;
        bool pinhole = true, flat = true;
        T sum = 0;  // x - x is 0 for finite x and NaN otherwise
        for (int64_t i = 0; i < a.verts; ++i) {
            pinhole &= p[i].z == p[i].w;
            flat &= p[i].w == T(1);
            sum += (p[i].x - p[i].x) + (p[i].y - p[i].y) + (p[i].z - p[i].z) + (p[i].w - p[i].w);
        }
        bad[static_cast<size_t>(b)] = !(sum == 0);
        modes[static_cast<size_t>(b)] = pinhole ? DepthKey::inverse : flat ? DepthKey::affine : DepthKey::ratio;
    });
    for (char b : bad)
        if (b) return false;
    return true;
}

}  // namespace

template <class T>
Status rasterize(const RasterizeArgs<T>& a) try {
    FaceList list;
    const Status status = list.load(a.faces, a.batch, a.verts, a.threads);
    if (status != Status::ok) return status;
    std::vector<DepthKey> modes;
    if (!finite_points(a, modes)) return Status::not_finite;
    if (a.height == 0 || a.width == 0 || a.batch == 0) return Status::ok;

    const Tiling tiling(a.height, a.width);
    const int64_t per_item = (list.count() + kChunkFaces - 1) / kChunkFaces;
    const int64_t group = std::max<int64_t>(1, std::min(a.batch, kGroupFaces / std::max<int64_t>(1, list.count())));
    static thread_local std::vector<Chunk<T>> kept;  // keeps its memory between calls
    std::vector<Chunk<T>>& chunks = kept;
    if (static_cast<int64_t>(chunks.size()) < group * per_item) chunks.resize(static_cast<size_t>(group * per_item));
    for (int64_t first = 0; first < a.batch; first += group) {
        const int64_t items = std::min(group, a.batch - first);
        parallel_for(a.threads, items * per_item, [&](int64_t i) {
            const int64_t item = first + i / per_item, begin = (i % per_item) * kChunkFaces;
            set_up(a, a.points + item * a.verts, list.item(item), begin, std::min(begin + kChunkFaces, list.count()),
                   modes[static_cast<size_t>(item)], tiling, chunks[static_cast<size_t>(i)]);
        });
        parallel_for(a.threads, items * tiling.count(), [&](int64_t i) {
            const int64_t local = i / tiling.count(), item = first + local;
            draw_tile(a, item, list, modes[static_cast<size_t>(item)], tiling, chunks.data() + local * per_item,
                      per_item, static_cast<int>(i % tiling.count()));
        });
    }
    return Status::ok;
} catch (const std::bad_alloc&) {
    return Status::out_of_memory;
}

template Status rasterize<float>(const RasterizeArgs<float>&);
template Status rasterize<double>(const RasterizeArgs<double>&);

}  // namespace headlab
