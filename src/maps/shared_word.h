// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <atomic>
#include <cstdint>
#include <cstring>

namespace skep {

/// Values of at most 8 bytes in a map: one aligned word each, read and written whole, so that no copy is ever torn.

/// The bytes of the word at `shared`. Acquire: pairs with the release in store_word() and exchange_word(), so that what
/// a writer did before publishing a value is visible to who reads it.
inline uint64_t load_word(const void* shared) {
  return __atomic_load_n(static_cast<const uint64_t*>(shared), __ATOMIC_ACQUIRE);
}

/// Replaces the word if it still is `expected` (else updates `expected`).
inline bool exchange_word(void* shared, uint64_t& expected, uint64_t desired) {
  return __atomic_compare_exchange_n(static_cast<uint64_t*>(shared), &expected, desired, false, __ATOMIC_ACQ_REL,
                                     __ATOMIC_ACQUIRE);
}

/// Copies the first `size` (1-8) bytes of `word` out.
inline void copy_word_out(void* to, uint64_t word, uint32_t size) {
  switch (size) {
    case 8:
      std::memcpy(to, &word, 8);
      break;
    case 4:
      std::memcpy(to, &word, 4);
      break;
    default:
      std::memcpy(to, &word, size);
  }
}

/// Overwrites the first `size` (1-8) bytes of the word in one step; the others keep what they have.
inline void store_word(void* shared, const void* from, uint32_t size) {
  uint64_t word = 0;
  switch (size) {
    case 8:
      std::memcpy(&word, from, 8);
      __atomic_store_n(static_cast<uint64_t*>(shared), word, __ATOMIC_RELEASE);
      return;
    case 4: {
      uint32_t half;
      std::memcpy(&half, from, 4);
      __atomic_store_n(static_cast<uint32_t*>(shared), half, __ATOMIC_RELEASE);
      return;
    }
    default:
      word = load_word(shared);
      for (uint64_t merged = word;; merged = word) {
        std::memcpy(&merged, from, size);
        if (exchange_word(shared, word, merged)) return;
      }
  }
}

}  // namespace skep
