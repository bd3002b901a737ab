// Which points each member is asked at, and how their answers are put together. Documented in field.h.

#include "field.h"

#include <atomic>
#include <cmath>
#include <cstdlib>
#include <cstring>
#include <new>
#include <vector>

#include "../../raster/csrc/pool.h"

namespace headlab::field {
namespace {

constexpr int kMostLanes = 16;
constexpr int64_t kMostPoints = 4096;  // of a task: every member's points fill whole blocks, nearly

const Kernels& choose() {
    const char* asked = std::getenv("HEADLAB_SIMD");
    const auto allowed = [asked](const char* name) { return asked == nullptr || std::strcmp(asked, name) == 0; };
#ifdef HL_X86_KERNELS
    __builtin_cpu_init();
    if (allowed("avx512") && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512dq") &&
        __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512bw"))
        return kAvx512Kernels;
    if ((allowed("avx2") || allowed("avx512")) && __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma"))
        return kAvx2Kernels;
#endif
    (void)allowed;
    return kScalarKernels;
}

int64_t task_size(int64_t count, int threads) {
    const int64_t share = (count + 4 * threads - 1) / (4 * threads);
    return share < 256 ? 256 : share > kMostPoints ? kMostPoints : share;
}

/// Room for a block's units, in floats.
size_t scratch_size(const Mlp& mlp, int block) {
    int64_t rows = 0;
    for (int i = 0; i < mlp.depth; ++i) rows += (mlp.layers[i].out + kPanel - 1) / kPanel * kPanel + mlp.free;
    return static_cast<size_t>(rows * block);
}

template <class Work>
Status in_tasks(int64_t count, int threads, Work&& work) {
    const int64_t size = task_size(count, threads < 1 ? 1 : threads);
    std::atomic<bool> failed{false};
    parallel_for(threads, (count + size - 1) / size, [&](int64_t i) {
        try {
            work(i * size, i * size + size < count ? i * size + size : count);
        } catch (const std::bad_alloc&) {
            failed = true;
        }
    });
    return failed ? Status::kNoMemory : Status::kOk;
}

/// Where a member is asked.
struct Question {
    int32_t point;
    float share;
};

void ensemble_task(const EnsembleArgs& a, const Kernels& kernel, int64_t begin, int64_t end,
                   std::atomic<int64_t>& asked) {
    const int members = a.mlp->members, block = kernel.block, lanes = kernel.lanes;
    const int64_t count = end - begin;
    const float* points = a.points + 3 * begin;
    std::vector<std::vector<Question>> lists(static_cast<size_t>(members));
    std::vector<float> share(static_cast<size_t>(members) * kMostLanes);
    std::vector<uint32_t> kept(static_cast<size_t>(members));
    for (int64_t i = 0; i < count; i += lanes) {
        const int some = static_cast<int>(count - i < lanes ? count - i : lanes);
        kernel.shares({points + 3 * i, a.anchors, some, members - 1, a.offset,
                       static_cast<float>(-1.4426950408889634 / a.variance), a.background, a.epsilon, a.allowed,
                       share.data(), kept.data()});
        for (int k = 0; k < members; ++k)
            for (uint32_t left = kept[static_cast<size_t>(k)]; left != 0; left &= left - 1) {
                const int lane = __builtin_ctz(left);
                lists[static_cast<size_t>(k)].push_back(
                    {static_cast<int32_t>(i + lane), share[static_cast<size_t>(k * lanes + lane)]});
            }
    }

    std::vector<float> value(static_cast<size_t>(count), 0.0f);
    std::vector<float> slope(a.gradient != nullptr ? static_cast<size_t>(6 * count) : 0, 0.0f);  // sum, and mean pull
    std::vector<float> scratch(scratch_size(*a.mlp, block));
    std::vector<float> inputs(static_cast<size_t>(3 * block)), gradient(static_cast<size_t>(3 * block));
    std::vector<float> said(static_cast<size_t>(block));
    int64_t evaluated = 0;
    for (int k = 0; k < members; ++k) {
        const std::vector<Question>& list = lists[static_cast<size_t>(k)];
        const bool anchored = k < members - 1, constant = !anchored && a.background_outside;
        const float* flip = a.flips + 3 * k;
        const float none[3] = {0, 0, 0};
        const float* anchor = anchored ? a.anchors + 3 * k : none;
        for (size_t start = 0; start < list.size(); start += static_cast<size_t>(block)) {
            const int some = static_cast<int>(
                list.size() - start < static_cast<size_t>(block) ? list.size() - start : static_cast<size_t>(block));
            if (constant) {
                for (int i = 0; i < some; ++i) said[static_cast<size_t>(i)] = 1;
                std::memset(gradient.data(), 0, gradient.size() * sizeof(float));
            } else {
                for (int i = 0; i < block; ++i) {
                    // Lanes to spare repeat the last point: no number there is worse than those that count.
                    const float* x = points + 3 * list[start + static_cast<size_t>(i < some ? i : some - 1)].point;
                    for (int c = 0; c < 3; ++c)
                        inputs[static_cast<size_t>(c * block + i)] = (x[c] - anchor[c]) * flip[c];
                }
                kernel.run({a.mlp, a.sets[k], k, some, inputs.data(), scratch.data(), said.data(),
                            a.gradient != nullptr ? gradient.data() : nullptr});
                evaluated += some;
            }
            for (int i = 0; i < some; ++i) {
                const Question& q = list[start + static_cast<size_t>(i)];
                const float f = said[static_cast<size_t>(i)];
                value[static_cast<size_t>(q.point)] += q.share * f;
                if (a.gradient == nullptr) continue;
                // d share_k = share_k (d log w_k - Σ_j share_j d log w_j)
                const float* x = points + 3 * q.point;
                float d[3] = {x[0] - anchor[0], x[1] - anchor[1], x[2] - anchor[2]};
                const float distance = std::sqrt(d[0] * d[0] + d[1] * d[1] + d[2] * d[2]);
                const float pull =
                    anchored && distance > 0 ? -2 / a.variance * (1 + a.offset / distance) * q.share : 0.0f;
                float* sum = slope.data() + 6 * q.point;
                for (int c = 0; c < 3; ++c) {
                    sum[c] += q.share * flip[c] * gradient[static_cast<size_t>(c * block + i)] + pull * d[c] * f;
                    sum[3 + c] += pull * d[c];
                }
            }
        }
    }
    for (int64_t i = 0; i < count; ++i) {
        const float f = value[static_cast<size_t>(i)];
        a.out[begin + i] = f;
        if (a.gradient == nullptr) continue;
        const float* sum = slope.data() + 6 * i;
        for (int c = 0; c < 3; ++c) a.gradient[3 * (begin + i) + c] = sum[c] - f * sum[3 + c];
    }
    asked += evaluated;
}

}  // namespace

const Kernels& kernels() {
    static const Kernels& chosen = choose();
    return chosen;
}

Status run_network(const NetworkArgs& a) {
    const Kernels& kernel = kernels();
    const int block = kernel.block, free = a.mlp->free, outputs = a.mlp->outputs();
    return in_tasks(a.count, a.threads, [&](int64_t begin, int64_t end) {
        std::vector<float> scratch(scratch_size(*a.mlp, block));
        std::vector<float> inputs(static_cast<size_t>(free * block)), out(static_cast<size_t>(outputs * block));
        std::vector<float> gradient(static_cast<size_t>(free * block));
        for (int64_t start = begin; start < end; start += block) {
            const int some = static_cast<int>(end - start < block ? end - start : block);
            for (int i = 0; i < block; ++i)
                for (int c = 0; c < free; ++c)
                    inputs[static_cast<size_t>(c * block + i)] =
                        a.inputs[(start + (i < some ? i : some - 1)) * free + c];
            kernel.run({a.mlp, 0, 0, some, inputs.data(), scratch.data(), out.data(),
                        a.gradient != nullptr ? gradient.data() : nullptr});
            for (int i = 0; i < some; ++i) {
                for (int c = 0; c < outputs; ++c)
                    a.out[(start + i) * outputs + c] = out[static_cast<size_t>(c * block + i)];
                if (a.gradient == nullptr) continue;
                for (int c = 0; c < free; ++c)
                    a.gradient[(start + i) * free + c] = gradient[static_cast<size_t>(c * block + i)];
            }
        }
    });
}

Status run_ensemble(const EnsembleArgs& a) {
    const Kernels& kernel = kernels();
    std::atomic<int64_t> asked{0};
    const Status status = in_tasks(a.count, a.threads, [&](int64_t begin, int64_t end) {
        ensemble_task(a, kernel, begin, end, asked);
    });
    *a.asked = asked;
    return status;
}

}  // namespace headlab::field
