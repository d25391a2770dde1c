// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <array>
#include <atomic>
#include <cstdint>
#include <utility>

namespace skep {

/// What it is: a blocked Bloom filter: all bits of a value lie in one block of one cache line.
///
/// Layout: | block 0, 64 B | block 1 | ... |
///
///   hash 64 bit:  block = (hash >> 32) * blocks >> 32
///   bit i:        nine bits of hash * kMix[i / 7], from the top down
///
/// Operations: push sets `bits` bits of one block, may_contain tests them.
/// Invariants: bits are never cleared. A value whose push has returned has all its bits.
/// Ordering guarantees: COMMIT of a push is its last fetch_or; a test that follows it in time sees all of them.
/// Progress: wait-free. Reclamation, locks: none. A push that is killed half-way leaves bits that belong to no value: a
///   false positive more, no false negative.
/// Limits: blocks < 2^32, 1 to 15 bits.
///
/// The kernel's filter spreads the bits over all its memory, one cache line each. Where they share a block, blocks that
/// got more than their share of values raise the false positives; blocks_for() pays for that with memory.
class BloomFilter {
 public:
  static constexpr uint32_t kMostBits = 15;
  static constexpr uint32_t kBlockBits = 512;
  struct alignas(64) Block {
    std::array<std::atomic<uint64_t>, kBlockBits / 64> words;
  };
  static_assert(sizeof(Block) == 64);

  BloomFilter(Block* blocks, uint64_t count, uint32_t bits) : blocks_(blocks), count_(count), bits_(bits) {}

  /// Bits of the filter that Linux 6.18 makes for so many values and hash functions.
  static uint64_t kernel_bits(uint32_t max_entries, uint32_t bits);
  /// Blocks for a rate of false positives not above the kernel's when max_entries values are in it.
  static uint64_t blocks_for(uint32_t max_entries, uint32_t bits);

  void push(uint64_t hash) {
    Block& block = block_of(hash);
    each_bit(hash, [&](uint32_t bit) {
      const uint64_t mask = uint64_t{1} << bit % 64;
      std::atomic<uint64_t>& word = block.words[bit / 64];
      // A value that is there already dirties no line. Acquire and release pair with each other and with the test.
      if ((word.load(std::memory_order_acquire) & mask) == 0) word.fetch_or(mask, std::memory_order_acq_rel);
    });
  }

  /// Looks at every bit, whatever the first ones are: in a filter that is half full no branch could be predicted.
  [[nodiscard]] bool may_contain(uint64_t hash) const {
    const Block& block = block_of(hash);
    uint64_t all = 1;
    // Acquire pairs with push(): what its caller did before is visible to who finds the value.
    each_bit(hash, [&](uint32_t bit) { all &= block.words[bit / 64].load(std::memory_order_acquire) >> bit % 64; });
    return (all & 1) != 0;
  }

  /// Bits that are set.
  [[nodiscard]] uint64_t population() const;

 private:
  static constexpr uint32_t kBitsPerMix = 7;  // nine bits each of 64
  static constexpr uint32_t kCommonBits = 5;  // what map_extra 0 means
  static constexpr uint64_t kMix[] = {0x9e3779b97f4a7c15, 0xd6e8feb86659fd93, 0xa0761d6478bd642f};
  static_assert(std::size(kMix) * kBitsPerMix >= kMostBits);

  [[nodiscard]] Block& block_of(uint64_t hash) const { return blocks_[(hash >> 32) * count_ >> 32]; }
  template <class Visit>
  void each_bit(uint64_t hash, const Visit& visit) const {
    if (bits_ == kCommonBits) [[likely]]
      return each_of(hash * kMix[0], std::make_integer_sequence<uint32_t, kCommonBits>(), visit);
    uint32_t left = bits_;
    for (const uint64_t factor : kMix) {
      const uint32_t now = left < kBitsPerMix ? left : kBitsPerMix;
      each_of(hash * factor, now, visit);
      left -= now;
    }
  }
  template <class Visit>
  static void each_of(uint64_t mixed, uint32_t count, const Visit& visit) {
    for (uint32_t i = 0; i < count; ++i, mixed <<= 9) visit(static_cast<uint32_t>(mixed >> 55));
  }

  template <class Visit, uint32_t... kBits>
  static void each_of(uint64_t mixed, std::integer_sequence<uint32_t, kBits...>, const Visit& visit) {
    (visit(static_cast<uint32_t>(mixed >> (55 - 9 * kBits)) % kBlockBits), ...);
  }

  Block* const blocks_;
  const uint64_t count_;
  const uint32_t bits_;
};

}  // namespace skep
