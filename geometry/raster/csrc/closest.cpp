// Closest point on a mesh: a bounding volume tree, eight children a node and eight triangles a leaf, so that one step is
// one SIMD pass. Built anew for every call (meshes deform between calls) by halving at the median of the longest axis.

#include <algorithm>
#include <limits>
#include <new>
#include <numeric>
#include <vector>

#include "closest.h"
#include "faces.h"
#include "raster.h"
#include "simd.h"

namespace headlab {
namespace {

constexpr int kWide = 8;
constexpr int kPointsPerTask = 256;

template <class T>
struct alignas(64) Node {
    T low[3][kWide], high[3][kWide];
    int32_t child[kWide];  // >= 0 a node, < 0 the leaf ~child
};

/// Corner a and edges ab, ac of eight triangles. Lanes without a triangle hold copies of the first.
template <class T>
struct alignas(64) Leaf {
    T a[3][kWide], ab[3][kWide], ac[3][kWide];
    int32_t face[kWide];
};

template <class T>
struct Tree {
    std::vector<Node<T>> nodes;  // the root is first
    std::vector<Leaf<T>> leaves;
};

template <class T>
struct Bounds {
    T low[3], high[3];
};

template <class T>
class Builder {
  public:
    Builder(const T* vertices, const int32_t* faces, int64_t count, Tree<T>& tree)
        : vertices_(vertices), faces_(faces), tree_(tree) {
        for (int64_t f = 0; f < count; ++f)
            if (faces[3 * f] >= 0) order_.push_back(static_cast<int32_t>(f));
        tree.nodes.clear(), tree.leaves.clear();
        if (order_.empty()) return;
        bounds_.resize(static_cast<size_t>(count));
        for (int32_t f : order_)
            for (int d = 0; d < 3; ++d) {
                const T p = at(f, 0, d), q = at(f, 1, d), r = at(f, 2, d);
                bounds_[f].low[d] = std::min({p, q, r}), bounds_[f].high[d] = std::max({p, q, r});
            }
        node(0, static_cast<int64_t>(order_.size()));
    }

  private:
    struct Range {
        int64_t begin, end;
        Bounds<T> bounds;
        int64_t leaves() const { return (end - begin + kWide - 1) / kWide; }
    };

    T at(int32_t face, int corner, int d) const {
        return vertices_[3 * static_cast<int64_t>(faces_[3 * static_cast<int64_t>(face) + corner]) + d];
    }

    Range range(int64_t begin, int64_t end) const {
        Range r{begin, end, bounds_[order_[begin]]};
        for (int64_t i = begin + 1; i < end; ++i)
            for (int d = 0; d < 3; ++d) {
                r.bounds.low[d] = std::min(r.bounds.low[d], bounds_[order_[i]].low[d]);
                r.bounds.high[d] = std::max(r.bounds.high[d], bounds_[order_[i]].high[d]);
            }
        return r;
    }

    int32_t node(int64_t begin, int64_t end) {
        Range part[kWide] = {range(begin, end)};
        int parts = 1;
        while (parts < kWide) {
            Range* widest = std::max_element(part, part + parts,
                                             [](const Range& a, const Range& b) { return a.leaves() < b.leaves(); });
            if (widest->leaves() < 2) break;
            int axis = 0;
            for (int d = 1; d < 3; ++d)
                if (widest->bounds.high[d] - widest->bounds.low[d] > widest->bounds.high[axis] - widest->bounds.low[axis])
                    axis = d;
            const int64_t b = widest->begin, e = widest->end, middle = b + (widest->leaves() / 2) * kWide;
            std::nth_element(order_.begin() + b, order_.begin() + middle, order_.begin() + e, [&](int32_t p, int32_t q) {
                const T x = bounds_[p].low[axis] + bounds_[p].high[axis], y = bounds_[q].low[axis] + bounds_[q].high[axis];
                return x < y || (x == y && p < q);
            });
            *widest = range(b, middle);
            part[parts++] = range(middle, e);
        }
        const auto index = static_cast<int32_t>(tree_.nodes.size());
        tree_.nodes.emplace_back();
        for (int i = 0; i < kWide; ++i) {
            int32_t child = 0;
            if (i < parts) child = part[i].leaves() > 1 ? node(part[i].begin, part[i].end) : leaf(part[i].begin, part[i].end);
            Node<T>& n = tree_.nodes[index];
            n.child[i] = child;
            for (int d = 0; d < 3; ++d) {
                n.low[d][i] = i < parts ? part[i].bounds.low[d] : std::numeric_limits<T>::infinity();
                n.high[d][i] = i < parts ? part[i].bounds.high[d] : -std::numeric_limits<T>::infinity();
            }
        }
        return index;
    }

    int32_t leaf(int64_t begin, int64_t end) {
        tree_.leaves.emplace_back();
        Leaf<T>& l = tree_.leaves.back();
        for (int i = 0; i < kWide; ++i) {
            const int32_t f = order_[begin + i < end ? begin + i : begin];
            l.face[i] = f;
            for (int d = 0; d < 3; ++d) {
                l.a[d][i] = at(f, 0, d), l.ab[d][i] = at(f, 1, d) - at(f, 0, d), l.ac[d][i] = at(f, 2, d) - at(f, 0, d);
            }
        }
        return ~static_cast<int32_t>(tree_.leaves.size() - 1);
    }

    const T* vertices_;
    const int32_t* faces_;
    Tree<T>& tree_;
    std::vector<int32_t> order_;
    std::vector<Bounds<T>> bounds_;
};

/// Squared distance from p to eight boxes.
template <class T>
HL_FN void box_distances(const Node<T>& n, const T (&p)[3], T (&out)[kWide]) {
    for (int i = 0; i < kWide; ++i) {
        const T low[3] = {n.low[0][i], n.low[1][i], n.low[2][i]}, high[3] = {n.high[0][i], n.high[1][i], n.high[2][i]};
        out[i] = box_distance(p, low, high);
    }
}

/// Squared distance from p to eight triangles.
template <class T>
HL_FN void leaf_distances(const Leaf<T>& l, const T (&p)[3], T (&out)[kWide]) {
    for (int i = 0; i < kWide; ++i) {
        const T a[3] = {l.a[0][i], l.a[1][i], l.a[2][i]}, ab[3] = {l.ab[0][i], l.ab[1][i], l.ab[2][i]};
        const T ac[3] = {l.ac[0][i], l.ac[1][i], l.ac[2][i]};
        out[i] = triangle_distance(p, a, ab, ac);
    }
}

template <class T>
struct Best {
    T squared;
    int32_t face, leaf;
};

template <class T>
HL_FN void visit_leaf(const Tree<T>& tree, int32_t leaf, const T (&p)[3], Best<T>& best) {
    alignas(64) T distance[kWide];
    const Leaf<T>& l = tree.leaves[leaf];
    leaf_distances(l, p, distance);
    for (int i = 0; i < kWide; ++i)
        if (distance[i] < best.squared || (distance[i] == best.squared && l.face[i] < best.face))
            best = {distance[i], l.face[i], leaf};
}

/// Nearest faces of consecutive points; each search starts from the leaf that answered the last.
template <class T>
HL_FN void search_body(const Tree<T>& tree, const T* points, int64_t count, int32_t* face) {
    struct Entry {
        T distance;
        int32_t child;
    };
    Entry stack[512];  // at most 7 more per level, and a tree over 2^31 faces has 11 levels
    int32_t last = -1;
    for (int64_t i = 0; i < count; ++i) {
        const T p[3] = {points[3 * i], points[3 * i + 1], points[3 * i + 2]};
        Best<T> best{std::numeric_limits<T>::infinity(), std::numeric_limits<int32_t>::max(), -1};
        if (last >= 0) visit_leaf(tree, last, p, best);
        int depth = 0;
        stack[depth++] = {T(0), 0};
        while (depth > 0) {
            const Entry entry = stack[--depth];
            if (entry.distance > best.squared) continue;
            if (entry.child < 0) {
                if (~entry.child != last) visit_leaf(tree, ~entry.child, p, best);
                continue;
            }
            alignas(64) T distance[kWide];
            const Node<T>& n = tree.nodes[entry.child];
            box_distances(n, p, distance);
            const int bottom = depth;
            for (int k = 0; k < kWide; ++k) {
                if (!(distance[k] <= best.squared) || n.low[0][k] > n.high[0][k]) continue;
                int slot = depth++;  // nearest on top
                for (; slot > bottom && stack[slot - 1].distance < distance[k]; --slot) stack[slot] = stack[slot - 1];
                stack[slot] = {distance[k], n.child[k]};
            }
        }
        face[i] = best.leaf < 0 ? -1 : best.face;
        last = best.leaf;
    }
}

HL_CLONES void search(const Tree<float>& t, const float* p, int64_t n, int32_t* f) { search_body(t, p, n, f); }
HL_CLONES void search(const Tree<double>& t, const double* p, int64_t n, int32_t* f) { search_body(t, p, n, f); }

template <class T>
bool all_finite(const T* x, int64_t count) {
    T sum = 0;
    for (int64_t i = 0; i < count; ++i) sum += x[i] - x[i];
    return sum == 0;
}

}  // namespace

template <class T>
Status closest_point(const ClosestArgs<T>& a) try {
    FaceList list;
    const Status status = list.load(a.faces, 1, a.verts, a.threads);
    if (status != Status::ok) return status;
    const int64_t meshes = a.vertices_batched ? a.batch : 1;
    if (!all_finite(a.vertices, meshes * a.verts * 3) || !all_finite(a.points, a.batch * a.count * 3))
        return Status::not_finite;
    std::vector<Tree<T>> trees(static_cast<size_t>(meshes));
    parallel_for(a.threads, meshes, [&](int64_t i) {
        Builder<T>(a.vertices + i * a.verts * 3, list.item(0), list.count(), trees[static_cast<size_t>(i)]);
    });
    if (meshes > 0 && trees[0].nodes.empty()) return Status::no_faces;
    const int64_t tasks = (a.count + kPointsPerTask - 1) / kPointsPerTask;
    parallel_for(a.threads, a.batch * tasks, [&](int64_t task) {
        const int64_t item = task / tasks, begin = (task % tasks) * kPointsPerTask;
        const int64_t count = std::min<int64_t>(kPointsPerTask, a.count - begin), first = item * a.count + begin;
        const T* vertices = a.vertices + (a.vertices_batched ? item * a.verts * 3 : 0);
        search(trees[static_cast<size_t>(a.vertices_batched ? item : 0)], a.points + 3 * first, count, a.face + first);
        for (int64_t i = first; i < first + count; ++i) {
            const int32_t* v = list.item(0) + 3 * static_cast<int64_t>(a.face[i]);
            closest_weights(a.points + 3 * i, vertices + 3 * int64_t(v[0]), vertices + 3 * int64_t(v[1]),
                            vertices + 3 * int64_t(v[2]), a.bary + 3 * i);
        }
    });
    return Status::ok;
} catch (const std::bad_alloc&) {
    return Status::out_of_memory;
}

template Status closest_point<float>(const ClosestArgs<float>&);
template Status closest_point<double>(const ClosestArgs<double>&);

}  // namespace headlab
