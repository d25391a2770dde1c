// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "maps/ringbuf_map.h"

namespace skep {

/// What struct bpf_dynptr stands for: bounded memory whose size the program need not know beforehand.
struct Dynptr {
  enum class Kind : uint8_t { kNull, kMemory, kRecord, kSample };
  uint64_t place;   // the address of the 16 bytes that the program knows it by
  uint64_t serial;  // what they hold
  std::byte* data;
  uint32_t size;
  Kind kind;
  static constexpr uint32_t kMaxSize = (1U << 24) - 1;
};

/// What one run owes: the ring buffer records that it reserved, and the dynamic pointers that it made.
///
/// The kernel's verifier proves that each record is given back once and that nobody touches the bytes of a dynptr; here
/// both are looked up. The 16 bytes of a dynptr hold a number that was never given before in this run: a program that
/// writes into them, or makes them up, has no dynptr there.
class Records {
 public:
  struct Open {
    RingbufMap* ring;
    std::byte* data;
    uint32_t size;
  };

  void reset() {
    open_.clear();
    dynptrs_.clear();
  }

  void opened(const Open& record) { open_.push_back(record); }
  [[nodiscard]] bool any_open() const { return !open_.empty(); }
  /// The record whose data begins at `data`, taken out; its ring is null when there is none.
  Open take(const std::byte* data);
  void discard_all();

  /// Makes the 16 bytes at `place`, which are the caller's to write, a dynptr.
  void make_dynptr(uint64_t place, Dynptr::Kind kind, std::byte* data, uint32_t size);
  /// The dynptr at `place`; null: there is none.
  Dynptr* find_dynptr(uint64_t place);
  /// The bytes at `place` are a dynptr no more.
  void drop_dynptr(uint64_t place);

 private:
  static constexpr size_t kManyDynptrs = 64;
  static bool intact(const Dynptr& dynptr);

  std::vector<Open> open_;
  std::vector<Dynptr> dynptrs_;
  uint64_t serial_ = 0;
};

}  // namespace skep
