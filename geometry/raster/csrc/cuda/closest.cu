#include "../closest.h"
#include "device.h"
#include "raster_cuda.h"

namespace headlab {
namespace {

constexpr int kLevels = 16;  // 4^16 leaves: more than there can be faces

/// Nodes per level, and where each level's boxes begin.
struct Levels {
    int count;
    int64_t nodes[kLevels], begin[kLevels + 1];
};

Levels levels_of(int64_t triangles) {
    Levels l{};
    int64_t below = triangles;
    do {
        const int64_t nodes = (below + kTreeWidth - 1) / kTreeWidth;
        l.nodes[l.count] = nodes, l.begin[l.count + 1] = l.begin[l.count] + nodes;
        ++l.count, below = nodes;
    } while (below > 1);
    return l;
}

template <class T>
__device__ T* box_at(const CudaClosest<T>& a, const Levels& l, int64_t mesh, int level, int64_t node) {
    return a.boxes + 6 * (mesh * l.begin[l.count] + l.begin[level] + node);
}

/// Boxes of one level from the triangles (level 0) or from the level below.
template <class T>
__global__ void fit_boxes(CudaClosest<T> a, Levels l, int level) {
    const int64_t nodes = l.nodes[level], meshes = a.meshes_batched ? a.batch : 1;
    const int64_t below = level ? l.nodes[level - 1] : a.count;
    for (int64_t i = thread_index(); i < meshes * nodes; i += thread_count()) {
        const int64_t mesh = i / nodes, node = i % nodes;
        T low[3], high[3];
        for (int d = 0; d < 3; ++d) low[d] = static_cast<T>(INFINITY), high[d] = -low[d];
        for (int64_t k = kTreeWidth * node; k < kTreeWidth * (node + 1) && k < below; ++k) {
            const T* from = level ? box_at(a, l, mesh, level - 1, k) : a.triangles + 9 * (mesh * a.count + k);
            for (int c = 0; c < (level ? 6 : 9); ++c) {
                const int d = c % 3;
                low[d] = from[c] < low[d] ? from[c] : low[d], high[d] = from[c] > high[d] ? from[c] : high[d];
            }
        }
        T* box = box_at(a, l, mesh, level, node);
        for (int d = 0; d < 3; ++d) box[d] = low[d], box[3 + d] = high[d];
    }
}

template <class T>
struct Best {
    T squared;
    int64_t triangle, face;
};

template <class T>
__device__ void visit_leaf(const CudaClosest<T>& a, int64_t mesh, int64_t leaf, const T (&p)[3], Best<T>& best) {
    for (int64_t k = kTreeWidth * leaf; k < kTreeWidth * (leaf + 1) && k < a.count; ++k) {
        const T* t = a.triangles + 9 * (mesh * a.count + k);
        const T corner[3] = {t[0], t[1], t[2]};
        const T ab[3] = {t[3] - t[0], t[4] - t[1], t[5] - t[2]}, ac[3] = {t[6] - t[0], t[7] - t[1], t[8] - t[2]};
        const T squared = triangle_distance(p, corner, ab, ac);
        const int64_t face = a.order[mesh * a.count + k];
        if (squared < best.squared || (squared == best.squared && face < best.face)) best = {squared, k, face};
    }
}

template <class T>
__global__ void search(CudaClosest<T> a, Levels l) {
    struct Entry {
        T distance;
        int32_t level;  // of the node
        int64_t node;
    };
    for (int64_t i = thread_index(); i < a.batch * a.points; i += thread_count()) {
        const int64_t item = i / a.points, at = item * a.points + a.visit[i], mesh = a.meshes_batched ? item : 0;
        const T p[3] = {a.query[3 * at], a.query[3 * at + 1], a.query[3 * at + 2]};
        Best<T> best{static_cast<T>(INFINITY), 0, INT64_MAX};
        const int64_t start = a.start[at] / kTreeWidth;
        visit_leaf(a, mesh, start, p, best);
        Entry stack[kLevels * (kTreeWidth - 1) + 1];
        int depth = 0;
        stack[depth++] = {T(0), l.count - 1, 0};
        while (depth > 0) {
            const Entry entry = stack[--depth];
            if (entry.distance > best.squared) continue;
            if (entry.level == 0) {
                if (entry.node != start) visit_leaf(a, mesh, entry.node, p, best);
                continue;
            }
            const int level = entry.level - 1, bottom = depth;
            for (int64_t k = kTreeWidth * entry.node; k < kTreeWidth * (entry.node + 1) && k < l.nodes[level]; ++k) {
                const T* box = box_at(a, l, mesh, level, k);
                const T low[3] = {box[0], box[1], box[2]}, high[3] = {box[3], box[4], box[5]};
                const T distance = box_distance(p, low, high);
                if (!(distance <= best.squared)) continue;
                int slot = depth++;  // nearest on top
                for (; slot > bottom && stack[slot - 1].distance < distance; --slot) stack[slot] = stack[slot - 1];
                stack[slot] = {distance, level, k};
            }
        }
        a.face[at] = static_cast<int32_t>(best.face);
        const T* t = a.triangles + 9 * (mesh * a.count + best.triangle);
        closest_weights(p, t, t + 3, t + 6, a.bary + 3 * at);
    }
}

}  // namespace

template <class T>
void cuda_closest_point(const CudaClosest<T>& a, void* stream) {
    auto s = static_cast<cudaStream_t>(stream);
    const int64_t queries = a.batch * a.points, meshes = a.meshes_batched ? a.batch : 1;
    if (queries == 0 || a.count == 0) return;
    const Levels l = levels_of(a.count);
    for (int level = 0; level < l.count; ++level)
        fit_boxes<<<blocks_for(meshes * l.nodes[level]), kThreads, 0, s>>>(a, l, level);
    search<<<blocks_for(queries), kThreads, 0, s>>>(a, l);
}

template void cuda_closest_point<float>(const CudaClosest<float>&, void*);
template void cuda_closest_point<double>(const CudaClosest<double>&, void*);

}  // namespace headlab
