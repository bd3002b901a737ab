#include "kernels.h"

#include <cstdlib>
#include <cstring>

namespace headlab {
namespace {

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

}  // namespace

const Kernels& kernels() {
    static const Kernels& chosen = choose();
    return chosen;
}

}  // namespace headlab
