// Python bindings: networks are packed once into FieldMlp; shapes are checked by geometry/sdf/fast_mlp.py.

#include "bindings.h"

#include <nanobind/ndarray.h>
#include <nanobind/stl/optional.h>
#include <nanobind/stl/vector.h>

#include <optional>
#include <utility>
#include <vector>

#include "field.h"

namespace nb = nanobind;
using namespace nb::literals;

namespace {

using namespace headlab::field;

template <class T>
using Array = nb::ndarray<T, nb::c_contig, nb::device::cpu>;

/// [sets][rows][columns] as panels of eight columns, filled up with 0.
std::vector<float> panels(const float* weight, int sets, int rows, int columns, int64_t row_step, int64_t column_step) {
    const int count = (columns + kPanel - 1) / kPanel;
    std::vector<float> out(static_cast<size_t>(sets) * count * rows * kPanel, 0.0f);
    for (int s = 0; s < sets; ++s)
        for (int r = 0; r < rows; ++r)
            for (int c = 0; c < columns; ++c) {
                const size_t at = ((static_cast<size_t>(s) * count + c / kPanel) * rows + r) * kPanel + c % kPanel;
                out[at] = weight[static_cast<int64_t>(s) * rows * columns + r * row_step + c * column_step];
            }
    return out;
}

/// Networks and the memory they lie in.
class FieldMlp {
  public:
    FieldMlp(const std::vector<Array<const float>>& weights, const std::vector<Array<const float>>& biases, int skip) {
        const int sets = static_cast<int>(weights.at(0).shape(0)), members = static_cast<int>(biases.at(0).shape(0));
        for (size_t i = 0; i < weights.size(); ++i) {
            const int fan_in = static_cast<int>(weights[i].shape(1)), out = static_cast<int>(weights[i].shape(2));
            const int wide = (out + kPanel - 1) / kPanel * kPanel;
            const float* w = weights[i].data();
            std::vector<float> bias(static_cast<size_t>(members) * wide, 0.0f);
            for (int m = 0; m < members; ++m)
                for (int c = 0; c < out; ++c)
                    bias[static_cast<size_t>(m) * wide + c] = biases[i].data()[static_cast<int64_t>(m) * out + c];
            const float* plain = keep({w, w + weights[i].size()});
            const float* forward = keep(panels(w, sets, fan_in, out, out, 1));
            const float* backward = keep(panels(w, sets, out, fan_in, 1, out));
            layers_.push_back({fan_in, out, plain, forward, backward, keep(std::move(bias))});
        }
        mlp = {sets, members, skip, layers_[0].fan_in, static_cast<int>(layers_.size()), layers_.data()};
    }
    FieldMlp(const FieldMlp&) = delete;
    FieldMlp& operator=(const FieldMlp&) = delete;

    Mlp mlp;

  private:
    const float* keep(std::vector<float> values) {
        memory_.push_back(std::move(values));
        return memory_.back().data();
    }

    std::vector<Layer> layers_;
    std::vector<std::vector<float>> memory_;
};

}  // namespace

void bind_fields(nb::module_& m) {
    nb::class_<FieldMlp>(m, "FieldMlp")
        .def(nb::init<const std::vector<Array<const float>>&, const std::vector<Array<const float>>&, int>(),
             "weights"_a, "biases"_a, "skip"_a)
        .def(
            "run",
            [](const FieldMlp& self, Array<const float> inputs, int threads, Array<float> out,
               std::optional<Array<float>> gradient) {
                const NetworkArgs args{&self.mlp,          static_cast<int64_t>(inputs.shape(0)),
                                       inputs.data(),  threads,
                                       out.data(),     gradient ? gradient->data() : nullptr};
                nb::gil_scoped_release release;
                return static_cast<int>(run_network(args));
            },
            "inputs"_a, "threads"_a, "out"_a, "gradient"_a.none())
        .def(
            "blend",
            [](const FieldMlp& self, Array<const float> points, Array<const float> anchors, Array<const int32_t> sets,
               Array<const float> flips, bool background_outside, float variance, float offset, float background,
               float epsilon, float allowed, int threads, Array<float> out, std::optional<Array<float>> gradient) {
                int64_t asked = 0;
                const EnsembleArgs args{&self.mlp,
                                        static_cast<int64_t>(points.shape(0)),
                                        points.data(),
                                        anchors.data(),
                                        sets.data(),
                                        flips.data(),
                                        background_outside,
                                        variance,
                                        offset,
                                        background,
                                        epsilon,
                                        allowed,
                                        threads,
                                        out.data(),
                                        gradient ? gradient->data() : nullptr,
                                        &asked};
                Status status;
                {
                    nb::gil_scoped_release release;
                    status = run_ensemble(args);
                }
                return nb::make_tuple(static_cast<int>(status), asked);
            },
            "points"_a, "anchors"_a, "sets"_a, "flips"_a, "background_outside"_a, "variance"_a, "offset"_a,
            "background"_a, "epsilon"_a, "allowed"_a, "threads"_a, "out"_a, "gradient"_a.none());
}
