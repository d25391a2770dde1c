// SPDX-License-Identifier: Apache-2.0
#include "guarded_arena.h"

#include <sys/mman.h>

#include <cstdlib>

namespace skep::oracle {
namespace {
constexpr size_t kPage = 4096;
constexpr size_t kStride = GuardedArena::kSlotBytes + kPage;
// The slots, then one more that can only be read: as large, so that nothing else's memory is met behind it.
constexpr size_t kTotal = (GuardedArena::kSlots + 1) * kStride;
}  // namespace

GuardedArena::GuardedArena() {
  void* address = mmap(nullptr, kTotal, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (address == MAP_FAILED) abort();
  base_ = static_cast<uint8_t*>(address);
  for (size_t slot = 0; slot <= kSlots; ++slot) {
    if (mprotect(base_ + slot * kStride + kSlotBytes, kPage, PROT_NONE) != 0) abort();
  }
  if (mprotect(base_ + kSlots * kStride, kSlotBytes, PROT_READ) != 0) abort();
}

GuardedArena::~GuardedArena() { munmap(base_, kTotal); }

uint8_t* GuardedArena::allocate(size_t size) {
  if (size > kSlotBytes || used_ == kSlots) abort();
  uint8_t* end = base_ + used_++ * kStride + kSlotBytes;
  return end - size;
}

uint64_t GuardedArena::forbidden_address() const { return reinterpret_cast<uint64_t>(base_ + kSlotBytes + 8); }

uint64_t GuardedArena::read_only_address() const { return reinterpret_cast<uint64_t>(base_ + kSlots * kStride + 8); }

}  // namespace skep::oracle
