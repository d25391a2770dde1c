// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>

#include "memory/file_header.h"

namespace skep {

/// The header of a record, 8 bytes before its data: length and state, as consumers read them.
namespace ringbuf {
inline constexpr uint32_t kBusy = 1U << 31;     // not submitted yet
inline constexpr uint32_t kDiscard = 1U << 30;  // to be passed over
inline constexpr uint32_t kLengthMask = ~(kBusy | kDiscard);
inline constexpr uint64_t kHeaderSize = 8;
/// Bytes that a record of `length` bytes of data takes.
[[nodiscard]] constexpr uint64_t footprint(uint64_t length) { return (length + kHeaderSize + 7) & ~uint64_t{7}; }
}  // namespace ringbuf

/// The user area of a ring: what a plain mmap of the descriptor sees, in the kernel's layout.
///
///   page 0     u64 consumer position
///   page 1     u64 producer position | u64 oldest position that is not committed | u64 overwrite position
///   page 2..   data, `size` bytes
///   behind     the mirror, `size` bytes: where the kernel shows the data again
///
/// Positions count bytes since creation and never wrap; a record of position p lies at data[p % size]. A file cannot
/// show the same pages twice, so a record that reaches the end of the data is written on into the mirror: it is
/// contiguous for everybody, and the bytes at the start of the data that it would have covered are used by nobody.
/// Headers are 8-aligned, so all of them lie in the data. Offsets are masked: a position that a client made up leads to
/// wrong bytes of the ring, never outside it.
class RingbufArea {
 public:
  RingbufArea(std::byte* base, uint64_t size) : base_(base), size_(size), mask_(size - 8) {}

  [[nodiscard]] static constexpr uint64_t user_size(uint64_t size) { return 2 * kPageSize + 2 * size; }
  [[nodiscard]] uint64_t size() const { return size_; }
  [[nodiscard]] std::atomic<uint64_t>& consumer() const { return word(0); }
  [[nodiscard]] std::atomic<uint64_t>& producer() const { return word(kPageSize); }
  [[nodiscard]] std::atomic<uint64_t>& pending() const { return word(kPageSize + 8); }
  [[nodiscard]] std::atomic<uint64_t>& overwritten() const { return word(kPageSize + 16); }
  /// Length, state and the owner's tag of the record at `position`, as one word.
  [[nodiscard]] std::atomic<uint64_t>& header(uint64_t position) const {
    return word(2 * kPageSize + (position & mask_));
  }
  /// Length and state alone.
  [[nodiscard]] std::atomic<uint32_t>& state(uint64_t position) const {
    return *reinterpret_cast<std::atomic<uint32_t>*>(&header(position));
  }
  [[nodiscard]] std::byte* data(uint64_t position) const {
    return base_ + 2 * kPageSize + (position & mask_) + ringbuf::kHeaderSize;
  }

 private:
  [[nodiscard]] std::atomic<uint64_t>& word(uint64_t offset) const {
    return *reinterpret_cast<std::atomic<uint64_t>*>(base_ + offset);
  }
  std::byte* base_;
  uint64_t size_;
  uint64_t mask_;
};

}  // namespace skep
