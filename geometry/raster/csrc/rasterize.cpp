// Forward pass: triangles are set up in chunks and sorted into picture tiles, then each tile is drawn and resolved.
//
// A tile meets its triangles in face order, so "strictly nearer replaces" gives ties to the smaller face. Tiles are
// independent; which thread draws one does not matter. Doubles, and in single precision the few triangles that it cannot
// decide, are drawn by the plain loops below; the rest by kernels.inl.

#include <algorithm>
#include <cstring>
#include <limits>
#include <new>
#include <vector>

#include "faces.h"
#include "kernels.h"
#include "memory.h"
#include "raster.h"
#include "tiles.h"

namespace headlab {
namespace {

constexpr int kChunkFaces = 512;
constexpr int kChunkVertices = 4096;
constexpr int64_t kGroupFaces = 1 << 19;  // faces set up at once; bounds the memory of large batches

/// Draw one triangle in double precision.
template <class T>
void draw_wide(const ScreenTriangle<T>& t, DepthKey mode, const TileView<T>& tile) {
    Box box = pixel_box(t, tile.y1, tile.x1);
    box.x0 = std::max(box.x0, tile.x0), box.y0 = std::max(box.y0, tile.y0);
    const double area = signed_area(t);
    const double sign = area > 0 ? 1 : -1;
    const Edge e01 = make_edge(t, 0, 1, sign), e12 = make_edge(t, 1, 2, sign), e02 = make_edge(t, 0, 2, -sign);
    const double inverse = 1 / (sign * area);
    const double k0 = t.key[0], k1 = (t.key[1] - k0) * inverse, k2 = (t.key[2] - k0) * inverse;
    const double q0 = t.q[0], q1 = (t.q[1] - q0) * inverse, q2 = (t.q[2] - q0) * inverse;
    for (int y = box.y0; y < box.y1; ++y) {
        for (int x = box.x0; x < box.x1; ++x) {
            const double px = x + 0.5, py = y + 0.5;
            const double l2 = edge_value(e01, px, py), l0 = edge_value(e12, px, py), l1 = edge_value(e02, px, py);
            if (!inside(l2, e01.owns_zero) || !inside(l0, e12.owns_zero) || !inside(l1, e02.owns_zero)) continue;
            double value = k0 + l1 * k1 + l2 * k2;
            if (mode == DepthKey::ratio) value /= q0 + l1 * q1 + l2 * q2;
            const T key = static_cast<T>(value);
            const int64_t i = tile.at(x, y);
            if (tile.last_key && !(key > tile.last_key[i] || (key == tile.last_key[i] && t.face > tile.last_face[i])))
                continue;
            if (key < tile.key[i]) tile.key[i] = key, tile.face[i] = t.face;
        }
    }
}

/// Cut, project and cull one face the general way; `use(triangle, box)` gets what is left, up to two triangles.
template <class T, class Use>
void set_up_face(const RasterizeArgs<T>& a, const Vertex<T>* points, const int32_t* v, int64_t face, DepthKey mode,
                 Use&& use) {
    const auto add = [&](const Vertex<T>& p0, const Vertex<T>& p1, const Vertex<T>& p2) {
        ScreenTriangle<T> t;
        const double area = project_triangle(p0, p1, p2, mode, t);
        if (area == 0 || (a.cull && area > 0)) return;
        const Box box = pixel_box(t, a.height, a.width);
        if (box.empty()) return;
        t.face = static_cast<int32_t>(face);
        use(t, box);
    };
    const Vertex<T> p[3] = {points[v[0]], points[v[1]], points[v[2]]};
    if (p[0].w >= a.near_plane && p[1].w >= a.near_plane && p[2].w >= a.near_plane) return add(p[0], p[1], p[2]);
    Vertex<T> q[4];
    const int corners = clip_near(p, a.near_plane, q);
    if (corners >= 3) add(q[0], q[1], q[2]);
    if (corners == 4) add(q[0], q[2], q[3]);
}

/// The triangles of some consecutive faces, and the tiles that they touch.
template <class T>
struct Chunk;

template <>
struct Chunk<double> {
    std::vector<ScreenTriangle<double>> triangles;
    std::vector<Box> boxes;
    Bins bins;
    DepthKey mode;

    void set_up(const RasterizeArgs<double>& a, const Vertex<double>* points, const ScreenVertex*, const int32_t* faces,
                int64_t begin, int64_t end, bool padding, const Tiling& tiling) {
        triangles.clear(), boxes.clear();
        for (int64_t f = begin; f < end; ++f)
            if (faces[3 * f] >= 0)
                set_up_face(a, points, faces + 3 * f, f, mode, [this](const ScreenTriangle<double>& t, const Box& box) {
                    triangles.push_back(t), boxes.push_back(box);
                });
        bins.fill(tiling, static_cast<int>(boxes.size()), [this](int i) { return boxes[i]; });
    }

    void draw(int tile, TileView<double>& view) const {
        for (uint32_t i = bins.begin[tile]; i < bins.begin[tile + 1]; ++i) draw_wide(triangles[bins.items[i]], mode, view);
    }
};

template <>
struct Chunk<float> {
    std::vector<FastTriangle> triangles, scratch;
    std::vector<ScreenTriangle<float>> wide;
    Bins bins;
    DepthKey mode;

    void set_up(const RasterizeArgs<float>& a, const Vertex<float>* points, const ScreenVertex* screen,
                const int32_t* faces, int64_t begin, int64_t end, bool padding, const Tiling& tiling) {
        if (triangles.size() < kChunkFaces) triangles.resize(kChunkFaces);
        wide.clear();
        int count = 0;
        bool todo = false;
        if (mode == DepthKey::ratio) {
            for (int64_t f = begin; f < end; ++f)
                if (faces[3 * f] >= 0)
                    triangles[count].face = static_cast<int32_t>(f), triangles[count++].margin = FastTriangle::kTodo;
            todo = true;
        } else {
            const SetUpArgs args{screen, faces, begin, end, padding, mode == DepthKey::inverse, a.cull, a.height, a.width};
            count = kernels().set_up(args, triangles.data(), &todo);
        }
        if (todo) {  // replace what the kernel left over by triangles for draw_wide, keeping the order
            scratch.assign(triangles.begin(), triangles.begin() + count);
            triangles.clear();
            for (const FastTriangle& t : scratch) {
                if (t.margin >= 0) {
                    triangles.push_back(t);
                    continue;
                }
                set_up_face(a, points, faces + 3 * int64_t(t.face), t.face, mode,
                            [this](const ScreenTriangle<float>& s, const Box& box) {
                                FastTriangle w{};
                                w.margin = FastTriangle::kWide, w.face = s.face, w.wide = static_cast<int32_t>(wide.size());
                                w.x0 = static_cast<uint16_t>(box.x0), w.x1 = static_cast<uint16_t>(box.x1);
                                w.y0 = static_cast<uint16_t>(box.y0), w.y1 = static_cast<uint16_t>(box.y1);
                                triangles.push_back(w);
                                wide.push_back(s);
                            });
            }
            count = static_cast<int>(triangles.size());
            if (count < kChunkFaces) triangles.resize(kChunkFaces);
        }
        bins.fill(tiling, count, [this](int i) {
            const FastTriangle& t = triangles[i];
            return Box{t.x0, t.x1, t.y0, t.y1};
        });
    }

    void draw(int tile, TileView<float>& view) const {
        view.context = this;
        view.draw_wide = [](const TileView<float>& v, int32_t i) {
            const auto* chunk = static_cast<const Chunk*>(v.context);
            headlab::draw_wide(chunk->wide[i], chunk->mode, v);
        };
        kernels().draw(view, triangles.data(), bins.items.data() + bins.begin[tile], bins.begin[tile + 1] - bins.begin[tile]);
    }
};

template <class T>
void resolve_row(const RasterizeArgs<T>& a, const Vertex<T>* points, const int32_t* faces, int x0, int y, int count,
                 const int32_t* hit, int64_t out, int layer) {
    for (int i = 0; i < count; ++i) {
        const int64_t o = (out + i) * a.layers + layer;
        const int32_t f = hit[i];
        a.face[o] = f;
        if (f < 0) {
            a.bary[3 * o] = a.bary[3 * o + 1] = a.bary[3 * o + 2] = a.depth[o] = 0;
            continue;
        }
        const int32_t* v = faces + 3 * static_cast<int64_t>(f);
        const Vertex<T>&p0 = points[v[0]], &p1 = points[v[1]], &p2 = points[v[2]];
        const Weights<T> w = weights_at(p0, p1, p2, static_cast<T>(x0 + i + 0.5), static_cast<T>(y + 0.5));
        for (int k = 0; k < 3; ++k) a.bary[3 * o + k] = w.b[k];
        a.depth[o] = w.b[0] * p0.z + w.b[1] * p1.z + w.b[2] * p2.z;
    }
}

void resolve_row(const RasterizeArgs<float>& a, const Vertex<float>* points, const int32_t* faces, int x0, int y, int count,
                 const int32_t* hit, int64_t out, int layer) {
    if (a.layers > 1) return resolve_row<float>(a, points, faces, x0, y, count, hit, out, layer);
    kernels().resolve({points, faces, x0, y, count, hit, a.face + out, a.bary + 3 * out, a.depth + out});
}

/// Depth keys and faces of a tile: of the layer being drawn and of the one before it.
template <class T>
struct TileBuffer {
    /// Memory that begins on a cache line.
    template <class U>
    struct Lines {
        std::vector<U> data;
        U* get(size_t size) {
            constexpr size_t kLine = 64 / sizeof(U);
            if (data.size() < size + kLine) data.resize(size + kLine);
            return reinterpret_cast<U*>((reinterpret_cast<uintptr_t>(data.data()) + 63) & ~uintptr_t(63));
        }
    };
    Lines<T> key[2];
    Lines<int32_t> face[2], row;
};

template <class T>
void draw_tile(const RasterizeArgs<T>& a, int64_t item, const FaceList& list, const Tiling& tiling,
               const Chunk<T>* chunks, int64_t chunk_count, int tile) {
    static thread_local TileBuffer<T> buffer;
    const Box box = tiling.box(tile);
    const int blocks = (box.x1 - box.x0 + 3) / 4;
    const size_t size = static_cast<size_t>(blocks) * ((box.y1 - box.y0 + 3) / 4) * 16;
    int32_t* row = buffer.row.get(static_cast<size_t>(blocks) * 4 + kMaxLanes);
    for (int layer = 0; layer < a.layers; ++layer) {
        T* key = buffer.key[layer & 1].get(size);
        int32_t* face = buffer.face[layer & 1].get(size);
        std::fill(key, key + size, std::numeric_limits<T>::infinity());
        std::fill(face, face + size, -1);
        TileView<T> view{box.x0, box.x1, box.y0, box.y1, blocks, key, face, nullptr, nullptr, nullptr, nullptr};
        if (layer > 0) view.last_key = buffer.key[1 - (layer & 1)].get(size), view.last_face = buffer.face[1 - (layer & 1)].get(size);
        for (int64_t i = 0; i < chunk_count; ++i) chunks[i].draw(tile, view);
        for (int y = box.y0; y < box.y1; ++y) {
            const int32_t* from = face + view.at(box.x0, y);
            for (int i = 0; i < blocks; ++i) std::memcpy(row + 4 * i, from + 16 * i, 4 * sizeof(int32_t));
            resolve_row(a, a.points + item * a.verts, list.item(item), box.x0, y, box.x1 - box.x0, row,
                        (item * a.height + y) * static_cast<int64_t>(a.width) + box.x0, layer);
        }
    }
}

uint32_t project_points(const Vertex<float>* points, int64_t count, float near_plane, ScreenVertex* out) {
    return kernels().project(points, count, near_plane, out);
}

uint32_t project_points(const Vertex<double>* points, int64_t count, double, ScreenVertex*) {
    uint32_t flags = 0;
    for (int64_t i = 0; i < count; ++i) {
        const Vertex<double>& p = points[i];
        const double zero = (p.x - p.x) + (p.y - p.y) + (p.z - p.z) + (p.w - p.w);  // NaN if any is not finite
        if (!(zero == 0)) flags |= kNotFinite;
        if (p.z != p.w) flags |= kNotPinhole;
        if (p.w != 1) flags |= kNotFlat;
    }
    return flags;
}

DepthKey key_for(uint32_t flags) {
    return !(flags & kNotPinhole) ? DepthKey::inverse : !(flags & kNotFlat) ? DepthKey::affine : DepthKey::ratio;
}

/// Memory kept between calls, one per calling thread.
template <class T>
struct Workspace {
    std::vector<Chunk<T>> chunks;
    std::vector<ScreenVertex> screen;
    std::vector<uint32_t> flags;
    FaceList list;
};

}  // namespace

template <class T>
Status rasterize(const RasterizeArgs<T>& a) try {
    static thread_local Workspace<T> kept;
    Workspace<T>& work = kept;  // the lambdas below run on other threads: they must not name the thread_local
    const Status status = work.list.load(a.faces, a.batch, a.verts, a.threads);
    if (status != Status::ok) return status;
    const FaceList& list = work.list;
    const size_t hits = static_cast<size_t>(a.batch) * a.height * a.width * a.layers;
    prefer_huge_pages(a.face, hits * sizeof(int32_t));
    prefer_huge_pages(a.bary, hits * 3 * sizeof(T));
    prefer_huge_pages(a.depth, hits * sizeof(T));
    const Tiling tiling(std::max(a.height, 1), std::max(a.width, 1));
    const int64_t per_item = (list.count() + kChunkFaces - 1) / kChunkFaces;
    const int64_t group = std::max<int64_t>(1, std::min(a.batch, kGroupFaces / std::max<int64_t>(1, list.count())));
    if (static_cast<int64_t>(work.chunks.size()) < group * per_item) work.chunks.resize(static_cast<size_t>(group * per_item));
    if (std::is_same_v<T, float> && static_cast<int64_t>(work.screen.size()) < group * a.verts)
        work.screen.resize(static_cast<size_t>(group * a.verts));
    const int64_t vertex_chunks = (a.verts + kChunkVertices - 1) / kChunkVertices;

    for (int64_t first = 0; first < a.batch; first += group) {
        const int64_t items = std::min(group, a.batch - first);
        work.flags.assign(static_cast<size_t>(items * vertex_chunks), 0);
        parallel_for(a.threads, items * vertex_chunks, [&](int64_t i) {
            const int64_t local = i / vertex_chunks, begin = (i % vertex_chunks) * kChunkVertices;
            work.flags[static_cast<size_t>(i)] =
                project_points(a.points + (first + local) * a.verts + begin, std::min<int64_t>(kChunkVertices, a.verts - begin),
                               a.near_plane, work.screen.data() + local * a.verts + begin);
        });
        for (int64_t local = 0; local < items; ++local) {
            uint32_t flags = 0;
            for (int64_t i = 0; i < vertex_chunks; ++i) flags |= work.flags[static_cast<size_t>(local * vertex_chunks + i)];
            if (flags & kNotFinite) return Status::not_finite;
            for (int64_t i = 0; i < per_item; ++i) work.chunks[static_cast<size_t>(local * per_item + i)].mode = key_for(flags);
        }
        if (a.height == 0 || a.width == 0) continue;
        parallel_for(a.threads, items * per_item, [&](int64_t i) {
            const int64_t local = i / per_item, item = first + local, begin = (i % per_item) * kChunkFaces;
            work.chunks[static_cast<size_t>(i)].set_up(a, a.points + item * a.verts, work.screen.data() + local * a.verts,
                                                       list.item(item), begin, std::min(begin + kChunkFaces, list.count()),
                                                       list.has_padding(), tiling);
        });
        parallel_for(a.threads, items * tiling.count(), [&](int64_t i) {
            const int64_t local = i / tiling.count();
            draw_tile(a, first + local, list, tiling, work.chunks.data() + local * per_item, per_item,
                      static_cast<int>(i % tiling.count()));
        });
    }
    return Status::ok;
} catch (const std::bad_alloc&) {
    return Status::out_of_memory;
}

template Status rasterize<float>(const RasterizeArgs<float>&);
template Status rasterize<double>(const RasterizeArgs<double>&);

}  // namespace headlab
