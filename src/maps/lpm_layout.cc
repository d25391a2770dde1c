// SPDX-License-Identifier: Apache-2.0
#include "maps/lpm_layout.h"

#include <algorithm>
#include <bit>

#include "maps/lpm_key.h"

namespace skep {
namespace {

constexpr uint64_t kChunkBytes = 64 * 1024;
constexpr uint64_t kMaxChunks = 4096;

/// Units beyond those that can be in the trie: they wait for readers while their successors are in use. A program
/// that deletes and inserts all the time may do so this often in one run.
uint64_t spare_units(uint64_t stride) {
  constexpr uint64_t kMost = 256 * 1024, kBytes = uint64_t{64} << 20, kLeast = 64;
  return std::clamp(kBytes / stride, kLeast, kMost);
}

/// Nodes of a class that a trie of so many elements can need.
uint64_t nodes_of(uint32_t node_class, uint64_t elements, uint32_t max_bits) {
  const uint32_t bits = LpmNode::bits(node_class);
  if (node_class == 0) return elements;
  // A node becomes so wide when half of its former children are nodes, of two elements each.
  if (uint64_t{1} << (bits - LpmNode::kStride) > elements || bits >= max_bits + LpmNode::kStride) return 0;
  return (elements >> (bits - LpmNode::kStride - 1)) + 8;
}

}  // namespace

LpmLayout LpmLayout::of(const MapSpec& spec) {
  LpmLayout l{};
  l.data_size = spec.key_size - kPrefixDataOffset;
  l.max_bits = 8 * l.data_size;
  l.length_offset = static_cast<uint32_t>(round_up(l.data_size, 4));
  l.value_offset = static_cast<uint32_t>(round_up(l.length_offset + sizeof(uint32_t), 8));
  const uint64_t element = l.value_offset + round_up(spec.value_size, 8);

  uint64_t end = kControlOffset;
  const auto place = [&end](uint64_t length, uint64_t alignment) {
    const uint64_t begin = round_up(end, alignment);
    end = begin + length;
    return begin;
  };
  place(sizeof(LpmControl), 64);
  for (uint32_t p = 0; p < kPools; ++p) {
    Pool& pool = l.pools[p];
    pool.stride = p == kElements ? element : round_up(uint64_t{LpmNode::words(p - 1)} * 4, 64);
    const uint64_t spare = spare_units(pool.stride);
    const uint64_t wanted = p == kElements ? spec.max_entries + spare
                            : p == 1       ? spec.max_entries + spare
                                           : nodes_of(p - 1, spec.max_entries, l.max_bits);
    const uint64_t most =
        std::min<uint64_t>(kLargestArea / pool.stride, p == kElements ? LpmRef::kNode - 1 : LpmRef::kNumberMask);
    pool.capacity = static_cast<uint32_t>(std::min(wanted, most));
    const uint64_t per_chunk = std::max(kChunkBytes / pool.stride, pool.capacity / kMaxChunks);
    pool.chunk_shift = static_cast<uint32_t>(std::countr_zero(std::bit_ceil(std::max<uint64_t>(per_chunk, 1))));
    pool.chunks = static_cast<uint32_t>((uint64_t{pool.capacity} + (1U << pool.chunk_shift) - 1) >> pool.chunk_shift);
    pool.table = place(uint64_t{pool.chunks} * sizeof(LpmChunk), 64);
  }
  l.staging = place(element, 64);
  l.reserved = end;
  for (Pool& pool : l.pools) {
    pool.units = place(pool.capacity * pool.stride, kPageSize);
    pool.links = place(uint64_t{pool.capacity} * sizeof(uint32_t), kPageSize);
  }
  l.size = end;
  return l;
}

}  // namespace skep
