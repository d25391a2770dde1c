// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <cstring>

namespace skep {

/// The key of a trie as programs and bpf(2) see it: a prefix length in host order and the data, whose first bit is the
/// top bit of the first byte.
inline uint32_t load_prefix_length(const void* key) {
  uint32_t length;
  std::memcpy(&length, key, sizeof(length));
  return length;
}
inline constexpr uint32_t kPrefixDataOffset = 4;
inline constexpr uint32_t kMaxPrefixBits = 2048;

/// The data of a key as words in which bit 0 of the prefix is the top bit of word 0. kWords 1 and 2: data of at most
/// 8 and 16 bytes, in registers; 0: of any size.
template <uint32_t kWords>
class PrefixBits {
 public:
  static constexpr uint32_t kRoom = kWords != 0 ? kWords : kMaxPrefixBits / 64;
  /// Nodes that a path can have: each begins three bits behind its parent at least.
  static constexpr uint32_t kMaxDepth = kRoom * 64 / 3 + 1;

  PrefixBits(const void* data, uint32_t size) {
    const auto* bytes = static_cast<const std::byte*>(data);
    if constexpr (kWords != 0) {
      for (uint32_t i = 0; i < kWords; ++i) {
        words_[i] = 0;
        if (size > i * 8) words_[i] = word(bytes + i * 8, std::min(8U, size - i * 8));
      }
    } else {
      uint32_t i = 0;
      for (; size > 0; ++i) {
        const uint32_t part = std::min(8U, size);
        words_[i] = word(bytes, part);
        bytes += part;
        size -= part;
      }
      words_[i] = 0;  // bits() may ask beyond the end
    }
  }

  /// `count` (1-21) bits from `position` on; zeros behind the end.
  [[nodiscard]] uint32_t bits(uint32_t position, uint32_t count) const {
    if constexpr (kWords == 1) return static_cast<uint32_t>(words_[0] << position >> (64 - count));
    const uint32_t at = position / 64, shift = position % 64;
    uint64_t word = words_[at] << shift;
    if (shift + count > 64 && at + 1 < sizeof(words_) / 8) word |= words_[at + 1] >> (64 - shift);
    return static_cast<uint32_t>(word >> (64 - count));
  }

  /// Whether a stored key's data (whole words, shared) begins with the same `length` bits; without a branch where the
  /// words are few.
  [[nodiscard]] bool matches(const std::byte* stored, uint32_t length) const {
    const auto difference = [&](uint32_t i) {
      return words_[i] ^ to_host(__atomic_load_n(reinterpret_cast<const uint64_t*>(stored) + i, __ATOMIC_RELAXED));
    };
    if constexpr (kWords == 1) return static_cast<uint32_t>(std::countl_zero(difference(0))) >= length;
    if constexpr (kWords == 2) {
      const uint64_t first = difference(0), second = difference(1);
      const uint32_t same = static_cast<uint32_t>(std::countl_zero(first != 0 ? first : second));
      return same + (first != 0 ? 0 : 64) >= length;
    }
    return common(stored, length) == length;
  }

  /// How many bits, at most `limit`, a stored key's data (whole words, shared) begins with that are the same here.
  [[nodiscard]] uint32_t common(const std::byte* stored, uint32_t limit) const {
    for (uint32_t i = 0; i * 64 < limit; ++i) {
      const uint64_t other = to_host(__atomic_load_n(reinterpret_cast<const uint64_t*>(stored) + i, __ATOMIC_RELAXED));
      if (const uint64_t difference = words_[i] ^ other; difference != 0) {
        return std::min(limit, i * 64 + static_cast<uint32_t>(std::countl_zero(difference)));
      }
    }
    return limit;
  }

 private:
  static uint64_t to_host(uint64_t big_endian) {
    return std::endian::native == std::endian::little ? __builtin_bswap64(big_endian) : big_endian;
  }
  /// Four bytes at a time, as programs write addresses: a load of more than what one store wrote waits until all of it
  /// has reached the cache, which took half the time of a lookup.
  static uint64_t word(const std::byte* bytes, uint32_t size) {
    constexpr uint32_t kFirst = std::endian::native == std::endian::little ? 0 : 32;
    if (size == 4 || size == 8) [[likely]] {
      uint32_t first, second = 0;
      std::memcpy(&first, bytes, 4);
      if (size == 8) std::memcpy(&second, bytes + 4, 4);
      asm("" : "+r"(second));  // or the compiler makes one load of them again
      return to_host(uint64_t{first} << kFirst | uint64_t{second} << (32 - kFirst));
    }
    uint64_t raw = 0;
    std::memcpy(&raw, bytes, size);
    return to_host(raw);
  }

  uint64_t words_[kRoom + (kWords == 0 ? 1 : 0)];
};

}  // namespace skep
