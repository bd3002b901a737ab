#include "../antialias.h"
#include "device.h"
#include "raster_cuda.h"

namespace headlab {
namespace {

/// A pixel and its right or lower neighbour: pair 2 * pixel, or 2 * pixel + 1.
struct Pair {
    int64_t item, first, second;  // pixels are counted over the batch
    int x, y;
    bool down, inside;
};

__device__ Pair pair_at(const CudaAntialias& a, int64_t i) {
    Pair p;
    p.first = i >> 1, p.down = i & 1;
    p.x = static_cast<int>(p.first % a.width), p.y = static_cast<int>(p.first / a.width % a.height);
    p.item = p.first / (a.height * a.width);
    p.second = p.down ? p.first + a.width : p.first + 1;
    p.inside = p.down ? p.y + 1 < a.height : p.x + 1 < a.width;
    return p;
}

__device__ Surface<float> surface_of(const CudaAntialias& a, int64_t item) {
    const int64_t list = a.mesh.faces_batched ? item * a.mesh.count : 0;
    return {a.mesh.points + item * a.mesh.verts, a.mesh.faces + 3 * list, a.across + 4 * list, a.near_plane};
}

__device__ bool drawable(const CudaAntialias& a, const Surface<float>& s, int32_t face) {
    return face < 0 || (face < a.mesh.count && valid_face(s.faces + 3 * static_cast<int64_t>(face), a.mesh.verts));
}

__device__ bool blend_of(const CudaAntialias& a, const Surface<float>& s, const Pair& p, Blend<float>& blend) {
    if (!p.inside) return false;
    const int32_t f = a.face[p.first], g = a.face[p.second];
    if (f == g || !drawable(a, s, f) || !drawable(a, s, g)) return false;
    return find_blend(s, f, g, a.depth[p.first], a.depth[p.second], p.x, p.y, p.down, blend);
}

__global__ void find_blends(CudaAntialias a) {
    const int64_t pairs = 2 * a.mesh.batch * a.height * a.width;
    for (int64_t i = thread_index(); i < pairs; i += thread_count()) {
        const Pair p = pair_at(a, i);
        Blend<float> blend;
        const bool found = blend_of(a, surface_of(a, p.item), p, blend);
        a.weight[i] = !found ? 0 : blend.neighbour_moves ? -blend.weight : blend.weight;
        if (a.silhouette) a.silhouette[i] = found ? static_cast<int32_t>(blend.face) : -1;
    }
}

/// The pairs of a pixel in the CPU driver's order, and their other pixels: above, left, right, below.
struct Around {
    int64_t pair[4], other[4];
    float weight[4];  // > 0: this pixel moves towards the other, < 0: the other towards this one
};

__device__ Around around(const CudaAntialias& a, int64_t pixel) {
    const int64_t x = pixel % a.width, y = pixel / a.width % a.height;
    const bool there[4] = {y > 0, x > 0, x + 1 < a.width, y + 1 < a.height};
    Around r;
    r.other[0] = pixel - a.width, r.other[1] = pixel - 1, r.other[2] = pixel + 1, r.other[3] = pixel + a.width;
    r.pair[0] = 2 * r.other[0] + 1, r.pair[1] = 2 * r.other[1], r.pair[2] = 2 * pixel, r.pair[3] = 2 * pixel + 1;
    for (int k = 0; k < 4; ++k) r.weight[k] = !there[k] ? 0 : k < 2 ? -a.weight[r.pair[k]] : a.weight[r.pair[k]];
    return r;
}

__global__ void mix(CudaAntialias a) {
    const int64_t work = a.mesh.batch * a.height * a.width * a.channels;
    for (int64_t i = thread_index(); i < work; i += thread_count()) {
        const int64_t c = i % a.channels;
        const Around r = around(a, i / a.channels);
        const float own = a.image[i];
        float value = own;
        for (int k = 0; k < 4; ++k)
            if (r.weight[k] > 0) value += r.weight[k] * (a.image[r.other[k] * a.channels + c] - own);
        a.out[i] = value;
    }
}

__global__ void image_gradient(CudaAntialiasBackward b) {
    const CudaAntialias& a = b.forward;
    const int64_t work = a.mesh.batch * a.height * a.width * a.channels;
    for (int64_t i = thread_index(); i < work; i += thread_count()) {
        const int64_t c = i % a.channels;
        const Around r = around(a, i / a.channels);
        const float own = b.grad_out[i];
        float value = own;
        for (int k = 0; k < 4; ++k) {
            if (r.weight[k] > 0) value -= r.weight[k] * own;
            if (r.weight[k] < 0) value += -r.weight[k] * b.grad_out[r.other[k] * a.channels + c];
        }
        b.grad_image[i] = value;
    }
}

/// A warp sums over the pairs whose silhouette lies on one face.
__global__ void point_gradient(CudaAntialiasBackward b) {
    const CudaAntialias& a = b.forward;
    const int lane = threadIdx.x % kWarp;
    const int64_t warps = thread_count() / kWarp;
    for (int64_t i = thread_index() / kWarp; i < a.mesh.batch * a.mesh.count; i += warps) {
        const Surface<float> s = surface_of(a, i / a.mesh.count);
        float sum[3][3] = {};
        for (int64_t k = b.lists.begin[i] + lane; k < b.lists.begin[i + 1]; k += kWarp) {
            const Pair p = pair_at(a, b.lists.pixels[k]);
            Blend<float> blend;
            if (!blend_of(a, s, p, blend)) continue;
            const int64_t to = (blend.neighbour_moves ? p.second : p.first) * a.channels;
            const int64_t from = (blend.neighbour_moves ? p.first : p.second) * a.channels;
            float grad = 0;
            for (int64_t c = 0; c < a.channels; ++c) grad += b.grad_out[to + c] * (a.image[from + c] - a.image[to + c]);
            Vertex<float> d[2];
            blend_backward(s, blend, grad, d);
            for (int m = 0; m < 3; ++m) {
                if (m == blend.edge) sum[m][0] += d[0].x, sum[m][1] += d[0].y, sum[m][2] += d[0].w;
                if (m == (blend.edge + 1) % 3) sum[m][0] += d[1].x, sum[m][1] += d[1].y, sum[m][2] += d[1].w;
            }
        }
        for (int c = 0; c < 9; ++c) {
            const float total = warp_sum(sum[c / 3][c % 3]);
            if (lane == c % kWarp) b.corners[12 * i + 4 * (c / 3) + (c % 3 == 2 ? 3 : c % 3)] = total;
        }
        for (int m = lane; m < 3; m += kWarp) b.corners[12 * i + 4 * m + 2] = 0;
    }
}

}  // namespace

void cuda_antialias(const CudaAntialias& a, void* stream) {
    auto s = static_cast<cudaStream_t>(stream);
    const int64_t pixels = a.mesh.batch * a.height * a.width;
    if (pixels == 0) return;
    find_blends<<<blocks_for(2 * pixels), kThreads, 0, s>>>(a);
    if (a.out && a.channels > 0) mix<<<blocks_for(pixels * a.channels), kThreads, 0, s>>>(a);
}

void cuda_antialias_backward(const CudaAntialiasBackward& b, void* stream) {
    auto s = static_cast<cudaStream_t>(stream);
    const CudaAntialias& a = b.forward;
    const int64_t values = a.mesh.batch * a.height * a.width * a.channels, faces = a.mesh.batch * a.mesh.count;
    if (b.grad_image && values > 0) image_gradient<<<blocks_for(values), kThreads, 0, s>>>(b);
    if (b.corners && faces > 0) point_gradient<<<blocks_for(kWarp * faces), kThreads, 0, s>>>(b);
}

}  // namespace headlab
