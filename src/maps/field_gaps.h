// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <utility>

#include "maps/map_spec.h"
#include "memory/shared_copy.h"

namespace skep {

/// The parts of a value that copies between users and the map leave out: its special fields (locks, timers, ...).
///
/// Users read zeros there and what they or programs write there is ignored, as in the kernel. Locks and what is always
/// empty stay untouched in the map; the others are fields that *own* something (timers, ...): an update zeroes them,
/// which is their uninitialised state, and whoever kept something for the field finds that it is not named there any
/// more.
class FieldGaps {
 public:
  explicit FieldGaps(const ValueFields& fields) {
    add(fields.spin_lock, 4, true);
    add(fields.res_spin_lock, 4, true);
    add(fields.timer, 16, false);
    add(fields.wq, 16, false);
    add(fields.task_work, 8, false);
    for (const auto& field : fields.all_empty()) {
      add(field.offset, field.size(), true, field.kind == ValueFields::Empty::kRefcount ? 1 : 0);
    }
  }

  [[nodiscard]] bool any() const { return count_ > 0; }
  /// Whether there are fields that own something.
  [[nodiscard]] bool any_owner() const { return owners_; }

  /// Lets go of what the fields of a value in the map own. Any thread and process, at any time.
  void release(void* value) const {
    for (uint32_t i = 0; i < count_; ++i) {
      if (!gaps_[i].stays) zero(static_cast<std::byte*>(value) + gaps_[i].offset, gaps_[i].size);
    }
  }

  /// Whether every field lies inside a value of `value_size` bytes.
  [[nodiscard]] bool fit(uint32_t value_size) const {
    return std::all_of(gaps_.begin(), gaps_.begin() + count_,
                       [&](const Gap& gap) { return uint64_t{gap.offset} + gap.size <= value_size; });
  }

  /// What users see of the special fields: zeros, of a reference count 1; in a private copy of a value.
  void clear(void* value) const {
    for (uint32_t i = 0; i < count_; ++i) {
      std::byte* const field = static_cast<std::byte*>(value) + gaps_[i].offset;
      std::memset(field, 0, gaps_[i].size);
      field[0] = std::byte{gaps_[i].first_byte};
    }
  }

  /// The same in a value of several pieces, one every `stride` bytes.
  void clear(void* value, uint32_t pieces, uint64_t stride) const {
    for (uint32_t piece = 0; piece < pieces; ++piece) clear(static_cast<std::byte*>(value) + piece * stride);
  }

  /// copy_to_shared() of a value whose special fields read as zeros.
  void copy_cleared(void* shared, const void* from, size_t size) const {
    copy_to_shared(shared, from, size);
    for (uint32_t i = 0; i < count_; ++i) {
      auto* field = static_cast<unsigned char*>(shared) + gaps_[i].offset;
      for (uint32_t byte = 0; byte < gaps_[i].size; ++byte) __atomic_store_n(field + byte, 0, __ATOMIC_RELAXED);
    }
  }

  /// copy_to_shared() around the locks; fields that own something are released.
  [[gnu::always_inline]] void copy_in(void* shared, const void* from, size_t size) const {
    if (count_ == 0) [[likely]] {
      if (size == 8) return copy_to_shared(shared, from, 8);
      return copy_to_shared(shared, from, size);
    }
    copy_around(shared, from, size);
  }

 private:
  void copy_around(void* shared, const void* from, size_t size) const {
    size_t done = 0;
    for (uint32_t i = 0; i < count_; ++i) {
      copy_part(shared, from, done, gaps_[i].offset);
      if (!gaps_[i].stays) zero(static_cast<std::byte*>(shared) + gaps_[i].offset, gaps_[i].size);
      done = size_t{gaps_[i].offset} + gaps_[i].size;
    }
    copy_part(shared, from, done, size);
  }

  struct Gap {
    uint32_t offset, size;
    bool stays;          // copies leave it as it is
    uint8_t first_byte;  // that users see
  };

  void add(uint32_t offset, uint32_t size, bool stays, uint8_t first_byte = 0) {
    if (offset == ValueFields::kNone) return;
    uint32_t at = count_++;  // ascending
    for (; at > 0 && gaps_[at - 1].offset > offset; --at) gaps_[at] = gaps_[at - 1];
    gaps_[at] = {offset, size, stays, first_byte};
    owners_ |= !stays;
  }

  /// Such fields are words, aligned as such.
  static void zero(std::byte* field, uint32_t size) {
    for (uint32_t at = 0; at < size; at += 8) {
      __atomic_store_n(reinterpret_cast<uint64_t*>(field + at), uint64_t{0}, __ATOMIC_RELAXED);
    }
  }

  static void copy_part(void* shared, const void* from, size_t begin, size_t end) {
    if (begin >= end) return;
    auto* to = static_cast<unsigned char*>(shared) + begin;
    const auto* source = static_cast<const unsigned char*>(from) + begin;
    // copy_to_shared() wants its target aligned to words; a lock is only aligned to 4 bytes.
    const size_t head = std::min<size_t>(end - begin, (8 - reinterpret_cast<uintptr_t>(to) % 8) % 8);
    for (size_t i = 0; i < head; ++i) __atomic_store_n(to + i, source[i], __ATOMIC_RELAXED);
    copy_to_shared(to + head, source + head, end - begin - head);
  }

  std::array<Gap, 5 + ValueFields::kMostEmpty> gaps_{};
  uint32_t count_ = 0;
  bool owners_ = false;
};

}  // namespace skep
