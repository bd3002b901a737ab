// Attribute interpolation and the gradients of both operations.
//
// Gradients to vertices are sums over pixels. The picture is cut into a fixed number of bands (whatever the thread count),
// each band sums into its own buffer in pixel order, and the buffers are added in band order.

#include <algorithm>
#include <new>
#include <vector>

#include "faces.h"
#include "kernels.h"
#include "memory.h"
#include "raster.h"

namespace headlab {
namespace {

constexpr int64_t kBlockPixels = 4096;

/// The bands' sums, `size` values each. With one band they are the output itself.
template <class T>
class BandSums {
  public:
    /// `out` holds `outputs` x `size` values; band b of batch item i adds to output i (all to 0 if there is one output).
    BandSums(int64_t batch, int64_t outputs, int64_t pixels, int64_t size, T* out)
        : size_(out ? size : 0), pixels_(pixels), batch_(batch), outputs_(outputs), out_(out) {
        static thread_local std::vector<T> kept;  // keeps its memory between calls
        const int64_t wanted = std::max<int64_t>(1, 8 / std::max<int64_t>(1, batch));
        bands_ = std::max<int64_t>(1, std::min(wanted, pixels / 2048));
        direct_ = bands_ == 1 && outputs == batch;
        if (direct_ || size_ == 0) return;
        kept.resize(std::max(kept.size(), static_cast<size_t>(batch * bands_ * size_)));
        sums_ = kept.data();
    }

    int64_t bands() const { return bands_; }
    int64_t parts() const { return bands_ * batch_; }
    int64_t begin(int64_t band) const { return pixels_ * band / bands_; }

    /// The part's sums, set to zero.
    T* start(int64_t part) const {
        if (size_ == 0) return nullptr;
        T* sums = (direct_ ? out_ : sums_) + part * size_;
        std::fill(sums, sums + size_, T(0));
        return sums;
    }

    void finish(int threads) const {
        if (direct_ || size_ == 0) return;
        if (batch_ == 0) std::fill(out_, out_ + outputs_ * size_, T(0));
        if (batch_ == 0) return;
        constexpr int64_t kBlock = 4096;
        const int64_t blocks = (size_ + kBlock - 1) / kBlock, each = parts() / outputs_;
        parallel_for(threads, outputs_ * blocks, [&](int64_t task) {
            const int64_t output = task / blocks, begin = (task % blocks) * kBlock, end = std::min(begin + kBlock, size_);
            T* to = out_ + output * size_;
            const T* from = sums_ + output * each * size_;
            std::copy(from + begin, from + end, to + begin);
            for (int64_t part = 1; part < each; ++part)
                for (int64_t i = begin; i < end; ++i) to[i] += from[part * size_ + i];
        });
    }

  private:
    int64_t size_, pixels_, batch_, outputs_, bands_;
    T *out_, *sums_ = nullptr;
    bool direct_;
};

/// Whether all faces of a piece of the picture exist.
bool faces_exist(const FaceList& list, const int32_t* faces, const int32_t* face, int64_t count) {
    int32_t largest = -1;
    for (int64_t i = 0; i < count; ++i) largest = std::max(largest, face[i]);
    if (largest >= list.count()) return false;
    if (!list.has_padding()) return true;
    bool good = true;
    for (int64_t i = 0; i < count; ++i) good &= face[i] < 0 || faces[3 * static_cast<int64_t>(face[i])] >= 0;
    return good;
}

Status all_good(const std::vector<char>& bad) {
    for (char b : bad)
        if (b) return Status::bad_raster;
    return Status::ok;
}

template <class T>
void pixel_gradients(const RasterizeBackwardArgs<T>& a, const Vertex<T>* points, const int32_t* faces, int x0, int y,
                     int count, int64_t first, Vertex<T>* grad) {
    for (int x = x0; x < x0 + count; ++x) {
        const T u = static_cast<T>(x) + T(0.5), v = static_cast<T>(y) + T(0.5);
        for (int layer = 0; layer < a.layers; ++layer) {
            const int64_t o = (first + x - x0) * a.layers + layer;
            const int32_t f = a.face[o];
            if (f < 0) continue;
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
}

void pixel_gradients(const RasterizeBackwardArgs<float>& a, const Vertex<float>* points, const int32_t* faces, int x0,
                     int y, int count, int64_t first, Vertex<float>* grad) {
    if (a.layers > 1) return pixel_gradients<float>(a, points, faces, x0, y, count, first, grad);
    kernels().pixel_gradient({points, faces, x0, y, count, a.face + first, a.grad_bary ? a.grad_bary + 3 * first : nullptr,
                              a.grad_depth ? a.grad_depth + first : nullptr, grad});
}

struct Piece {
    const int32_t* faces;
    int64_t first, count;  // pixels, counted over the batch
};

template <class T>
void interpolate_piece(const InterpolateArgs<T>& a, const T* attributes, const Piece& piece) {
    for (int64_t o = piece.first; o < piece.first + piece.count; ++o) {
        T* out = a.out + o * a.channels;
        const int32_t f = a.face[o];
        if (f < 0) {
            std::fill(out, out + a.channels, T(0));
            continue;
        }
        const int32_t* index = piece.faces + 3 * static_cast<int64_t>(f);
        const T b0 = a.bary[3 * o], b1 = a.bary[3 * o + 1], b2 = a.bary[3 * o + 2];
        const T *v0 = attributes + index[0] * a.channels, *v1 = attributes + index[1] * a.channels,
                *v2 = attributes + index[2] * a.channels;
        for (int64_t c = 0; c < a.channels; ++c) out[c] = b0 * v0[c] + b1 * v1[c] + b2 * v2[c];
    }
}

void interpolate_piece(const InterpolateArgs<float>& a, const float* attributes, const Piece& p) {
    kernels().interpolate({attributes, p.faces, a.channels, p.count, a.face + p.first, a.bary + 3 * p.first,
                           a.out + p.first * a.channels});
}

template <class T>
void attribute_gradients(const InterpolateBackwardArgs<T>& a, const T* attributes, const Piece& piece, T* grad) {
    for (int64_t o = piece.first; o < piece.first + piece.count; ++o) {
        const int32_t f = a.face[o];
        T g[3] = {0, 0, 0};
        if (f >= 0) {
            const T* gradient = a.grad_out + o * a.channels;
            for (int i = 0; i < 3; ++i) {
                const int64_t row = piece.faces[3 * static_cast<int64_t>(f) + i] * a.channels;
                if (a.grad_bary)
                    for (int64_t c = 0; c < a.channels; ++c) g[i] += gradient[c] * attributes[row + c];
                const T b = a.bary[3 * o + i];
                if (grad)
                    for (int64_t c = 0; c < a.channels; ++c) grad[row + c] += b * gradient[c];
            }
        }
        if (a.grad_bary)
            for (int i = 0; i < 3; ++i) a.grad_bary[3 * o + i] = g[i];
    }
}

void attribute_gradients(const InterpolateBackwardArgs<float>& a, const float* attributes, const Piece& p, float* grad) {
    kernels().attribute_gradient({attributes, p.faces, a.channels, p.count, a.face + p.first, a.bary + 3 * p.first,
                                  a.grad_out + p.first * a.channels, grad,
                                  a.grad_bary ? a.grad_bary + 3 * p.first : nullptr});
}

}  // namespace

template <class T>
Status rasterize_backward(const RasterizeBackwardArgs<T>& a) try {
    FaceList list;
    const Status status = list.load(a.faces, a.batch, a.verts, a.threads);
    if (status != Status::ok) return status;
    const int64_t pixels = static_cast<int64_t>(a.height) * a.width;
    const BandSums<T> sums(a.batch, a.batch, pixels, 4 * a.verts, reinterpret_cast<T*>(a.grad_points));
    std::vector<char> bad(static_cast<size_t>(sums.parts()), 0);
    parallel_for(a.threads, sums.parts(), [&](int64_t part) {
        const int64_t item = part / sums.bands(), band = part % sums.bands();
        auto* grad = reinterpret_cast<Vertex<T>*>(sums.start(part));
        const int64_t begin = sums.begin(band), end = sums.begin(band + 1);
        const int32_t *faces = list.item(item), *face = a.face + (item * pixels + begin) * a.layers;
        bad[static_cast<size_t>(part)] = !faces_exist(list, faces, face, (end - begin) * a.layers);
        if (bad[static_cast<size_t>(part)]) return;
        for (int64_t p = begin; p < end;) {
            const int x = static_cast<int>(p % a.width), y = static_cast<int>(p / a.width);
            const int count = static_cast<int>(std::min<int64_t>(a.width - x, end - p));
            pixel_gradients(a, a.points + item * a.verts, faces, x, y, count, item * pixels + p, grad);
            p += count;
        }
    });
    sums.finish(a.threads);
    return all_good(bad);
} catch (const std::bad_alloc&) {
    return Status::out_of_memory;
}

template <class T>
Status interpolate(const InterpolateArgs<T>& a) try {
    FaceList list;
    const Status status = list.load(a.faces, a.batch, a.verts, a.threads);
    if (status != Status::ok) return status;
    prefer_huge_pages(a.out, static_cast<size_t>(a.batch * a.pixels * a.channels) * sizeof(T));
    const int64_t blocks = (a.pixels + kBlockPixels - 1) / kBlockPixels;
    std::vector<char> bad(static_cast<size_t>(a.batch * blocks), 0);
    parallel_for(a.threads, a.batch * blocks, [&](int64_t task) {
        const int64_t item = task / blocks, begin = (task % blocks) * kBlockPixels;
        const Piece piece{list.item(item), item * a.pixels + begin, std::min(kBlockPixels, a.pixels - begin)};
        bad[static_cast<size_t>(task)] = !faces_exist(list, piece.faces, a.face + piece.first, piece.count);
        if (bad[static_cast<size_t>(task)]) return;
        interpolate_piece(a, a.attributes + (a.attributes_batched ? item * a.verts * a.channels : 0), piece);
    });
    return all_good(bad);
} catch (const std::bad_alloc&) {
    return Status::out_of_memory;
}

template <class T>
Status interpolate_backward(const InterpolateBackwardArgs<T>& a) try {
    FaceList list;
    const Status status = list.load(a.faces, a.batch, a.verts, a.threads);
    if (status != Status::ok) return status;
    prefer_huge_pages(a.grad_bary, static_cast<size_t>(a.batch * a.pixels * 3) * sizeof(T));
    const int64_t outputs = a.attributes_batched ? a.batch : 1;
    const BandSums<T> sums(a.batch, outputs, a.pixels, a.verts * a.channels, a.grad_attributes);
    std::vector<char> bad(static_cast<size_t>(sums.parts()), 0);
    parallel_for(a.threads, sums.parts(), [&](int64_t part) {
        const int64_t item = part / sums.bands(), band = part % sums.bands();
        T* grad = sums.start(part);
        const int64_t begin = sums.begin(band);
        const Piece piece{list.item(item), item * a.pixels + begin, sums.begin(band + 1) - begin};
        bad[static_cast<size_t>(part)] = !faces_exist(list, piece.faces, a.face + piece.first, piece.count);
        if (bad[static_cast<size_t>(part)]) return;
        attribute_gradients(a, a.attributes + (a.attributes_batched ? item * a.verts * a.channels : 0), piece, grad);
    });
    sums.finish(a.threads);
    return all_good(bad);
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
