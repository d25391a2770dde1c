// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

namespace skep::oracle {

/// Memory for the buffers of one operation: each buffer ends exactly where an inaccessible page begins, so that a
/// single byte read or written past it is a fault and not an accident that nobody sees.
class GuardedArena {
 public:
  GuardedArena();
  ~GuardedArena();
  GuardedArena(const GuardedArena&) = delete;
  GuardedArena& operator=(const GuardedArena&) = delete;

  /// Forgets all buffers.
  void reset() { used_ = 0; }
  /// A buffer of `size` bytes, at most kSlotBytes, with undefined content; valid until reset().
  uint8_t* allocate(size_t size);
  /// An address that faults on any access.
  [[nodiscard]] uint64_t forbidden_address() const;
  /// An address that can be read but not written, nearly kSlotBytes from there on; zeros.
  [[nodiscard]] uint64_t read_only_address() const;

  static constexpr size_t kSlotBytes = size_t{2} << 20;
  static constexpr size_t kSlots = 6;

 private:
  uint8_t* base_;
  size_t used_ = 0;
};

}  // namespace skep::oracle
