// SPDX-License-Identifier: Apache-2.0
#include "maps/generic_batch.h"

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <vector>

#include "skep/abi.h"

namespace skep {
namespace {

/// Collects elements and hands them to the sink in runs of about kRunBytes.
class Runs {
 public:
  Runs(const Map& map, uint32_t capacity, BatchSink& sink)
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

}  // namespace

BatchResult generic_lookup_batch(const Map& map, const void* in_cursor, void* out_cursor, uint32_t capacity,
                                 uint64_t flags, BatchSink& sink) {
  if ((flags & ~uint64_t{BPF_F_LOCK}) != 0) return {.error = EINVAL};
  if ((flags & BPF_F_LOCK) != 0 && map.spec().fields.spin_lock == ValueFields::kNone) return {.error = EINVAL};
  if (capacity == 0) return {};

  const uint32_t key_size = map.spec().key_size;
  std::vector<std::byte> previous(key_size);
  if (in_cursor != nullptr) std::memcpy(previous.data(), in_cursor, key_size);
  bool started = in_cursor != nullptr;
  int error = 0;
  Runs runs(map, capacity, sink);
  for (uint32_t count = 0; count < capacity;) {
    if (auto next = map.next_key(started ? previous.data() : nullptr, runs.key()); !next) {
      error = to_int(next.error());
      break;
    }
    std::memcpy(previous.data(), runs.key(), key_size);
    started = true;
    if (auto found = map.lookup(previous.data(), runs.value(), flags); !found) {
      if (to_int(found.error()) == ENOENT) continue;
      error = to_int(found.error());
      break;
    }
    ++count;
    if (!runs.push()) return {.error = EFAULT};
  }
  if (!runs.flush()) return {.error = EFAULT};
  const uint32_t count = runs.delivered();
  if (count > 0) std::memcpy(out_cursor, previous.data(), key_size);
  return {.count = count, .error = error, .cursor_written = count > 0};
}

}  // namespace skep
