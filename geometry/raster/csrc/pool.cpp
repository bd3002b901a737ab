#include "pool.h"

#include <atomic>
#include <condition_variable>
#include <mutex>
#include <thread>
#include <vector>

#ifndef _WIN32
#include <unistd.h>
#endif
#if defined(__x86_64__) || defined(_M_X64)
#include <immintrin.h>
#endif

namespace headlab {
namespace {

void pause_cpu() {
#if defined(__x86_64__) || defined(_M_X64)
    _mm_pause();
#else
    std::this_thread::yield();
#endif
}

class Pool {
  public:
    /// False if another thread is using the pool.
    bool run(int threads, int64_t count, void (*task)(void*, int64_t), void* context) {
        std::unique_lock<std::mutex> busy(busy_, std::try_to_lock);
        if (!busy.owns_lock()) return false;
        while (static_cast<int>(workers_.size()) < threads - 1) {
            const int index = static_cast<int>(workers_.size());
            try {
                workers_.emplace_back([this, index] { work(index); });
            } catch (...) {
                break;  // the system grants no more threads: go on with those there are
            }
        }
        task_ = task, context_ = context, count_ = count, limit_ = threads - 1;
        next_.store(0, std::memory_order_relaxed);
        open_.store(true);
        epoch_.fetch_add(1);
        if (sleepers_.load() > 0) {
            std::lock_guard<std::mutex> lock(sleep_);
            wake_.notify_all();
        }
        drain();
        // A worker announces itself in inside_ before it looks at open_: either it sees the job closed, or we see it.
        open_.store(false);
        // Yielding matters on a busy machine, where a worker may have lost its core in the middle of a task.
        for (int spin = 0; inside_.load() != 0; ++spin) spin < 2000 ? pause_cpu() : std::this_thread::yield();
        return true;
    }

  private:
    void drain() {
        for (int64_t i; (i = next_.fetch_add(1, std::memory_order_relaxed)) < count_;) task_(context_, i);
    }

    void work(int index) {
        uint64_t seen = 0;
        for (;;) {
            // A short spin bridges the phases of one operation; then sleep, so that an idle pool costs nothing.
            for (int spin = 0; spin < 2000 && epoch_.load() == seen; ++spin) pause_cpu();
            if (epoch_.load() == seen) {
                std::unique_lock<std::mutex> lock(sleep_);
                sleepers_.fetch_add(1);
                wake_.wait(lock, [&] { return epoch_.load() != seen; });
                sleepers_.fetch_sub(1);
            }
            seen = epoch_.load();
            inside_.fetch_add(1);
            if (open_.load() && index < limit_) drain();
            inside_.fetch_sub(1);
        }
    }

    std::mutex busy_, sleep_;
    std::condition_variable wake_;
    std::vector<std::thread> workers_;
    std::atomic<uint64_t> epoch_{0};
    std::atomic<int> sleepers_{0}, inside_{0};
    std::atomic<bool> open_{false};
    alignas(64) std::atomic<int64_t> next_{0};
    void (*task_)(void*, int64_t) = nullptr;
    void* context_ = nullptr;
    int64_t count_ = 0;
    int limit_ = 0;
};

/// The process's pool. Never destroyed: its threads sleep until the process ends. A forked child starts its own.
Pool& shared_pool() {
    static std::mutex mutex;
    static std::atomic<Pool*> pool{nullptr};
#ifdef _WIN32
    const int pid = 0;
#else
    const int pid = static_cast<int>(getpid());
#endif
    static std::atomic<int> owner{-1};
    if (owner.load(std::memory_order_acquire) != pid) {
        std::lock_guard<std::mutex> lock(mutex);
        if (owner.load(std::memory_order_relaxed) != pid) {
            pool.store(new Pool, std::memory_order_relaxed);
            owner.store(pid, std::memory_order_release);
        }
    }
    return *pool.load(std::memory_order_relaxed);
}

}  // namespace

void run_parallel(int threads, int64_t count, void (*task)(void*, int64_t), void* context) {
    if (threads > count) threads = static_cast<int>(count);
    if (threads > 1 && shared_pool().run(threads, count, task, context)) return;
    for (int64_t i = 0; i < count; ++i) task(context, i);
}

}  // namespace headlab
