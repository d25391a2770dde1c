// SPDX-License-Identifier: Apache-2.0
#include "maps/bloom_filter.h"

#include <algorithm>
#include <bit>

namespace skep {
namespace {

/// How much more memory than the kernel's filter, in percent of that one, by number of bits per value. Computed: the
/// rate of a block with n values is (1 - (1 - 1/512)^(n * bits))^bits, n is Poisson distributed; the smallest share
/// for which the mean is not above the kernel's rate, for the densest and the sparsest filter that its rounding to
/// powers of two makes, and 3 to 10 percent to spare.
constexpr uint32_t kPercent[BloomFilter::kMostBits + 1] = {0,   105, 106, 108, 110, 112, 115, 118,
                                                           122, 126, 132, 138, 145, 152, 160, 170};

}  // namespace

uint64_t BloomFilter::kernel_bits(uint32_t max_entries, uint32_t bits) {
  constexpr uint64_t kMost = uint64_t{1} << 31;
  const uint64_t product = uint64_t{max_entries} * bits;
  const uint64_t wanted = product / 5 * 7;
  if (product > UINT32_MAX || wanted > kMost) return kMost * 2;
  return std::bit_ceil(std::max<uint64_t>(wanted, 64));
}

uint64_t BloomFilter::blocks_for(uint32_t max_entries, uint32_t bits) {
  return (kernel_bits(max_entries, bits) * kPercent[bits] / 100 + kBlockBits - 1) / kBlockBits;
}

uint64_t BloomFilter::population() const {
  uint64_t set = 0;
  for (uint64_t i = 0; i < count_; ++i) {
    for (const auto& word : blocks_[i].words) {
      set += static_cast<uint64_t>(std::popcount(word.load(std::memory_order_relaxed)));
    }
  }
  return set;
}

}  // namespace skep
