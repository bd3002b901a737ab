// Inner loops in float, compiled once per instruction set (kernels_*.cpp) and chosen at run time.
//
// Those files share no function bodies with the rest: everything they define has internal linkage, so that code for a newer
// processor can never end up in a path that runs on an older one.
#pragma once

#include <cstdint>

#include "math.h"

namespace headlab {

/// x / w, y / w, z / w, 1 / w; u is NaN where the vertex lies in front of the near plane.
struct ScreenVertex {
    float u, v, depth, q;
};

/// What a mesh's points are like (bits, joined over all chunks).
enum PointFlags : uint32_t { kNotFinite = 1, kNotPinhole = 2, kNotFlat = 4 };

/// A triangle ready to be drawn, corners sorted by (v, u), edges oriented to be positive inside.
///
/// Single precision decides coverage wherever all edge functions are farther than `margin` from zero, a bound of their
/// rounding error; nearer pixels are decided in double. Triangles for which that bound is not small against their area
/// (slivers, huge ones) and cut ones are drawn in double throughout: margin < 0.
struct FastTriangle {
    // Sixteen floats, then sixteen bytes: set-up writes them in rows of four.
    float u[3], v[3];
    float dx01, dy01, dx12, dy12, dx02, dy02;
    float key, key1, key2;  // key + l1 key1 + l2 key2, where l_i is the edge function opposite corner i
    float margin;
    uint16_t x0, x1, y0, y1;  // pixels, end exclusive
    int32_t face;
    int32_t wide;  // index of the double triangle if margin is kWide; the face is yet to be set up if kTodo
    static constexpr float kWide = -1, kTodo = -2;
};

struct SetUpArgs {
    const ScreenVertex* vertices;
    const int32_t* faces;  // of the whole mesh
    int64_t begin, end;
    bool padding;  // there may be rows of -1
    bool pinhole;  // key is -1 / w, else z
    bool cull;
    int height, width;
};

/// Part of the picture being drawn. The buffers hold blocks of 4 x 4 pixels, row by row within a block and blocks row by
/// row, so that a small triangle meets few vectors; the pixels that fill up the last blocks may be overwritten with anything.
template <class T>
struct TileView {
    int x0, x1, y0, y1;  // x0 and y0 are multiples of 4
    int blocks;          // in a row
    T* key;
    int32_t* face;
    const T* last_key;  // the layer before, or null
    const int32_t* last_face;
    const void* context;  // for `draw_wide`
    void (*draw_wide)(const TileView&, int32_t wide);

    int64_t at(int x, int y) const {
        const int dx = x - x0, dy = y - y0;
        return (static_cast<int64_t>(dy >> 2) * blocks + (dx >> 2)) * 16 + (dy & 3) * 4 + (dx & 3);
    }
};
constexpr int kMaxLanes = 16;

struct ResolveArgs {
    const Vertex<float>* points;
    const int32_t* faces;
    int x0, y, count;  // pixels of one row
    const int32_t* hit;
    int32_t* face;  // first output of the row; layers == 1
    float* bary;
    float* depth;
};

struct PixelGradientArgs {
    const Vertex<float>* points;
    const int32_t* faces;
    int x0, y, count;  // pixels of one row; layers == 1
    const int32_t* face;
    const float* grad_bary;   // or null
    const float* grad_depth;  // or null
    Vertex<float>* grad;
};

struct AttributeArgs {
    const float* attributes;
    const int32_t* faces;
    int64_t channels, count;
    const int32_t* face;
    const float* bary;
    float* out;
};

struct AttributeGradientArgs {
    const float* attributes;
    const int32_t* faces;
    int64_t channels, count;
    const int32_t* face;
    const float* bary;
    const float* grad_out;
    float* grad_attributes;  // added to; or null
    float* grad_bary;        // or null
};

struct Kernels {
    const char* name;
    uint32_t (*project)(const Vertex<float>* points, int64_t count, float near_plane, ScreenVertex* out);
    /// Appends to `out` (room for end - begin); returns how many. Sets `todo` if any are left to the caller.
    int (*set_up)(const SetUpArgs&, FastTriangle* out, bool* todo);
    void (*draw)(const TileView<float>&, const FastTriangle* triangles, const uint16_t* items, int64_t count);
    void (*resolve)(const ResolveArgs&);
    void (*pixel_gradient)(const PixelGradientArgs&);
    void (*interpolate)(const AttributeArgs&);
    void (*attribute_gradient)(const AttributeGradientArgs&);
};

extern const Kernels kScalarKernels, kAvx2Kernels, kAvx512Kernels;

/// The fastest set this processor runs. HEADLAB_SIMD=scalar|avx2|avx512 in the environment asks for a slower one.
const Kernels& kernels();

}  // namespace headlab
