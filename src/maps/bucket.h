// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <atomic>
#include <cstdint>

#if defined(__SSE2__)
#include <emmintrin.h>
#endif

namespace skep {

/// One cache line of a hash map: who writes it, how often something was unlinked from it, and up to 11 elements.
///
///     0        8                    20                                            64
///     +--------+--------------------+---------------------------------------------+
///     | word   | tags[11], 1 unused | slots[11]                                   |
///     +--------+--------------------+---------------------------------------------+
///
///     word:  version (48 bits) | in place (1) | slot of the writer + 1 (15 bits), 0: nobody
///     slots: 0 empty; an element's number; in slots[10] also kLink | number of the overflow bucket that goes on.
///
/// `word` counts in the first bucket of a chain only. In a free overflow bucket it holds the next free one.
/// Written by whoever holds the bucket, read by everybody at any time.
struct alignas(64) Bucket {
  static constexpr uint32_t kSlots = 11;
  static constexpr uint32_t kLinkSlot = 10;
  static constexpr uint32_t kLink = 0x80000000;
  static constexpr uint64_t kHolderMask = 0x7fff;
  static constexpr uint64_t kInPlace = 0x8000;  // a value of this chain is being written in place: copying readers wait
  static constexpr uint64_t kVersionStep = 0x10000;
  static constexpr uint32_t kAllSlots = (1U << kSlots) - 1;

  std::atomic<uint64_t> word;
  std::atomic<uint8_t> tags[12];
  std::atomic<uint32_t> slots[kSlots];

  [[nodiscard]] static uint32_t holder(uint64_t word_value) { return static_cast<uint32_t>(word_value & kHolderMask); }
  /// Whether a read between the two words saw nothing unlinked, moved or written in place.
  [[nodiscard]] static bool same_version(uint64_t before, uint64_t after) {
    return ((before ^ after) & ~kHolderMask) == 0;
  }

  /// The slots whose tag, masked, is `tag`: a hint, since tags of empty slots mean nothing.
  [[nodiscard]] uint32_t match(uint8_t tag, uint8_t mask = 0xff) const {
    const uint64_t low = tag_word(8), high = tag_word(16);
#if defined(__SSE2__)
    const __m128i all = _mm_set_epi64x(static_cast<int64_t>(high), static_cast<int64_t>(low));
    const __m128i masked = mask == 0xff ? all : _mm_and_si128(all, _mm_set1_epi8(static_cast<char>(mask)));
    const __m128i equal = _mm_cmpeq_epi8(masked, _mm_set1_epi8(static_cast<char>(tag)));
    return static_cast<uint32_t>(_mm_movemask_epi8(equal)) & kAllSlots;
#else
    uint32_t found = 0;
    for (uint32_t i = 0; i < kSlots; ++i) {
      const auto byte = static_cast<uint8_t>(i < 8 ? low >> (8 * i) : high >> (8 * (i - 8)));
      found |= static_cast<uint32_t>((byte & mask) == tag) << i;
    }
    return found;
#endif
  }

 private:
  [[nodiscard]] uint64_t tag_word(uint32_t offset) const {
    using Word = uint64_t __attribute__((may_alias));
    return __atomic_load_n(reinterpret_cast<const Word*>(reinterpret_cast<const char*>(this) + offset),
                           __ATOMIC_RELAXED);
  }
};
static_assert(sizeof(Bucket) == 64 && offsetof(Bucket, tags) == 8 && offsetof(Bucket, slots) == 20);

}  // namespace skep
