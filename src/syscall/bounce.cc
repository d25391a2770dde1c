// SPDX-License-Identifier: Apache-2.0
#include "syscall/bounce.h"

#include <algorithm>
#include <atomic>
#include <new>

namespace skep {
namespace {

struct Kept {
  std::unique_ptr<std::byte[]> block;
  size_t size = 0;
  bool lent = false;
};
thread_local Kept kept;

}  // namespace

std::byte* Bounce::take(size_t size) {
  if (size > kKept || kept.lent) return new (std::nothrow) std::byte[size];
  kept.lent = true;
  std::atomic_signal_fence(std::memory_order_seq_cst);  // a signal handler of this thread sees it lent from here on
  if (kept.size < size) {
    // Powers of two, so that a thread which asks for ever more settles soon.
    size_t grown = 4 * kSmall;
    while (grown < size) grown *= 2;
    kept.block.reset(new (std::nothrow) std::byte[grown]);
    kept.size = kept.block ? grown : 0;
  }
  return kept.block.get();
}

void Bounce::give_back(std::byte* data) {
  if (data == kept.block.get()) {
    std::atomic_signal_fence(std::memory_order_seq_cst);
    kept.lent = false;
  } else {
    delete[] data;
  }
}

}  // namespace skep
