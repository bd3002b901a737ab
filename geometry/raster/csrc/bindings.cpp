// Python bindings: plain arrays in and out, shapes checked by the Python wrapper (geometry/raster/ops.py).

#include <nanobind/nanobind.h>
#include <nanobind/ndarray.h>
#include <nanobind/stl/optional.h>
#include <nanobind/stl/vector.h>

#include <optional>
#include <vector>

#include "../../sdf/csrc/bindings.h"
#include "kernels.h"
#include "memory.h"
#include "raster.h"

namespace nb = nanobind;
using namespace nb::literals;

namespace {

using headlab::Faces;
using headlab::Status;
using headlab::Vertex;

template <class T>
using Array = nb::ndarray<T, nb::c_contig, nb::device::cpu>;
using FaceArray = nb::ndarray<nb::ro, nb::c_contig, nb::device::cpu>;

Faces faces_of(const FaceArray& f) {
    return {f.data(), f.dtype() == nb::dtype<int64_t>(), f.ndim() == 3, static_cast<int64_t>(f.shape(f.ndim() - 2))};
}

template <class T>
T* data_or_null(const std::optional<Array<T>>& a) {
    return a ? a->data() : nullptr;
}

template <class T>
int rasterize(Array<const T> points, FaceArray faces, int height, int width, int layers, double near_plane, bool cull,
              int threads, Array<int32_t> face, Array<T> bary, Array<T> depth) {
    const headlab::RasterizeArgs<T> args{reinterpret_cast<const Vertex<T>*>(points.data()),
                                         static_cast<int64_t>(points.shape(0)),
                                         static_cast<int64_t>(points.shape(1)),
                                         faces_of(faces),
                                         height,
                                         width,
                                         layers,
                                         static_cast<T>(near_plane),
                                         cull,
                                         threads,
                                         face.data(),
                                         bary.data(),
                                         depth.data()};
    nb::gil_scoped_release release;
    return static_cast<int>(headlab::rasterize(args));
}

template <class T>
int rasterize_backward(Array<const T> points, FaceArray faces, int threads, Array<const int32_t> face,
                       std::optional<Array<const T>> grad_bary, std::optional<Array<const T>> grad_depth,
                       Array<T> grad_points) {
    const headlab::RasterizeBackwardArgs<T> args{reinterpret_cast<const Vertex<T>*>(points.data()),
                                                 static_cast<int64_t>(points.shape(0)),
                                                 static_cast<int64_t>(points.shape(1)),
                                                 faces_of(faces),
                                                 static_cast<int>(face.shape(1)),
                                                 static_cast<int>(face.shape(2)),
                                                 face.ndim() > 3 ? static_cast<int>(face.shape(3)) : 1,
                                                 threads,
                                                 face.data(),
                                                 data_or_null(grad_bary),
                                                 data_or_null(grad_depth),
                                                 reinterpret_cast<Vertex<T>*>(grad_points.data())};
    nb::gil_scoped_release release;
    return static_cast<int>(headlab::rasterize_backward(args));
}

int64_t pixels_of(const Array<const int32_t>& face) {
    int64_t pixels = 1;
    for (size_t i = 1; i < face.ndim(); ++i) pixels *= static_cast<int64_t>(face.shape(i));
    return pixels;
}

template <class T>
int interpolate(Array<const T> attributes, FaceArray faces, int threads, Array<const int32_t> face,
                Array<const T> bary, Array<T> out) {
    const headlab::InterpolateArgs<T> args{attributes.data(),
                                           attributes.shape(0) != 1,
                                           static_cast<int64_t>(face.shape(0)),
                                           static_cast<int64_t>(attributes.shape(1)),
                                           static_cast<int64_t>(attributes.shape(2)),
                                           pixels_of(face),
                                           faces_of(faces),
                                           threads,
                                           face.data(),
                                           bary.data(),
                                           out.data()};
    nb::gil_scoped_release release;
    return static_cast<int>(headlab::interpolate(args));
}

template <class T>
int interpolate_backward(Array<const T> attributes, FaceArray faces, int threads, Array<const int32_t> face,
                         Array<const T> bary, Array<const T> grad_out, std::optional<Array<T>> grad_attributes,
                         std::optional<Array<T>> grad_bary) {
    const headlab::InterpolateBackwardArgs<T> args{attributes.data(),
                                                   attributes.shape(0) != 1,
                                                   static_cast<int64_t>(face.shape(0)),
                                                   static_cast<int64_t>(attributes.shape(1)),
                                                   static_cast<int64_t>(attributes.shape(2)),
                                                   pixels_of(face),
                                                   faces_of(faces),
                                                   threads,
                                                   face.data(),
                                                   bary.data(),
                                                   grad_out.data(),
                                                   data_or_null(grad_attributes),
                                                   data_or_null(grad_bary)};
    nb::gil_scoped_release release;
    return static_cast<int>(headlab::interpolate_backward(args));
}

template <class T>
headlab::AntialiasArgs<T> antialias_args(const Array<const T>& points, const FaceArray& faces, double near_plane,
                                         int threads, const Array<const int32_t>& face, const Array<const T>& depth,
                                         const Array<const T>& image, T* out) {
    return {reinterpret_cast<const Vertex<T>*>(points.data()),
            static_cast<int64_t>(points.shape(0)),
            static_cast<int64_t>(points.shape(1)),
            static_cast<int64_t>(image.shape(3)),
            faces_of(faces),
            static_cast<int>(face.shape(1)),
            static_cast<int>(face.shape(2)),
            static_cast<T>(near_plane),
            threads,
            face.data(),
            depth.data(),
            image.data(),
            out};
}

template <class T>
int antialias(Array<const T> points, FaceArray faces, double near_plane, int threads, Array<const int32_t> face,
              Array<const T> depth, Array<const T> image, Array<T> out) {
    const auto args = antialias_args<T>(points, faces, near_plane, threads, face, depth, image, out.data());
    nb::gil_scoped_release release;
    return static_cast<int>(headlab::antialias(args));
}

template <class T>
int antialias_backward(Array<const T> points, FaceArray faces, double near_plane, int threads,
                       Array<const int32_t> face, Array<const T> depth, Array<const T> image, Array<const T> grad_out,
                       std::optional<Array<T>> grad_image, std::optional<Array<T>> grad_points) {
    const auto args = antialias_args<T>(points, faces, near_plane, threads, face, depth, image, nullptr);
    T* to_image = data_or_null(grad_image);
    auto* to_points = reinterpret_cast<Vertex<T>*>(data_or_null(grad_points));
    nb::gil_scoped_release release;
    return static_cast<int>(headlab::antialias_backward(args, grad_out.data(), to_image, to_points));
}

template <class T>
int closest_point(Array<const T> vertices, FaceArray faces, int threads, Array<const T> points, Array<int32_t> face,
                  Array<T> bary) {
    const headlab::ClosestArgs<T> args{vertices.data(),
                                       vertices.shape(0) != 1,
                                       static_cast<int64_t>(points.shape(0)),
                                       static_cast<int64_t>(vertices.shape(1)),
                                       static_cast<int64_t>(points.shape(1)),
                                       faces_of(faces),
                                       threads,
                                       points.data(),
                                       face.data(),
                                       bary.data()};
    nb::gil_scoped_release release;
    return static_cast<int>(headlab::closest_point(args));
}

template <class T>
headlab::NormalsArgs<T> normals_args(const Array<const T>& vertices, const FaceArray& faces, int threads) {
    return {vertices.data(), static_cast<int64_t>(vertices.shape(0)), static_cast<int64_t>(vertices.shape(1)),
            faces_of(faces), threads};
}

template <class T>
int vertex_normals(Array<const T> vertices, FaceArray faces, int threads, Array<T> normals) {
    const auto args = normals_args<T>(vertices, faces, threads);
    nb::gil_scoped_release release;
    return static_cast<int>(headlab::vertex_normals(args, normals.data()));
}

template <class T>
int vertex_normals_backward(Array<const T> vertices, FaceArray faces, int threads, Array<const T> grad_normals,
                            Array<T> grad_vertices) {
    const auto args = normals_args<T>(vertices, faces, threads);
    nb::gil_scoped_release release;
    return static_cast<int>(headlab::vertex_normals_backward(args, grad_normals.data(), grad_vertices.data()));
}

/// The process's cache of pictures. Never destroyed: tensors may outlive everything else.
headlab::BlockCache& pictures() {
    static auto* cache = new headlab::BlockCache;
    return *cache;
}

/// An uninitialised torch tensor whose memory comes from, and goes back to, the cache of pictures.
template <class T>
nb::ndarray<nb::pytorch, T> empty(const std::vector<size_t>& shape) {
    size_t bytes = sizeof(T);
    for (size_t n : shape) bytes *= n;
    T* data = static_cast<T*>(pictures().take(bytes));
    nb::capsule owner(data, [](void* block) noexcept { pictures().give_back(block); });
    return nb::ndarray<nb::pytorch, T>(data, shape.size(), shape.data(), owner);
}

template <class T>
void bind(nb::module_& m) {
    m.def("rasterize", &rasterize<T>, "points"_a.noconvert(), "faces"_a.noconvert(), "height"_a, "width"_a, "layers"_a,
          "near"_a, "cull"_a, "threads"_a, "face"_a.noconvert(), "bary"_a.noconvert(), "depth"_a.noconvert());
    m.def("rasterize_backward", &rasterize_backward<T>, "points"_a.noconvert(), "faces"_a.noconvert(), "threads"_a,
          "face"_a.noconvert(), "grad_bary"_a.noconvert().none(), "grad_depth"_a.noconvert().none(),
          "grad_points"_a.noconvert());
    m.def("interpolate", &interpolate<T>, "attributes"_a.noconvert(), "faces"_a.noconvert(), "threads"_a,
          "face"_a.noconvert(), "bary"_a.noconvert(), "out"_a.noconvert());
    m.def("interpolate_backward", &interpolate_backward<T>, "attributes"_a.noconvert(), "faces"_a.noconvert(),
          "threads"_a, "face"_a.noconvert(), "bary"_a.noconvert(), "grad_out"_a.noconvert(),
          "grad_attributes"_a.noconvert().none(), "grad_bary"_a.noconvert().none());
    m.def("antialias", &antialias<T>, "points"_a.noconvert(), "faces"_a.noconvert(), "near"_a, "threads"_a,
          "face"_a.noconvert(), "depth"_a.noconvert(), "image"_a.noconvert(), "out"_a.noconvert());
    m.def("antialias_backward", &antialias_backward<T>, "points"_a.noconvert(), "faces"_a.noconvert(), "near"_a,
          "threads"_a, "face"_a.noconvert(), "depth"_a.noconvert(), "image"_a.noconvert(), "grad_out"_a.noconvert(),
          "grad_image"_a.noconvert().none(), "grad_points"_a.noconvert().none());
    m.def("closest_point", &closest_point<T>, "vertices"_a.noconvert(), "faces"_a.noconvert(), "threads"_a,
          "points"_a.noconvert(), "face"_a.noconvert(), "bary"_a.noconvert());
    m.def("vertex_normals", &vertex_normals<T>, "vertices"_a.noconvert(), "faces"_a.noconvert(), "threads"_a,
          "normals"_a.noconvert());
    m.def("vertex_normals_backward", &vertex_normals_backward<T>, "vertices"_a.noconvert(), "faces"_a.noconvert(),
          "threads"_a, "grad_normals"_a.noconvert(), "grad_vertices"_a.noconvert());
}

}  // namespace

NB_MODULE(_native, m) {
    m.attr("simd") = headlab::kernels().name;
    m.def("empty_float32", &empty<float>, "shape"_a);
    m.def("empty_float64", &empty<double>, "shape"_a);
    m.def("empty_int32", &empty<int32_t>, "shape"_a);
    bind<float>(m);
    bind<double>(m);
    bind_fields(m);
}
