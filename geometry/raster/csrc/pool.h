// Thread pool of the native module: plain std::thread, no OpenMP (its teams stall badly on a loaded machine).
#pragma once

#include <cstdint>
#include <type_traits>

namespace headlab {

/// Calls task(context, i) once for every i in [0, count), on the caller and at most `threads` - 1 workers. Returns when
/// all are done. Items are handed out one by one, so a caller whose workers wake late simply does more itself. A second
/// caller that finds the pool busy runs its items alone. Tasks must not throw and must not depend on who runs them.
void run_parallel(int threads, int64_t count, void (*task)(void*, int64_t), void* context);

template <class Function>
void parallel_for(int threads, int64_t count, Function&& function) {
    using Plain = std::remove_reference_t<Function>;
    run_parallel(
        threads, count, [](void* context, int64_t i) { (*static_cast<Plain*>(context))(i); },
        const_cast<void*>(static_cast<const void*>(&function)));
}

}  // namespace headlab
