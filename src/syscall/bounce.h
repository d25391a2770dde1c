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
    if (data_ != small_) give_back();
  }

  /// Null when there is no memory.
  [[nodiscard]] std::byte* data() { return data_; }

 private:
  std::byte* take(size_t size);
  void give_back();

  bool borrowed_ = false;  // before data_: take() sets it
  std::byte* data_;
  alignas(16) std::byte small_[kSmall];
};

}  // namespace skep
