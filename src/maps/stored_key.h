// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <cstring>

#include "memory/shared_copy.h"

namespace skep {

/// A key as an element has it: its bytes, padded with zeros to whole words that are read and written with relaxed
/// atomics, since an element may be used again while a reader compares. kKeySize 0: any size.

template <uint32_t kKeySize>
inline bool stored_key_equals(const std::byte* stored, const void* key, uint32_t key_size) {
  const auto word = [stored](uint32_t i) {
    return __atomic_load_n(reinterpret_cast<const uint64_t*>(stored) + i, __ATOMIC_RELAXED);
  };
  if constexpr (kKeySize == 4) {
    uint32_t wanted;
    std::memcpy(&wanted, key, 4);
    return __atomic_load_n(reinterpret_cast<const uint32_t*>(stored), __ATOMIC_RELAXED) == wanted;
  } else if constexpr (kKeySize == 8 || kKeySize == 16) {
    uint64_t wanted[kKeySize / 8];
    std::memcpy(wanted, key, kKeySize);
    uint64_t difference = word(0) ^ wanted[0];
    if constexpr (kKeySize == 16) difference |= word(1) ^ wanted[1];
    return difference == 0;
  } else {
    const auto* bytes = static_cast<const unsigned char*>(key);
    uint32_t i = 0;
    for (; key_size >= 8; key_size -= 8, bytes += 8, ++i) {
      uint64_t wanted;
      std::memcpy(&wanted, bytes, 8);
      if (word(i) != wanted) return false;
    }
    if (key_size == 0) return true;
    uint64_t wanted = 0;
    std::memcpy(&wanted, bytes, key_size);
    return word(i) == wanted;
  }
}

template <uint32_t kKeySize>
inline void store_key(std::byte* stored, const void* key, uint32_t key_size) {
  uint32_t left = kKeySize != 0 ? kKeySize : key_size;
  const auto* bytes = static_cast<const unsigned char*>(key);
  for (auto* to = reinterpret_cast<uint64_t*>(stored); left > 0; ++to) {
    const uint32_t part = left < 8 ? left : 8;
    uint64_t word = 0;
    std::memcpy(&word, bytes, part);
    __atomic_store_n(to, word, __ATOMIC_RELAXED);
    bytes += part;
    left -= part;
  }
}

/// A total order of keys: negative, 0 or positive as `stored` comes before, is, or comes after `other`, a stored key
/// too.
inline int compare_stored_keys(const std::byte* stored, const std::byte* other, uint32_t key_size) {
  for (uint32_t i = 0; i < (key_size + 7) / 8; ++i) {
    const uint64_t a = __atomic_load_n(reinterpret_cast<const uint64_t*>(stored) + i, __ATOMIC_RELAXED);
    const uint64_t b = __atomic_load_n(reinterpret_cast<const uint64_t*>(other) + i, __ATOMIC_RELAXED);
    if (a != b) return a < b ? -1 : 1;
  }
  return 0;
}

}  // namespace skep
