// Python bindings of the CUDA driver; geometry/raster/cuda.py prepares the arrays and passes torch's current stream.

#include <nanobind/nanobind.h>
#include <nanobind/ndarray.h>
#include <nanobind/stl/optional.h>

#include <optional>

#include "raster_cuda.h"

namespace nb = nanobind;
using namespace nb::literals;

namespace {

using namespace headlab;

template <class T>
using Array = nb::ndarray<T, nb::c_contig, nb::device::cuda>;
template <class T>
using Maybe = std::optional<Array<T>>;

template <class T>
T* data_or_null(const Maybe<T>& a) {
    return a ? a->data() : nullptr;
}

int64_t extent(size_t x) { return static_cast<int64_t>(x); }
void* stream_of(uintptr_t stream) { return reinterpret_cast<void*>(stream); }

CudaMesh mesh_of(const Array<const float>& points, const Array<const int32_t>& faces) {
    return {reinterpret_cast<const Vertex<float>*>(points.data()), faces.data(), faces.ndim() == 3,
            extent(points.shape(0)), extent(points.shape(1)), extent(faces.shape(faces.ndim() - 2))};
}

void rasterize(Array<const float> points, Array<const int32_t> faces, float near_plane, bool cull, Array<int64_t> nearest,
               Maybe<int64_t> last, Array<int32_t> large, Array<int32_t> face, Array<float> bary, Array<float> depth,
               uintptr_t stream) {
    cuda_rasterize({mesh_of(points, faces), static_cast<int>(face.shape(1)), static_cast<int>(face.shape(2)),
                    static_cast<int>(face.shape(3)), near_plane, cull, reinterpret_cast<uint64_t*>(nearest.data()),
                    reinterpret_cast<uint64_t*>(data_or_null(last)), large.data(), face.data(), bary.data(), depth.data()},
                   stream_of(stream));
}

void rasterize_backward(Array<const float> points, Array<const int32_t> faces, int64_t height, int64_t width, int64_t layers,
                        Array<const int64_t> pixels, Array<const int64_t> begin, Maybe<const float> grad_bary,
                        Maybe<const float> grad_depth, Array<float> corners, uintptr_t stream) {
    cuda_rasterize_backward({mesh_of(points, faces), height, width, layers, {pixels.data(), begin.data()},
                             data_or_null(grad_bary), data_or_null(grad_depth), corners.data()},
                            stream_of(stream));
}

CudaInterpolate attributes_of(const Array<const float>& attributes, const Array<const int32_t>& faces,
                              const Array<const int32_t>& face, const Array<const float>& bary, float* out) {
    int64_t pixels = 1;
    for (size_t i = 1; i < face.ndim(); ++i) pixels *= extent(face.shape(i));
    return {attributes.data(), attributes.shape(0) != 1, faces.data(), faces.ndim() == 3, extent(face.shape(0)),
            extent(attributes.shape(1)), extent(faces.shape(faces.ndim() - 2)), extent(attributes.shape(2)), pixels,
            face.data(), bary.data(), out};
}

void interpolate(Array<const float> attributes, Array<const int32_t> faces, Array<const int32_t> face,
                 Array<const float> bary, Array<float> out, uintptr_t stream) {
    cuda_interpolate(attributes_of(attributes, faces, face, bary, out.data()), stream_of(stream));
}

void interpolate_backward(Array<const float> attributes, Array<const int32_t> faces, Array<const int32_t> face,
                          Array<const float> bary, Array<const float> grad_out, Maybe<float> grad_bary,
                          Maybe<const int64_t> pixels, Maybe<const int64_t> begin, Maybe<float> corners, uintptr_t stream) {
    cuda_interpolate_backward({attributes_of(attributes, faces, face, bary, nullptr), grad_out.data(), data_or_null(grad_bary),
                               {data_or_null(pixels), data_or_null(begin)}, data_or_null(corners)},
                              stream_of(stream));
}

void gather(Array<const float> corners, Array<const int64_t> order, Array<const int64_t> begin, bool summed, Array<float> out,
            uintptr_t stream) {
    cuda_gather({corners.data(), order.data(), begin.data(), order.shape(0) != 1, summed, extent(corners.shape(0)),
                 extent(begin.shape(1)) - 1, extent(corners.shape(1)), extent(corners.shape(2)), out.data()},
                stream_of(stream));
}

void antialias(Array<const float> points, Array<const int32_t> faces, Array<const int64_t> across, float near_plane,
               Array<const int32_t> face, Array<const float> depth, Array<const float> image, Array<float> weight,
               Maybe<int32_t> silhouette, Maybe<float> out, uintptr_t stream) {
    cuda_antialias({mesh_of(points, faces), across.data(), static_cast<int>(face.shape(1)), static_cast<int>(face.shape(2)),
                    extent(image.shape(3)), near_plane, face.data(), depth.data(), image.data(), weight.data(),
                    data_or_null(silhouette), data_or_null(out)},
                   stream_of(stream));
}

void antialias_backward(Array<const float> points, Array<const int32_t> faces, Array<const int64_t> across, float near_plane,
                        Array<const int32_t> face, Array<const float> depth, Array<const float> image, Array<float> weight,
                        Array<const float> grad_out, Maybe<float> grad_image, Maybe<const int64_t> pairs,
                        Maybe<const int64_t> begin, Maybe<float> corners, uintptr_t stream) {
    const CudaAntialias forward{mesh_of(points, faces), across.data(), static_cast<int>(face.shape(1)),
                                static_cast<int>(face.shape(2)), extent(image.shape(3)), near_plane, face.data(),
                                depth.data(), image.data(), weight.data(), nullptr, nullptr};
    cuda_antialias_backward({forward, grad_out.data(), data_or_null(grad_image), {data_or_null(pairs), data_or_null(begin)},
                             data_or_null(corners)},
                            stream_of(stream));
}

template <class T>
void closest_point(Array<const T> triangles, Array<const int64_t> order, Array<const T> query, Array<const int64_t> visit,
                   Array<const int64_t> start, Array<T> boxes, Array<int32_t> face, Array<T> bary, uintptr_t stream) {
    cuda_closest_point<T>({triangles.data(), order.data(), triangles.shape(0) != 1, extent(query.shape(0)),
                           extent(triangles.shape(1)), extent(query.shape(1)), query.data(), visit.data(), start.data(),
                           boxes.data(), face.data(), bary.data()},
                          stream_of(stream));
}

template <class T>
CudaNormals<T> normals_of(const Array<const T>& vertices, const Array<const int32_t>& faces, const Array<const int64_t>& order,
                          const Array<const int64_t>& begin, T* out) {
    return {vertices.data(), faces.data(), order.data(), begin.data(), extent(vertices.shape(0)), extent(vertices.shape(1)),
            out, nullptr, nullptr};
}

template <class T>
void vertex_normals(Array<const T> vertices, Array<const int32_t> faces, Array<const int64_t> order,
                    Array<const int64_t> begin, Array<T> out, uintptr_t stream) {
    cuda_vertex_normals(normals_of<T>(vertices, faces, order, begin, out.data()), stream_of(stream));
}

template <class T>
void vertex_normals_backward(Array<const T> vertices, Array<const int32_t> faces, Array<const int64_t> order,
                             Array<const int64_t> begin, Array<const T> grad, Array<T> scratch, Array<T> out,
                             uintptr_t stream) {
    CudaNormals<T> args = normals_of<T>(vertices, faces, order, begin, out.data());
    args.grad = grad.data(), args.scratch = scratch.data();
    cuda_vertex_normals_backward(args, stream_of(stream));
}

template <class T>
void bind(nb::module_& m) {
    m.def("closest_point", &closest_point<T>, "triangles"_a.noconvert(), "order"_a, "query"_a.noconvert(), "visit"_a,
          "start"_a, "boxes"_a.noconvert(), "face"_a, "bary"_a.noconvert(), "stream"_a);
    m.def("vertex_normals", &vertex_normals<T>, "vertices"_a.noconvert(), "faces"_a, "order"_a, "begin"_a,
          "out"_a.noconvert(), "stream"_a);
    m.def("vertex_normals_backward", &vertex_normals_backward<T>, "vertices"_a.noconvert(), "faces"_a, "order"_a, "begin"_a,
          "grad"_a.noconvert(), "scratch"_a.noconvert(), "out"_a.noconvert(), "stream"_a);
}

}  // namespace

NB_MODULE(_cuda, m) {
    m.def("rasterize", &rasterize, "points"_a, "faces"_a, "near"_a, "cull"_a, "nearest"_a, "last"_a.none(), "large"_a,
          "face"_a, "bary"_a, "depth"_a, "stream"_a);
    m.def("rasterize_backward", &rasterize_backward, "points"_a, "faces"_a, "height"_a, "width"_a, "layers"_a, "pixels"_a,
          "begin"_a, "grad_bary"_a.none(), "grad_depth"_a.none(), "corners"_a, "stream"_a);
    m.def("interpolate", &interpolate, "attributes"_a, "faces"_a, "face"_a, "bary"_a, "out"_a, "stream"_a);
    m.def("interpolate_backward", &interpolate_backward, "attributes"_a, "faces"_a, "face"_a, "bary"_a, "grad_out"_a,
          "grad_bary"_a.none(), "pixels"_a.none(), "begin"_a.none(), "corners"_a.none(), "stream"_a);
    m.def("gather", &gather, "corners"_a, "order"_a, "begin"_a, "summed"_a, "out"_a, "stream"_a);
    m.def("antialias", &antialias, "points"_a, "faces"_a, "across"_a, "near"_a, "face"_a, "depth"_a, "image"_a, "weight"_a,
          "silhouette"_a.none(), "out"_a.none(), "stream"_a);
    m.def("antialias_backward", &antialias_backward, "points"_a, "faces"_a, "across"_a, "near"_a, "face"_a, "depth"_a,
          "image"_a, "weight"_a, "grad_out"_a, "grad_image"_a.none(), "pairs"_a.none(), "begin"_a.none(), "corners"_a.none(),
          "stream"_a);
    bind<float>(m);
    bind<double>(m);
}
