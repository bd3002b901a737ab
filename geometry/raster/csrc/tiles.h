// Cutting the picture into tiles and sorting triangles into them.
#pragma once

#include <algorithm>
#include <cstdint>
#include <vector>

#include "math.h"

namespace headlab {

struct Box {
    int x0, x1, y0, y1;  // pixels, end exclusive
    bool empty() const { return x0 >= x1 || y0 >= y1; }
};

/// Tiles of 2^k pixels a side, small enough that a tile's depth and face buffers stay in the cache, and enough of them
/// to keep several threads busy.
struct Tiling {
    int height, width, shift_y, shift_x, rows, cols;

    Tiling(int h, int w) : height(h), width(w), shift_y(4), shift_x(5) {
        while (shift_x < 8 && (1 << shift_x) < w) ++shift_x;
        while (shift_y < 5 && (h >> shift_y) > 16) ++shift_y;
        rows = (h + (1 << shift_y) - 1) >> shift_y, cols = (w + (1 << shift_x) - 1) >> shift_x;
    }
    int count() const { return rows * cols; }
    Box box(int tile) const {
        const int r = tile / cols, c = tile % cols;
        return {c << shift_x, std::min((c + 1) << shift_x, width), r << shift_y, std::min((r + 1) << shift_y, height)};
    }
};

/// For each tile the list of triangles whose boxes touch it, in order.
struct Bins {
    std::vector<uint32_t> begin;  // per tile, into `items`; more at the end
    std::vector<uint16_t> items;

    /// `box(i)` is the box of triangle i; at most 65,536 triangles.
    template <class BoxOf>
    void fill(const Tiling tiling, int count, BoxOf&& box) {
        const auto each_tile = [&](auto&& visit) {
            for (int i = 0; i < count; ++i) {
                const Box b = box(i);
                const int r0 = b.y0 >> tiling.shift_y, r1 = (b.y1 - 1) >> tiling.shift_y;
                const int c0 = b.x0 >> tiling.shift_x, c1 = (b.x1 - 1) >> tiling.shift_x;
                const size_t first = static_cast<size_t>(r0) * tiling.cols + c0;
                if (c0 == c1 && r1 <= r0 + 1) {  // small: without guessing whether it lies in one tile or two
                    visit(first, i, 1);
                    visit(first + tiling.cols, i, r1 - r0);
                    continue;
                }
                for (int r = r0; r <= r1; ++r)
                    for (int c = c0; c <= c1; ++c) visit(static_cast<size_t>(r) * tiling.cols + c, i, 1);
            }
        };
        const size_t tiles = static_cast<size_t>(tiling.count());
        // Counted two places on: after filling, entry i is where tile i begins. A row of tiles more, for empty visits.
        begin.assign(tiles + tiling.cols + 2, 0);
        uint32_t* const at = begin.data();
        each_tile([at](size_t tile, int, int entries) { at[tile + 2] += static_cast<uint32_t>(entries); });
        for (size_t i = 2; i < begin.size(); ++i) at[i] += at[i - 1];
        if (items.size() < begin.back() + size_t(1)) items.resize(begin.back() + size_t(1));
        uint16_t* const item = items.data();
        const uint32_t nowhere = begin.back();
        each_tile([at, item, nowhere](size_t tile, int i, int entries) {
            const uint32_t next = at[tile + 1];
            item[entries ? next : nowhere] = static_cast<uint16_t>(i);
            at[tile + 1] = next + static_cast<uint32_t>(entries);
        });
    }
};

template <class T>
Box pixel_box(const ScreenTriangle<T>& t, int height, int width) {
    const T left = std::min({t.u[0], t.u[1], t.u[2]}), right = std::max({t.u[0], t.u[1], t.u[2]});
    return {first_centre(left, width), past_centre(right, width), first_centre(t.v[0], height),
            past_centre(t.v[2], height)};
}

}  // namespace headlab
