// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>

#include "memory/result.h"

namespace skep {

enum class Access { kReadOnly, kReadWrite };

/// Bytes of a window.
struct ByteRange {
  uint64_t offset, length;
};

/// One window of an object file, mapped MAP_SHARED into this process; unmapped by the destructor.
///
/// A window never moves and never grows (design decision 2). Inside it stand offsets and indices, never pointers.
/// The window keeps the open file description alive, and with it the flock that is the reference to the object,
/// also after the descriptor was closed. Thread-safe once made.
class Segment {
 public:
  Segment() = default;
  Segment(Segment&& other) noexcept;
  Segment& operator=(Segment&& other) noexcept;
  Segment(const Segment&) = delete;
  Segment& operator=(const Segment&) = delete;
  ~Segment();

  /// Maps `length` bytes (rounded up to pages) of `fd` from `offset` (page aligned). A file that ends before
  /// offset + length is refused with EINVAL, so that no access through the window can run past its end.
  static Result<Segment> map(int fd, uint64_t offset, uint64_t length, Access access);

  [[nodiscard]] std::byte* data() const { return data_; }
  [[nodiscard]] uint64_t size() const { return size_; }
  [[nodiscard]] bool writable() const { return access_ == Access::kReadWrite; }

  /// Makes sure that every page of [offset, offset + length) exists, so that no later access can raise SIGBUS.
  /// ENOMEM (with a sentence that names SKEP_DIR) when the file system is full; pages reserved so far stay.
  Status reserve(uint64_t offset, uint64_t length) const;

  /// Returns the whole pages inside [offset, offset + length) to the file system; they read as zero afterwards.
  /// The caller has made sure that nobody reads them any more: reading a hole of a full tmpfs raises SIGBUS.
  void give_back(uint64_t offset, uint64_t length) const;

  /// Reserves the `count` ranges that `range(i)` tells or, where the file system gets full on the way, gives back what
  /// they got: others need it more. For memory that nobody uses yet.
  template <class RangeAt>
  Status reserve_all(uint32_t count, const RangeAt& range) const {
    for (uint32_t i = 0; i < count; ++i) {
      const ByteRange part = range(i);
      if (const Status status = reserve(part.offset, part.length); !status) {
        give_back_all(i + 1, range);
        return status;
      }
    }
    return {};
  }
  template <class RangeAt>
  void give_back_all(uint32_t count, const RangeAt& range) const {
    for (uint32_t i = 0; i < count; ++i) give_back(range(i).offset, range(i).length);
  }

 private:
  std::byte* data_ = nullptr;
  uint64_t size_ = 0;
  Access access_ = Access::kReadOnly;
};

}  // namespace skep
