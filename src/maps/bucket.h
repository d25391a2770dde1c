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
    const uint64_t low = word_at(8), high = word_at(16);
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

  /// The slots with an element whose tag is the lowest of those above `tag` (-1: of all). An element that is inserted
  /// meanwhile is not among them, or under its own tag. Who finds one of them gone asks again: it hid those above.
  [[nodiscard]] uint32_t lowest_above(int tag) const {
    if (tag == 0xff) return 0;
#if defined(__SSE2__)
    const __m128i zero = _mm_setzero_si128();
    // Elements are above 0 and links, which have the sign bit, below. Acquire pairs with the COMMIT stores of
    // HashTable: the tags that are read afterwards are those of the elements.
    const auto full = [&](uint32_t offset) {
      return _mm_cmpgt_epi32(_mm_set_epi64x(static_cast<int64_t>(word_at<__ATOMIC_ACQUIRE>(offset + 8)),
                                            static_cast<int64_t>(word_at<__ATOMIC_ACQUIRE>(offset))),
                             zero);
    };
    const __m128i to_8 = _mm_packs_epi32(full(24), full(40));
    const __m128i to_10 = _mm_packs_epi32(
        _mm_cmpgt_epi32(_mm_cvtsi64_si128(static_cast<int64_t>(word_at<__ATOMIC_ACQUIRE>(56))), zero), zero);
    const __m128i from_1 = _mm_slli_si128(_mm_packs_epi16(to_8, to_10), 1);
    const bool first = static_cast<int32_t>(slots[0].load(std::memory_order_acquire)) > 0;
    const __m128i elements = _mm_or_si128(from_1, _mm_cvtsi32_si128(first ? 0xff : 0));

    const __m128i all = _mm_set_epi64x(static_cast<int64_t>(word_at(16)), static_cast<int64_t>(word_at(8)));
    const __m128i least = _mm_set1_epi8(static_cast<char>(tag + 1));
    const __m128i above = _mm_and_si128(elements, _mm_cmpeq_epi8(_mm_max_epu8(all, least), all));
    __m128i lowest = _mm_or_si128(all, _mm_xor_si128(above, _mm_cmpeq_epi8(zero, zero)));
    lowest = _mm_min_epu8(lowest, _mm_srli_si128(lowest, 8));
    lowest = _mm_min_epu8(lowest, _mm_srli_si128(lowest, 4));
    lowest = _mm_min_epu8(lowest, _mm_srli_si128(lowest, 2));
    lowest = _mm_min_epu8(lowest, _mm_srli_si128(lowest, 1));
    const __m128i wanted = _mm_set1_epi8(static_cast<char>(_mm_cvtsi128_si32(lowest)));
    return static_cast<uint32_t>(_mm_movemask_epi8(_mm_and_si128(_mm_cmpeq_epi8(all, wanted), above)));
#else
    uint32_t found = 0;
    int lowest = 0xff;
    for (uint32_t i = 0; i < kSlots; ++i) {
      if (static_cast<int32_t>(slots[i].load(std::memory_order_acquire)) <= 0) continue;
      const int its_tag = tags[i].load(std::memory_order_relaxed);
      if (its_tag <= tag || its_tag > lowest) continue;
      found = (its_tag < lowest ? 0 : found) | 1U << i;
      lowest = its_tag;
    }
    return found;
#endif
  }

 private:
  template <int kOrder = __ATOMIC_RELAXED>
  [[nodiscard]] uint64_t word_at(uint32_t offset) const {
    using Word = uint64_t __attribute__((may_alias));
    return __atomic_load_n(reinterpret_cast<const Word*>(reinterpret_cast<const char*>(this) + offset), kOrder);
  }
};
static_assert(sizeof(Bucket) == 64 && offsetof(Bucket, tags) == 8 && offsetof(Bucket, slots) == 20);

}  // namespace skep
