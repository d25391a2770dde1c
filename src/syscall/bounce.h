// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <memory>

namespace skep {

/// A private buffer between a client's memory and a map, of any size, for the length of one command.
///
/// Up to kSmall bytes stand inside the object (on the stack); more in a block that the thread keeps from command to
/// command, up to kKept bytes; still more, and what nests or comes from a signal handler, on the heap. Uninitialised.
class Bounce {
 public:
  static constexpr size_t kSmall = 256;
  static constexpr size_t kKept = size_t{256} << 10;

  explicit Bounce(size_t size) : data_(size <= kSmall ? small_ : take(size)) {}
  Bounce(const Bounce&) = delete;
  Bounce& operator=(const Bounce&) = delete;
  ~Bounce() {
    if (data_ != small_) [[unlikely]]
      give_back(data_);
  }

  /// Null when there is no memory.
  [[nodiscard]] std::byte* data() { return data_; }

 private:
  // Static, so that a compiler which inlines the rest keeps data_ in a register.
  static std::byte* take(size_t size);
  static void give_back(std::byte* data);

  std::byte* const data_;
  alignas(16) std::byte small_[kSmall];
};

}  // namespace skep
