#include "device.h"
#include "raster_cuda.h"

namespace headlab {
namespace {

constexpr int kSmall = 256;  // pixels of a box that one thread draws alone
constexpr uint64_t kNothing = ~uint64_t(0);

/// A triangle ready to be drawn; as FastTriangle of the CPU driver, with its exact edges beside.
struct Drawable {
    Edge exact[3];  // opposite corners 0, 1, 2
    float ax[3], ay[3], dx[3], dy[3];
    float key, key1, key2, q, q1, q2;
    float margin;  // negative: decide in double only
    int x0, x1, y0, y1;
    int32_t face;
};

__device__ bool make_drawable(const ScreenTriangle<float>& t, int height, int width, Drawable& d) {
    const float left = fminf(fminf(t.u[0], t.u[1]), t.u[2]), right = fmaxf(fmaxf(t.u[0], t.u[1]), t.u[2]);
    d.x0 = first_centre(left, width), d.x1 = past_centre(right, width);
    d.y0 = first_centre(t.v[0], height), d.y1 = past_centre(t.v[2], height);
    if (d.x0 >= d.x1 || d.y0 >= d.y1) return false;
    const double area = signed_area(t), sign = area > 0 ? 1 : -1, size = sign * area;
    d.exact[0] = make_edge(t, 1, 2, sign), d.exact[1] = make_edge(t, 0, 2, -sign), d.exact[2] = make_edge(t, 0, 1, sign);
    for (int i = 0; i < 3; ++i) {
        d.ax[i] = static_cast<float>(d.exact[i].ax), d.ay[i] = static_cast<float>(d.exact[i].ay);
        d.dx[i] = static_cast<float>(d.exact[i].dx), d.dy[i] = static_cast<float>(d.exact[i].dy);
    }
    d.key = t.key[0], d.key1 = static_cast<float>((double(t.key[1]) - t.key[0]) / size);
    d.key2 = static_cast<float>((double(t.key[2]) - t.key[0]) / size);
    d.q = t.q[0], d.q1 = static_cast<float>((double(t.q[1]) - t.q[0]) / size);
    d.q2 = static_cast<float>((double(t.q[2]) - t.q[0]) / size);
    d.margin = (right - left + 1) * (t.v[2] - t.v[0] + 1) * (1.0f / (1 << 20));
    if (!(d.margin * 1024 < size) || !(size < 1e30)) d.margin = -1;
    d.face = t.face;
    return true;
}

/// The triangles left of a face after cutting and culling: up to two. Returns a bit for each.
__device__ int set_up(const CudaRasterize& a, int64_t item, int64_t face, Drawable (&out)[2]) {
    const int32_t* v = a.mesh.faces + 3 * ((a.mesh.faces_batched ? item * a.mesh.count : 0) + face);
    if (!valid_face(v, a.mesh.verts)) return 0;
    const Vertex<float>* points = a.mesh.points + item * a.mesh.verts;
    const Vertex<float> p[3] = {points[v[0]], points[v[1]], points[v[2]]};
    Vertex<float> q[4];
    const int corners = clip_near(p, a.near_plane, q);
    int made = 0;
    for (int i = 0; i + 2 < corners; ++i) {
        ScreenTriangle<float> t;
        const double area = project_triangle(q[0], q[i + 1], q[i + 2], DepthKey::ratio, t);
        if (area == 0 || (a.cull && area > 0)) continue;
        t.face = static_cast<int32_t>(face);
        if (make_drawable(t, a.height, a.width, out[i])) made |= 1 << i;
    }
    return made;
}

/// Floats in an order that unsigned integers share.
__device__ uint32_t ordered_bits(float x) {
    const uint32_t b = __float_as_uint(x);
    return b & 0x80000000u ? ~b : b | 0x80000000u;
}

__device__ void draw_pixel(const CudaRasterize& a, const Drawable& d, int64_t item, int x, int y) {
    float l[3];
    bool in = true, sure = d.margin >= 0;
    for (int i = 0; i < 3; ++i) {
        const float px = static_cast<float>(x) + 0.5f, py = static_cast<float>(y) + 0.5f;
        l[i] = d.dx[i] * (py - d.ay[i]) - d.dy[i] * (px - d.ax[i]);
        in = in && l[i] > d.margin;
        if (sure && l[i] < -d.margin) return;
    }
    if (!sure || !in) {
        for (int i = 0; i < 3; ++i) {
            const double e = edge_value(d.exact[i], x + 0.5, y + 0.5);
            if (!inside(e, d.exact[i].owns_zero)) return;
            l[i] = static_cast<float>(e);
        }
    }
    const float key = (d.key + l[1] * d.key1 + l[2] * d.key2) / (d.q + l[1] * d.q1 + l[2] * d.q2);
    const uint64_t packed = static_cast<uint64_t>(ordered_bits(key)) << 32 | static_cast<uint32_t>(d.face);
    const int64_t at = (item * a.height + y) * a.width + x;
    if (a.last != nullptr && a.last[at] != kNothing && packed <= a.last[at]) return;
    if (packed < a.nearest[at])
        atomicMin(reinterpret_cast<unsigned long long*>(a.nearest + at), static_cast<unsigned long long>(packed));
}

__global__ void clear(CudaRasterize a, bool first) {
    const int64_t pixels = a.mesh.batch * a.height * a.width;
    for (int64_t i = thread_index(); i < pixels; i += thread_count()) {
        // In `last`, "nothing" must stop further layers, not let everything pass: keep it as the end of all things.
        if (a.last != nullptr) a.last[i] = first ? kNothing : a.nearest[i] == kNothing ? kNothing - 1 : a.nearest[i];
        a.nearest[i] = kNothing;
    }
    if (thread_index() == 0) a.large[0] = 0;
}

__global__ void draw_small(CudaRasterize a) {
    for (int64_t i = thread_index(); i < a.mesh.batch * a.mesh.count; i += thread_count()) {
        const int64_t item = i / a.mesh.count;
        Drawable d[2];
        const int made = set_up(a, item, i % a.mesh.count, d);
        for (int k = 0; k < 2; ++k) {
            if (!(made >> k & 1)) continue;
            const Drawable& t = d[k];
            if (static_cast<int64_t>(t.x1 - t.x0) * (t.y1 - t.y0) > kSmall) {
                a.large[1 + atomicAdd(a.large, 1)] = static_cast<int32_t>(2 * i + k);
                continue;
            }
            for (int y = t.y0; y < t.y1; ++y)
                for (int x = t.x0; x < t.x1; ++x) draw_pixel(a, t, item, x, y);
        }
    }
}

__global__ void draw_large(CudaRasterize a) {
    const int count = a.large[0];
    for (int n = static_cast<int>(blockIdx.x); n < count; n += static_cast<int>(gridDim.x)) {
        const int64_t i = static_cast<uint32_t>(a.large[1 + n]) >> 1, item = i / a.mesh.count;
        const int k = a.large[1 + n] & 1;
        Drawable d[2];
        set_up(a, item, i % a.mesh.count, d);
        const Drawable& t = d[k];
        const int64_t width = t.x1 - t.x0, pixels = width * (t.y1 - t.y0), step = static_cast<int64_t>(gridDim.y) * blockDim.x;
        for (int64_t p = static_cast<int64_t>(blockIdx.y) * blockDim.x + threadIdx.x; p < pixels; p += step)
            draw_pixel(a, t, item, t.x0 + static_cast<int>(p % width), t.y0 + static_cast<int>(p / width));
    }
}

__global__ void resolve(CudaRasterize a, int layer) {
    const int64_t pixels = a.mesh.batch * a.height * a.width;
    for (int64_t i = thread_index(); i < pixels; i += thread_count()) {
        const int64_t item = i / (static_cast<int64_t>(a.height) * a.width), o = i * a.layers + layer;
        const uint64_t packed = a.nearest[i];
        Weights<float> w{};
        float depth = 0;
        int32_t f = -1;
        if (packed != kNothing) {
            f = static_cast<int32_t>(packed & 0xffffffffu);
            const int32_t* v = a.mesh.faces + 3 * ((a.mesh.faces_batched ? item * a.mesh.count : 0) + f);
            const Vertex<float>* points = a.mesh.points + item * a.mesh.verts;
            const Vertex<float> p0 = points[v[0]], p1 = points[v[1]], p2 = points[v[2]];
            w = weights_at(p0, p1, p2, static_cast<float>(i % a.width) + 0.5f,
                           static_cast<float>(i / a.width % a.height) + 0.5f);
            depth = w.b[0] * p0.z + w.b[1] * p1.z + w.b[2] * p2.z;
        }
        a.face[o] = f, a.depth[o] = depth;
        for (int k = 0; k < 3; ++k) a.bary[3 * o + k] = w.b[k];
    }
}

__global__ void rasterize_backward(CudaRasterizeBackward a) {
    const int lane = threadIdx.x % kWarp;
    const int64_t warps = thread_count() / kWarp, per_item = a.height * a.width * a.layers;
    for (int64_t i = thread_index() / kWarp; i < a.mesh.batch * a.mesh.count; i += warps) {
        const int64_t item = i / a.mesh.count, face = i % a.mesh.count;
        const int32_t* v = a.mesh.faces + 3 * ((a.mesh.faces_batched ? item * a.mesh.count : 0) + face);
        float sum[3][4] = {};
        const int64_t begin = a.lists.begin[i], end = a.lists.begin[i + 1];
        if (begin < end && valid_face(v, a.mesh.verts)) {
            const Vertex<float>* points = a.mesh.points + item * a.mesh.verts;
            const Vertex<float> p0 = points[v[0]], p1 = points[v[1]], p2 = points[v[2]];
            for (int64_t k = begin + lane; k < end; k += kWarp) {
                const int64_t o = a.lists.pixels[k], pixel = (o - item * per_item) / a.layers;
                const float x = static_cast<float>(pixel % a.width) + 0.5f, y = static_cast<float>(pixel / a.width) + 0.5f;
                const Weights<float> w = weights_at(p0, p1, p2, x, y);
                const float gz = a.grad_depth ? a.grad_depth[o] : 0;
                float g[3] = {gz * p0.z, gz * p1.z, gz * p2.z};
                if (a.grad_bary)
                    for (int c = 0; c < 3; ++c) g[c] += a.grad_bary[3 * o + c];
                Vertex<float> d[3];
                weights_backward(w, g, x, y, d);
                for (int c = 0; c < 3; ++c)
                    sum[c][0] += d[c].x, sum[c][1] += d[c].y, sum[c][2] += gz * w.b[c], sum[c][3] += d[c].w;
            }
        }
        for (int c = 0; c < 12; ++c) {
            const float total = warp_sum(sum[c / 4][c % 4]);
            if (lane == c % kWarp) a.corners[12 * i + c] = total;
        }
    }
}

__global__ void interpolate(CudaInterpolate a) {
    const int64_t work = a.batch * a.pixels * a.channels;
    for (int64_t i = thread_index(); i < work; i += thread_count()) {
        const int64_t o = i / a.channels, c = i % a.channels, item = o / a.pixels;
        const int32_t f = a.face[o];
        float value = 0;
        if (f >= 0 && f < a.count) {
            const int32_t* v = a.faces + 3 * ((a.faces_batched ? item * a.count : 0) + f);
            const float* from = a.attributes + (a.attributes_batched ? item * a.verts * a.channels : 0) + c;
            if (valid_face(v, a.verts))
                for (int k = 0; k < 3; ++k) value += a.bary[3 * o + k] * from[v[k] * a.channels];
        }
        a.out[i] = value;
    }
}

__global__ void bary_gradient(CudaInterpolateBackward b) {
    const CudaInterpolate& a = b.forward;
    for (int64_t o = thread_index(); o < a.batch * a.pixels; o += thread_count()) {
        const int64_t item = o / a.pixels;
        const int32_t f = a.face[o];
        float g[3] = {};
        if (f >= 0 && f < a.count) {
            const int32_t* v = a.faces + 3 * ((a.faces_batched ? item * a.count : 0) + f);
            const float* from = a.attributes + (a.attributes_batched ? item * a.verts * a.channels : 0);
            if (valid_face(v, a.verts))
                for (int64_t c = 0; c < a.channels; ++c)
                    for (int k = 0; k < 3; ++k) g[k] += b.grad_out[o * a.channels + c] * from[v[k] * a.channels + c];
        }
        for (int k = 0; k < 3; ++k) b.grad_bary[3 * o + k] = g[k];
    }
}

/// Lanes take channels, a warp one face.
__global__ void attribute_gradient(CudaInterpolateBackward b) {
    const CudaInterpolate& a = b.forward;
    const int lane = threadIdx.x % kWarp;
    const int64_t warps = thread_count() / kWarp;
    for (int64_t i = thread_index() / kWarp; i < a.batch * a.count; i += warps)
        for (int64_t c = lane; c < a.channels; c += kWarp) {
            float sum[3] = {};
            for (int64_t k = b.lists.begin[i]; k < b.lists.begin[i + 1]; ++k) {
                const int64_t o = b.lists.pixels[k];
                const float g = b.grad_out[o * a.channels + c];
                for (int m = 0; m < 3; ++m) sum[m] += a.bary[3 * o + m] * g;
            }
            for (int m = 0; m < 3; ++m) b.corners[(3 * i + m) * a.channels + c] = sum[m];
        }
}

__global__ void gather(CudaGather a) {
    const int64_t outputs = a.summed ? 1 : a.batch, work = outputs * a.verts * a.channels;
    for (int64_t i = thread_index(); i < work; i += thread_count()) {
        const int64_t c = i % a.channels, v = i / a.channels % a.verts, output = i / a.channels / a.verts;
        float sum = 0;
        for (int64_t item = a.summed ? 0 : output; item < (a.summed ? a.batch : output + 1); ++item) {
            const int64_t list = a.lists_batched ? item : 0;
            const int64_t *begin = a.begin + list * (a.verts + 1), *order = a.order + list * a.slots;
            for (int64_t k = begin[v]; k < begin[v + 1]; ++k) sum += a.corners[(item * a.slots + order[k]) * a.channels + c];
        }
        a.out[i] = sum;
    }
}

}  // namespace

void cuda_rasterize(const CudaRasterize& args, void* stream) {
    auto s = static_cast<cudaStream_t>(stream);
    const int64_t pixels = args.mesh.batch * args.height * args.width, faces = args.mesh.batch * args.mesh.count;
    if (pixels == 0) return;
    CudaRasterize a = args;
    if (a.layers == 1) a.last = nullptr;
    for (int layer = 0; layer < a.layers; ++layer) {
        clear<<<blocks_for(pixels), kThreads, 0, s>>>(a, layer == 0);
        if (faces > 0) {
            draw_small<<<blocks_for(faces), kThreads, 0, s>>>(a);
            draw_large<<<dim3(256, 32), kThreads, 0, s>>>(a);
        }
        resolve<<<blocks_for(pixels), kThreads, 0, s>>>(a, layer);
    }
}

void cuda_rasterize_backward(const CudaRasterizeBackward& a, void* stream) {
    const int64_t faces = a.mesh.batch * a.mesh.count;
    if (faces > 0) rasterize_backward<<<blocks_for(kWarp * faces), kThreads, 0, static_cast<cudaStream_t>(stream)>>>(a);
}

void cuda_interpolate(const CudaInterpolate& a, void* stream) {
    const int64_t work = a.batch * a.pixels * a.channels;
    if (work > 0) interpolate<<<blocks_for(work), kThreads, 0, static_cast<cudaStream_t>(stream)>>>(a);
}

void cuda_interpolate_backward(const CudaInterpolateBackward& b, void* stream) {
    auto s = static_cast<cudaStream_t>(stream);
    const CudaInterpolate& a = b.forward;
    if (b.grad_bary && a.batch * a.pixels > 0) bary_gradient<<<blocks_for(a.batch * a.pixels), kThreads, 0, s>>>(b);
    if (b.corners && a.batch * a.count > 0) attribute_gradient<<<blocks_for(kWarp * a.batch * a.count), kThreads, 0, s>>>(b);
}

void cuda_gather(const CudaGather& a, void* stream) {
    const int64_t work = (a.summed ? 1 : a.batch) * a.verts * a.channels;
    if (work > 0) gather<<<blocks_for(work), kThreads, 0, static_cast<cudaStream_t>(stream)>>>(a);
}

}  // namespace headlab
