// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <memory>

namespace skep {

/// Uninitialised room for a private copy of a value; values of more than kSmall bytes go to the heap.
class Scratch {
 public:
  static constexpr size_t kSmall = 512;
  explicit Scratch(size_t size) : heap_(size > kSmall ? new std::byte[size] : nullptr) {}
  [[nodiscard]] std::byte* data() { return heap_ ? heap_.get() : small_; }

 private:
  alignas(16) std::byte small_[kSmall];
  std::unique_ptr<std::byte[]> heap_;
};

}  // namespace skep
