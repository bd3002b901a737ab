// Fresh large arrays cost more in page faults than in arithmetic: ask for huge pages, and keep freed pictures for the
// next ones of their size.
#pragma once

#include <cstddef>
#include <cstdint>
#include <mutex>
#include <new>
#include <vector>

#ifdef __linux__
#include <sys/mman.h>
#endif

namespace headlab {

inline void prefer_huge_pages(void* data, size_t bytes) {
#if defined(__linux__) && defined(MADV_HUGEPAGE)
    constexpr uintptr_t kHuge = uintptr_t(1) << 21;
    const uintptr_t begin = (reinterpret_cast<uintptr_t>(data) + kHuge - 1) & ~(kHuge - 1);
    const uintptr_t end = (reinterpret_cast<uintptr_t>(data) + bytes) & ~(kHuge - 1);
    if (data != nullptr && begin < end) madvise(reinterpret_cast<void*>(begin), end - begin, MADV_HUGEPAGE);
#else
    (void)data, (void)bytes;
#endif
}

/// Freed blocks, oldest first, up to kLimit bytes in all. Blocks carry their size in front of them.
class BlockCache {
  public:
    static constexpr size_t kLimit = size_t(256) << 20;

    BlockCache() = default;
    BlockCache(const BlockCache&) = delete;
    BlockCache& operator=(const BlockCache&) = delete;
    ~BlockCache() {
        for (void* block : idle_) release(block);
    }

    /// Uninitialised memory of at least `bytes`, aligned to 64. Throws std::bad_alloc.
    void* take(size_t bytes) {
        std::unique_lock<std::mutex> lock(mutex_, std::try_to_lock);
        if (lock.owns_lock()) {
            for (size_t i = idle_.size(); i-- > 0;) {
                const size_t size = size_of(idle_[i]);
                if (size < bytes || size - bytes > bytes / 4) continue;
                void* block = idle_[i];
                idle_.erase(idle_.begin() + static_cast<std::ptrdiff_t>(i));
                held_ -= size;
                return block;
            }
            lock.unlock();
        }
        char* raw = static_cast<char*>(::operator new(bytes + kHeader, std::align_val_t(kHeader)));
        *reinterpret_cast<size_t*>(raw) = bytes;
        return raw + kHeader;
    }

    void give_back(void* block) noexcept {
        std::unique_lock<std::mutex> lock(mutex_, std::try_to_lock);
        if (!lock.owns_lock() || size_of(block) > kLimit) return release(block);
        try {
            idle_.push_back(block);
        } catch (...) {
            return release(block);
        }
        held_ += size_of(block);
        size_t old = 0;
        for (; held_ > kLimit; ++old) {
            held_ -= size_of(idle_[old]);
            release(idle_[old]);
        }
        idle_.erase(idle_.begin(), idle_.begin() + static_cast<std::ptrdiff_t>(old));
    }

  private:
    static constexpr size_t kHeader = 64;

    static size_t size_of(void* block) { return *reinterpret_cast<size_t*>(static_cast<char*>(block) - kHeader); }
    static void release(void* block) noexcept {
        ::operator delete(static_cast<char*>(block) - kHeader, std::align_val_t(kHeader));
    }

    std::mutex mutex_;
    std::vector<void*> idle_;
    size_t held_ = 0;
};

}  // namespace headlab
