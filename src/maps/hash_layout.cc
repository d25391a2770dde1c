// SPDX-License-Identifier: Apache-2.0
#include "maps/hash_layout.h"

#include <algorithm>

#include "maps/bucket.h"
#include "maps/slot_journal.h"
#include "skep/abi.h"

namespace skep {
namespace {

/// Elements of one chunk: kChunkBytes at least, and where CPUs have areas of their own a page in each.
uint64_t chunk_elements(const HashLayout& layout) {
  const uint64_t total = layout.key_room + uint64_t{layout.value_room} * layout.parts;
  const uint64_t by_size = (HashLayout::kChunkBytes + total - 1) / total;
  const uint64_t by_page = layout.parts > 1 ? kPageSize / std::min(layout.key_room, layout.value_room) : 1;
  return std::bit_ceil(std::max({uint64_t{1}, by_size, by_page}));
}

/// How many lists of least recently used elements a map of that spec has.
uint32_t lists_of(const MapSpec& spec, const MachineShape& shape) {
  if (spec.type != BPF_MAP_TYPE_LRU_HASH && spec.type != BPF_MAP_TYPE_LRU_PERCPU_HASH) return 0;
  return (spec.flags & BPF_F_NO_COMMON_LRU) != 0 ? shape.cpus : 1;
}

}  // namespace

Result<HashLayout> HashLayout::of(const MapSpec& spec, const MachineShape& shape, bool per_cpu) {
  HashLayout l{};
  if (spec.max_entries > kMaxBuckets) return fail(E2BIG);
  l.virtual_buckets = std::bit_ceil(spec.max_entries);
  // An LRU map is always full: with twice the buckets it has next to no chains.
  l.lru_lists = lists_of(spec, shape);
  l.buckets = std::max(1U, l.virtual_buckets / (l.lru_lists > 0 ? 4 : 8));
  l.virtual_shift = static_cast<uint32_t>(std::countr_zero(l.virtual_buckets / l.buckets));
  l.key_room = static_cast<uint32_t>(round_up(spec.key_size, 8));
  l.value_room = static_cast<uint32_t>(round_up(spec.value_size, 8));
  l.parts = per_cpu ? shape.cpus : 1;
  const uint64_t total = l.key_room + uint64_t{l.value_room} * l.parts;
  l.spare_per_slot = total <= kSparePerSlotLimit;
  l.spares = l.spare_per_slot ? shape.slots : shape.cpus;
  l.elements = spec.max_entries + l.spares;
  // A chain of n elements has at most n / 10 overflow buckets; each writer may have one more in its hands.
  l.overflow_buckets = spec.max_entries / Bucket::kLinkSlot + shape.slots;
  const uint64_t per_chunk = chunk_elements(l);
  l.chunk_shift = static_cast<uint32_t>(std::countr_zero(per_chunk));
  l.chunks = static_cast<uint32_t>((l.elements + per_chunk - 1) >> l.chunk_shift);

  uint64_t end = kControlOffset;
  const auto place = [&end](uint64_t length, uint64_t alignment) {
    const uint64_t begin = round_up(end, alignment);
    end = begin + length;
    return begin;
  };
  place(sizeof(HashControl), 64);
  l.journals = place(uint64_t{shape.slots} * sizeof(SlotJournal), 64);
  l.magazines = place(uint64_t{shape.slots} * sizeof(HashMagazine), 64);
  l.chunk_table = place(uint64_t{l.chunks} * sizeof(HashChunk), 64);
  l.chunk_bitmap = place((uint64_t{l.chunks} + 63) / 64 * 8, 64);
  l.reserve = place(uint64_t{l.spares} * 4, 64);
  if (l.lru_lists > 0) {
    constexpr uint32_t kWindow = 16;
    l.lru_window = l.lru_lists == 1 || spec.max_entries / l.lru_lists >= 4 * kWindow ? kWindow : 1;
    l.lru_controls = place(uint64_t{l.lru_lists} * sizeof(LruControl), 64);
    l.lru_uses = place(round_up(l.elements, kWindow), 64);
  }
  l.bucket_table = place(uint64_t{l.buckets} * sizeof(Bucket), 64);
  l.overflow_table = place(uint64_t{l.overflow_buckets} * sizeof(Bucket), 64);
  if (per_cpu) {
    l.key_stride = l.key_room;
    l.value_stride = l.value_room;
    l.part_stride = round_up(uint64_t{l.elements} * l.value_stride, kPageSize);
    l.keys = place(uint64_t{l.elements} * l.key_stride, kPageSize);
    l.values = place(l.part_stride * l.parts, kPageSize);
  } else {
    l.key_stride = l.value_stride = l.key_room + l.value_room;
    l.keys = place(uint64_t{l.elements} * l.key_stride, kPageSize);
    l.values = l.keys + l.key_room;
  }
  l.size = end;
  return l;
}

}  // namespace skep
