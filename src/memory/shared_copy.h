// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <cstring>

namespace skep {

/// Copies between private memory and a segment that other threads and processes change at the same time.
///
/// A copy may be torn; whoever copies out validates afterwards (a version, a sequence) and copies again. Both
/// directions go word by word through relaxed atomics where the addresses are 8-byte aligned, so that the compiler may
/// assume nothing and ThreadSanitizer sees the race for what it is. `shared` must be 8-byte aligned for that; a tail of
/// fewer than 8 bytes is copied in bytes.
inline void copy_from_shared(void* to, const void* shared, size_t size) {
  auto* out = static_cast<unsigned char*>(to);
  const auto* in = static_cast<const unsigned char*>(shared);
  for (; size >= 8; size -= 8, in += 8, out += 8) {
    const uint64_t word = __atomic_load_n(reinterpret_cast<const uint64_t*>(in), __ATOMIC_RELAXED);
    std::memcpy(out, &word, 8);
  }
  for (; size > 0; --size, ++in, ++out) *out = __atomic_load_n(in, __ATOMIC_RELAXED);
}

inline void copy_to_shared(void* shared, const void* from, size_t size) {
  auto* out = static_cast<unsigned char*>(shared);
  const auto* in = static_cast<const unsigned char*>(from);
  for (; size >= 8; size -= 8, in += 8, out += 8) {
    uint64_t word;
    std::memcpy(&word, in, 8);
    __atomic_store_n(reinterpret_cast<uint64_t*>(out), word, __ATOMIC_RELAXED);
  }
  for (; size > 0; --size, ++in, ++out) __atomic_store_n(out, *in, __ATOMIC_RELAXED);
}

}  // namespace skep
