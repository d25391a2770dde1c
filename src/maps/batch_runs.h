// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <cstddef>
#include <vector>

#include "maps/map.h"

namespace skep {

/// Elements on their way to a BatchSink, handed over in runs of about kRunBytes.
class BatchRuns {
 public:
  BatchRuns(const Map& map, uint32_t capacity, BatchSink& sink)
      : sink_(sink),
        key_size_(map.spec().key_size),
        value_size_(map.user_value_size()),
        length_(std::clamp<uint64_t>(kRunBytes / (key_size_ + value_size_), 1, capacity)),
        keys_(length_ * key_size_),
        values_(length_ * value_size_) {}

  [[nodiscard]] std::byte* key() { return keys_.data() + filled_ * key_size_; }
  [[nodiscard]] std::byte* value() { return values_.data() + filled_ * value_size_; }
  [[nodiscard]] uint32_t delivered() const { return delivered_; }

  /// The element at key() and value() is complete. False: the sink refused.
  bool push() { return ++filled_ < length_ || flush(); }
  bool flush() {
    if (filled_ == 0) return true;
    const auto run = static_cast<uint32_t>(filled_);
    filled_ = 0;
    delivered_ += run;
    return sink_.put(keys_.data(), values_.data(), run);
  }

 private:
  static constexpr uint64_t kRunBytes = 32 * 1024;
  BatchSink& sink_;
  const uint64_t key_size_, value_size_, length_;
  std::vector<std::byte> keys_, values_;
  uint64_t filled_ = 0;
  uint32_t delivered_ = 0;
};

}  // namespace skep
