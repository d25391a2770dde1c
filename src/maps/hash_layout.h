// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <atomic>
#include <bit>
#include <cstddef>
#include <cstdint>

#include "maps/key_hash.h"
#include "maps/map.h"

namespace skep {

/// The changing state of a hash map that belongs to no bucket and no slot; all but `moves` under `lock`.
struct alignas(64) HashPool {
  std::atomic<uint32_t> lock;           // slot + 1 of the holder, 0: free
  std::atomic<uint32_t> moves;          // how often elements moved between magazines and chunks
  std::atomic<uint32_t> chunk_hint;     // no chunk before this one has a free element
  std::atomic<uint32_t> absent_hint;    // where to look for a chunk without memory
  std::atomic<uint32_t> idle_chunk;     // number + 1 of the wholly free chunk that is kept
  std::atomic<uint32_t> retiring;       // chunks that wait for their grace period
  std::atomic<uint32_t> overflow_head;  // free overflow bucket
  std::atomic<uint32_t> overflow_used;  // overflow buckets from here on were never used
  std::atomic<uint32_t> spares;         // elements in the reserve
  std::atomic<uint32_t> retire_cursor;  // where to look for the next of them
  std::atomic<uint32_t> slots_seen;     // slots from here on never wrote this map; only grows
  uint32_t unused[5];
};
static_assert(sizeof(HashPool) == 64);

struct HashControl {
  uint32_t hash_function;  // KeyHash::Function; constant
  uint32_t unused[15];
  HashPool pool;
};
static_assert(sizeof(HashControl) == 128);

/// A run of consecutive elements whose memory comes and goes together. Under the pool lock.
struct HashChunk {
  /// kMoving: its memory comes or goes; who finds it so takes over from a dead process.
  enum State : uint32_t { kAbsent = 0, kReady = 1, kRetiring = 2, kMoving = 3 };
  std::atomic<uint32_t> state;
  std::atomic<uint32_t> free;   // elements in the list, and those never used
  std::atomic<uint32_t> head;   // first free element; its key area names the next
  std::atomic<uint32_t> used;   // elements that were ever handed out since the chunk got its memory
  std::atomic<uint32_t> epoch;  // kRetiring: the grace period
  uint32_t permanent;           // 1: never given back
};
static_assert(sizeof(HashChunk) == 24);

/// Free elements at hand for the writer in one slot; others may come and take one. Under `lock`, a leaf lock.
struct alignas(64) HashMagazine {
  static constexpr uint32_t kCapacity = 28;
  static constexpr uint32_t kTransfer = 14;  // elements that move to or from the chunks at once
  std::atomic<uint32_t> lock;                // slot + 1 of the holder, 0: free
  std::atomic<uint32_t> count;
  std::atomic<uint32_t> evicted;  // LRU: the first of them were evicted by and for this slot; a hint
  std::atomic<uint32_t> claim;    // LRU: what this slot has claimed of its list (lru_clock.h); a hint
  std::atomic<uint32_t> items[kCapacity];
};
static_assert(sizeof(HashMagazine) == 128);

/// LRU: the hands of one list (lru_clock.h). Positions in the list; written by whoever evicts, at any time.
struct alignas(64) LruControl {
  std::atomic<uint32_t> cold;
  std::atomic<uint32_t> warm;
  std::atomic<uint32_t> warm_elements;  // about how many elements of the list are warm
};
static_assert(sizeof(LruControl) == 64);

/// Where everything in the private window of a hash map is: a function of its spec and the machine's shape alone, so
/// that a file's content can never make it reach outside.
///
///     header | HashControl | SlotJournal[slots] | HashMagazine[slots] | HashChunk[chunks] | chunk bitmap | reserve |
///     LRU: LruControl[lists] | a byte for each element | Bucket[buckets] | Bucket[overflow buckets] |
///     elements: keys and values, or keys | values of CPU 0 | CPU 1 | ...
///
/// Elements are numbered from 1, buckets and slots from 0, overflow buckets from 1. The first `spares` elements replace
/// the value of an existing key when everything else is in use.
struct HashLayout {
  static constexpr uint64_t kChunkBytes = 64 * 1024;
  static constexpr uint64_t kSparePerSlotLimit = 1024;  // larger elements have `cpus` spares for all slots together
  static constexpr uint32_t kMaxBuckets = 1U << 27;     // the kernel's 16-byte buckets must count fewer than 2^32 bytes

  /// E2BIG: more buckets than the kernel would make.
  static Result<HashLayout> of(const MapSpec& spec, const MachineShape& shape, bool per_cpu);

  uint32_t virtual_buckets;  // what the kernel calls n_buckets; batch cursors count these
  uint32_t buckets;
  uint32_t virtual_shift;  // log2(virtual_buckets / buckets)
  uint32_t overflow_buckets;
  uint32_t spares;
  bool spare_per_slot;
  uint32_t elements;  // max_entries + spares
  uint32_t chunk_shift;
  uint32_t chunks;
  uint32_t key_room;    // bytes of a key with padding
  uint32_t value_room;  // bytes of a value, or one CPU's part of it, with padding
  uint32_t parts;       // of a value: CPUs, or 1
  uint64_t key_stride, value_stride, part_stride;
  uint64_t journals, magazines, chunk_table, chunk_bitmap, reserve, bucket_table, overflow_table;
  uint32_t lru_lists;   // 0: elements are not evicted; 1, or `cpus` with BPF_F_NO_COMMON_LRU
  uint32_t lru_window;  // how many consecutive elements belong to the same list
  uint64_t lru_controls, lru_uses;
  uint64_t keys, values;  // of element 1
  uint64_t size;

  [[nodiscard]] uint32_t chunk_of(uint32_t element) const { return (element - 1) >> chunk_shift; }
  [[nodiscard]] uint32_t chunk_first(uint32_t chunk) const { return (chunk << chunk_shift) + 1; }
  [[nodiscard]] uint32_t chunk_size(uint32_t chunk) const {
    const uint32_t before = chunk << chunk_shift;
    return elements - before < (1U << chunk_shift) ? elements - before : 1U << chunk_shift;
  }
};

/// The elements of a hash map in this process.
class HashElements {
 public:
  HashElements(const HashLayout& layout, std::byte* window)
      : keys_(window + layout.keys - layout.key_stride),
        values_(window + layout.values - layout.value_stride),
        key_stride_(layout.key_stride),
        value_stride_(layout.value_stride),
        part_stride_(layout.part_stride) {}

  [[nodiscard]] std::byte* key(uint32_t element) const { return keys_ + element * key_stride_; }
  [[nodiscard]] std::byte* value(uint32_t element) const { return values_ + element * value_stride_; }
  [[nodiscard]] std::byte* part(uint32_t element, uint32_t cpu) const { return value(element) + cpu * part_stride_; }
  /// The element whose value, or any part of it, is at `address`; 0: none.
  [[nodiscard]] uint32_t element_at(const void* address, uint32_t parts, uint32_t elements) const {
    for (uint32_t cpu = 0; cpu < parts; ++cpu) {
      const auto offset = static_cast<const std::byte*>(address) - (values_ + cpu * part_stride_);
      if (offset < 0) continue;
      const uint64_t element = static_cast<uint64_t>(offset) / value_stride_;
      if (element >= 1 && element <= elements) return static_cast<uint32_t>(element);
    }
    return 0;
  }
  /// Where a free element names the next free one.
  [[nodiscard]] std::atomic<uint32_t>& next_free(uint32_t element) const {
    return *reinterpret_cast<std::atomic<uint32_t>*>(key(element));
  }

 private:
  std::byte* keys_;
  std::byte* values_;
  uint64_t key_stride_, value_stride_, part_stride_;
};

}  // namespace skep
