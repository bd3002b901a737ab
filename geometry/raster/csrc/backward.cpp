// Attribute interpolation and the gradients of both operations.
//
// Gradients to vertices are sums over pixels. The picture is cut into a fixed number of bands (whatever the thread count),
// each band sums into its own buffer in pixel order, and the buffers are added in band order.

#include <algorithm>
#include <new>
#include <vector>

#include "faces.h"
#include "raster.h"

namespace headlab {
namespace {

/// Number of bands per batch item, and sums over them. `width` values per vertex.
template <class T>
class BandSums {
  public:
    BandSums(int64_t batch, int64_t pixels, int64_t verts, int64_t width) : size_(verts * width) {
        const int64_t wanted = std::max<int64_t>(1, 16 / std::max<int64_t>(1, batch));
        bands_ = std::max<int64_t>(1, std::min(wanted, pixels / 2048));
        pixels_ = pixels;
        sums_.resize(static_cast<size_t>(batch * bands_ * size_));
    }
    int64_t bands() const { return bands_; }
    int64_t begin(int64_t band) const { return pixels_ * band / bands_; }
    T* sums(int64_t part) { return sums_.data() + part * size_; }

    /// out[i] = sum over `parts` consecutive parts starting at `first`.
    void reduce(int threads, int64_t first, int64_t parts, T* out) {
        constexpr int64_t kBlock = 4096;
        parallel_for(threads, (size_ + kBlock - 1) / kBlock, [&](int64_t block) {
            const int64_t begin = block * kBlock, end = std::min(begin + kBlock, size_);
            std::copy(sums(first) + begin, sums(first) + end, out + begin);
            for (int64_t part = 1; part < parts; ++part) {
                const T* from = sums(first + part);
                for (int64_t i = begin; i < end; ++i) out[i] += from[i];
            }
        });
    }

  private:
    int64_t bands_, pixels_, size_;
    std::vector<T> sums_;
};

bool wrong_face(const FaceList& list, const int32_t* faces, int32_t f) {
    return f >= list.count() || faces[3 * static_cast<int64_t>(f)] < 0;
}

}  // namespace

template <class T>
Status rasterize_backward(const RasterizeBackwardArgs<T>& a) try {
    FaceList list;
    const Status status = list.load(a.faces, a.batch, a.verts, a.threads);
    if (status != Status::ok) return status;
    const int64_t pixels = static_cast<int64_t>(a.height) * a.width;
    BandSums<T> sums(a.batch, pixels, a.verts, 4);
    std::vector<char> bad(static_cast<size_t>(a.batch * sums.bands()), 0);
    parallel_for(a.threads, a.batch * sums.bands(), [&](int64_t part) {
        const int64_t item = part / sums.bands(), band = part % sums.bands();
        const Vertex<T>* points = a.points + item * a.verts;
        const int32_t* faces = list.item(item);
        Vertex<T>* grad = reinterpret_cast<Vertex<T>*>(sums.sums(part));
        for (int64_t p = sums.begin(band); p < sums.begin(band + 1); ++p) {
            const T u = static_cast<T>(p % a.width) + T(0.5), v = static_cast<T>(p / a.width) + T(0.5);
            for (int layer = 0; layer < a.layers; ++layer) {
                const int64_t o = (item * pixels + p) * a.layers + layer;
                const int32_t f = a.face[o];
                if (f < 0) continue;
                if (wrong_face(list, faces, f)) {
                    bad[static_cast<size_t>(part)] = 1;
                    continue;
                }
                const int32_t* index = faces + 3 * static_cast<int64_t>(f);
                const Vertex<T>&p0 = points[index[0]], &p1 = points[index[1]], &p2 = points[index[2]];
                const Weights<T> w = weights_at(p0, p1, p2, u, v);
                const T gz = a.grad_depth ? a.grad_depth[o] : T(0);
                T g[3] = {gz * p0.z, gz * p1.z, gz * p2.z};
                if (a.grad_bary)
                    for (int i = 0; i < 3; ++i) g[i] += a.grad_bary[3 * o + i];
                Vertex<T> d[3];
                weights_backward(w, g, u, v, d);
                for (int i = 0; i < 3; ++i) {
                    Vertex<T>& to = grad[index[i]];
                    to.x += d[i].x, to.y += d[i].y, to.z += gz * w.b[i], to.w += d[i].w;
                }
            }
        }
    });
    for (char b : bad)
        if (b) return Status::bad_raster;
    for (int64_t item = 0; item < a.batch; ++item)
        sums.reduce(a.threads, item * sums.bands(), sums.bands(), reinterpret_cast<T*>(a.grad_points + item * a.verts));
    return Status::ok;
} catch (const std::bad_alloc&) {
    return Status::out_of_memory;
}

template <class T>
Status interpolate(const InterpolateArgs<T>& a) try {
    FaceList list;
    const Status status = list.load(a.faces, a.batch, a.verts, a.threads);
    if (status != Status::ok) return status;
    constexpr int64_t kPixels = 2048;
    const int64_t blocks = (a.pixels + kPixels - 1) / kPixels;
    std::vector<char> bad(static_cast<size_t>(a.batch * blocks), 0);
    parallel_for(a.threads, a.batch * blocks, [&](int64_t task) {
        const int64_t item = task / blocks, begin = (task % blocks) * kPixels, end = std::min(begin + kPixels, a.pixels);
        const T* attributes = a.attributes + (a.attributes_batched ? item * a.verts * a.channels : 0);
        const int32_t* faces = list.item(item);
        for (int64_t o = item * a.pixels + begin; o < item * a.pixels + end; ++o) {
            const int32_t f = a.face[o];
            T* out = a.out + o * a.channels;
            if (f < 0 || wrong_face(list, faces, f)) {
                bad[static_cast<size_t>(task)] |= f >= 0;
                std::fill(out, out + a.channels, T(0));
                continue;
            }
            const int32_t* index = faces + 3 * static_cast<int64_t>(f);
            const T b0 = a.bary[3 * o], b1 = a.bary[3 * o + 1], b2 = a.bary[3 * o + 2];
            const T *v0 = attributes + index[0] * a.channels, *v1 = attributes + index[1] * a.channels,
                    *v2 = attributes + index[2] * a.channels;
            for (int64_t c = 0; c < a.channels; ++c) out[c] = b0 * v0[c] + b1 * v1[c] + b2 * v2[c];
        }
    });
    for (char b : bad)
        if (b) return Status::bad_raster;
    return Status::ok;
} catch (const std::bad_alloc&) {
    return Status::out_of_memory;
}

template <class T>
Status interpolate_backward(const InterpolateBackwardArgs<T>& a) try {
    FaceList list;
    const Status status = list.load(a.faces, a.batch, a.verts, a.threads);
    if (status != Status::ok) return status;
    BandSums<T> sums(a.batch, a.pixels, a.grad_attributes ? a.verts : 0, a.channels);
    std::vector<char> bad(static_cast<size_t>(a.batch * sums.bands()), 0);
    parallel_for(a.threads, a.batch * sums.bands(), [&](int64_t part) {
        const int64_t item = part / sums.bands(), band = part % sums.bands();
        const T* attributes = a.attributes + (a.attributes_batched ? item * a.verts * a.channels : 0);
        const int32_t* faces = list.item(item);
        T* grad = sums.sums(part);
        for (int64_t p = sums.begin(band); p < sums.begin(band + 1); ++p) {
            const int64_t o = item * a.pixels + p;
            const int32_t f = a.face[o];
            T g[3] = {0, 0, 0};
            if (f >= 0 && wrong_face(list, faces, f)) bad[static_cast<size_t>(part)] = 1;
            if (f >= 0 && !wrong_face(list, faces, f)) {
                const T* gradient = a.grad_out + o * a.channels;
                for (int i = 0; i < 3; ++i) {
                    const int64_t row = faces[3 * static_cast<int64_t>(f) + i] * a.channels;
                    if (a.grad_bary)
                        for (int64_t c = 0; c < a.channels; ++c) g[i] += gradient[c] * attributes[row + c];
                    if (a.grad_attributes) {
                        const T b = a.bary[3 * o + i];
                        for (int64_t c = 0; c < a.channels; ++c) grad[row + c] += b * gradient[c];
                    }
                }
            }
            if (a.grad_bary)
                for (int i = 0; i < 3; ++i) a.grad_bary[3 * o + i] = g[i];
        }
    });
    for (char b : bad)
        if (b) return Status::bad_raster;
    if (a.grad_attributes) {
        const int64_t size = a.verts * a.channels;
        if (a.attributes_batched)
            for (int64_t item = 0; item < a.batch; ++item)
                sums.reduce(a.threads, item * sums.bands(), sums.bands(), a.grad_attributes + item * size);
        else
            sums.reduce(a.threads, 0, a.batch * sums.bands(), a.grad_attributes);
    }
    return Status::ok;
} catch (const std::bad_alloc&) {
    return Status::out_of_memory;
}

#define HL_INSTANTIATE(T)                                                    \
    template Status rasterize_backward<T>(const RasterizeBackwardArgs<T>&);  \
    template Status interpolate<T>(const InterpolateArgs<T>&);               \
    template Status interpolate_backward<T>(const InterpolateBackwardArgs<T>&);
HL_INSTANTIATE(float)
HL_INSTANTIATE(double)

}  // namespace headlab
