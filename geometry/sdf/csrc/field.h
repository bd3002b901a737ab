// Neural fields on the CPU: folded softplus networks, alone or as NPHM's blended ensemble, at many points.
//
// A network's hidden units carry K = 100 log2(e) times their value (geometry/sdf/fast_mlp.py), so that its softplus of
// sharpness 100 is log2(1 + 2^z) and the derivative of that is 1 - 2^-softplus. Points lie along the SIMD lanes: one
// block is kVectors registers of points, a row of it one unit at all of them, and weights are broadcast. So a layer is
// a product of packed weights with rows that stay in the first-level cache, and the softplus is applied in registers.
#pragma once

#include <cstdint>

namespace headlab::field {

constexpr int kPanel = 8;  // units whose weights lie side by side: [panel][input][8]

/// One layer of every set of weights, packed both ways.
struct Layer {
    int fan_in, out;
    const float* plain;     // [sets][fan_in][out]
    const float* forward;   // [sets][panels of out][fan_in][8]
    const float* backward;  // [sets][panels of fan_in][out][8]
    const float* bias;      // [members][out, filled up to whole panels]
};

/// Networks of one shape side by side; the inputs enter at layer 0 and again, behind the hidden units, at `skip`.
struct Mlp {
    int sets, members, skip, free, depth;
    const Layer* layers;  // [depth]

    int outputs() const { return layers[depth - 1].out; }
};

/// A network at up to one block of points. Rows of `inputs`, `out` and `gradient` are block lanes long.
struct RunArgs {
    const Mlp* mlp;
    int set, member, count;
    const float* inputs;  // [free]
    float* scratch;
    float* out;       // [outputs]
    float* gradient;  // [free], of networks with one output; or null
};

/// Shares of the ensemble's members at up to kLanes points.
struct ShareArgs {
    const float* points;   // [count][3]
    const float* anchors;  // [anchors][3]
    int count, anchors_count;
    float offset, scale, background, epsilon;  // w = exp2(scale (distance + offset)²), share = w / (Σ w + epsilon)
    float allowed;  // what the shares of the members left out may add up to
    float* share;   // [anchors + 1][kLanes]
    uint32_t* kept;  // [anchors + 1], bit per point
};

struct Kernels {
    int lanes, block;
    void (*run)(const RunArgs&);
    void (*shares)(const ShareArgs&);
};

extern const Kernels kScalarKernels, kAvx2Kernels, kAvx512Kernels;

/// The fastest set this processor runs; HEADLAB_SIMD asks for a slower one, as in the rasteriser.
const Kernels& kernels();

enum class Status { kOk = 0, kNoMemory = 4 };

struct NetworkArgs {
    const Mlp* mlp;
    int64_t count;
    const float* inputs;  // [count][free]
    int threads;
    float* out;       // [count][outputs]
    float* gradient;  // [count][free] or null
};

/// Set 0, member 0.
Status run_network(const NetworkArgs&);

struct EnsembleArgs {
    const Mlp* mlp;  // one output
    int64_t count;
    const float* points;   // [count][3]
    const float* anchors;  // [members - 1][3]
    const int32_t* sets;   // [members]
    const float* flips;    // [members][3]
    bool background_outside;  // the last member says 1
    float variance, offset, background, epsilon;
    float allowed;  // as in ShareArgs
    int threads;
    float* out;       // [count]
    float* gradient;  // [count][3] or null
    int64_t* asked;   // how many members were evaluated in all
};

/// The blended field and its gradient, both of the members that were not left out.
Status run_ensemble(const EnsembleArgs&);

}  // namespace headlab::field
