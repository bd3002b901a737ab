// Checked face lists: every index is in range, or the row is padding.
#pragma once

#include <type_traits>
#include <vector>

#include "pool.h"
#include "raster.h"

namespace headlab {

/// Faces as int32, checked. `items` is 1 or the batch size. Points into the caller's array where it can.
class FaceList {
  public:
    Status load(const Faces& faces, int64_t batch, int64_t verts, int threads) {
        const int64_t items = faces.batched ? batch : 1;
        const int64_t rows = items * faces.count;
        count_ = faces.count;
        stride_ = faces.batched ? faces.count * 3 : 0;
        if (faces.wide) copy_.resize(static_cast<size_t>(rows) * 3);
        data_ = faces.wide ? copy_.data() : static_cast<const int32_t*>(faces.data);
        constexpr int64_t kRows = 16384;
        const int64_t chunks = (rows + kRows - 1) / kRows;
        std::vector<char> bad(static_cast<size_t>(chunks), 0);
        parallel_for(threads, chunks, [&](int64_t chunk) {
            const int64_t begin = chunk * kRows, end = begin + kRows < rows ? begin + kRows : rows;
            int found = 0;
            if (faces.wide) {
                const int64_t* from = static_cast<const int64_t*>(faces.data);
                for (int64_t i = begin; i < end; ++i) {
                    found |= check(from + 3 * i, verts);
                    for (int k = 0; k < 3; ++k) copy_[3 * i + k] = static_cast<int32_t>(from[3 * i + k]);
                }
            } else {
                for (int64_t i = begin; i < end; ++i) found |= check(data_ + 3 * i, verts);
            }
            bad[static_cast<size_t>(chunk)] = static_cast<char>(found);
        });
        padding_ = false;
        for (char b : bad) {
            if (b & kWrong) return Status::bad_face_index;
            padding_ |= (b & kPadding) != 0;
        }
        return Status::ok;
    }

    bool has_padding() const { return padding_; }

    const int32_t* item(int64_t batch) const { return data_ + batch * stride_; }
    int64_t count() const { return count_; }

  private:
    static constexpr int kWrong = 1, kPadding = 2;

    template <class I>
    static int check(const I* f, int64_t verts) {
        using U = std::make_unsigned_t<I>;  // negative indices become large
        const U n = static_cast<U>(verts);
        if (U(f[0]) < n && U(f[1]) < n && U(f[2]) < n) return 0;
        return f[0] == -1 && f[1] == -1 && f[2] == -1 ? kPadding : kWrong;
    }

    std::vector<int32_t> copy_;
    const int32_t* data_ = nullptr;
    int64_t count_ = 0, stride_ = 0;
    bool padding_ = false;
};

}  // namespace headlab
