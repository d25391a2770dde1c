// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>

#include "machine/machine_layout.h"
#include "memory/file_header.h"
#include "storage/slab.h"

namespace skep {

/// What local storage hangs on.
enum class OwnerKind : uint32_t {
  kTask = 0,
  kCgroup,
  kSocket,
  kInode,
  kObject,  // of an application: skep::Owner
};
inline constexpr uint32_t kOwnerKinds = 5;

/// Which owner, for as long as the host runs: never given to another one. What the words mean depends on the kind
/// (task_owner.h, cgroup_owner.h, ...).
struct OwnerIdentity {
  OwnerKind kind = OwnerKind::kTask;
  std::array<uint64_t, 3> words{};
  friend bool operator==(const OwnerIdentity&, const OwnerIdentity&) = default;
};

/// Which owner, in one instance: serial << kOwnerIndexBits | index of its record. Never given twice; 0 is none.
using OwnerNumber = uint64_t;
inline constexpr uint32_t kOwnerIndexBits = 22;
inline constexpr uint32_t kMostOwners = 1 << 20;
static_assert(kMostOwners <= 1U << kOwnerIndexBits);
[[nodiscard]] constexpr uint32_t owner_index(OwnerNumber number) { return number & ((1U << kOwnerIndexBits) - 1); }

/// One element of one owner: map id << 32 | cell in that map's slab; 0: none.
using StorageEntry = uint64_t;
[[nodiscard]] constexpr StorageEntry storage_entry(uint32_t map, uint32_t cell) { return uint64_t{map} << 32 | cell; }
[[nodiscard]] constexpr uint32_t entry_map(StorageEntry entry) { return static_cast<uint32_t>(entry >> 32); }
[[nodiscard]] constexpr uint32_t entry_cell(StorageEntry entry) { return static_cast<uint32_t>(entry); }

/// Some of an owner's elements. A chain of these, the first inside the record, is the list of all of them.
struct alignas(64) EntryBlock {
  static constexpr uint32_t kEntries = 5;
  std::array<std::atomic<StorageEntry>, kEntries> entries;  // the truth: what stands here is the owner's
  std::array<std::atomic<uint32_t>, kEntries> charges;      // bytes charged for each; stale where there is no entry
  std::atomic<uint32_t> next;                               // cell of the next block + 1; 0: none
};
static_assert(sizeof(EntryBlock) == 64);

/// The local storage of one owner: `cache` answers nearly every question.
struct alignas(64) OwnerRecord {
  // Read by everybody; written once, but for `number`.
  std::atomic<OwnerNumber> number;  // 0: dead. The commit store of an owner's death
  std::atomic<uint32_t> next;       // record + 1 of the next owner in the chain of the hash table
  OwnerKind kind;
  std::array<uint64_t, 3> words;  // OwnerIdentity
  std::atomic<uint64_t> lock;     // HolderLock over everything below
  std::atomic<uint64_t> charged;  // bytes; recounted from the entries after a holder's death
  std::atomic<uint32_t> trace;    // cell + 1 of what tells whether it still lives; 0: nothing is known
  uint32_t unused;
  /// By the cache slot of a map: an entry of the chain, or 0.
  alignas(64) std::array<std::atomic<StorageEntry>, 16> cache;
  EntryBlock entries;
};
static_assert(sizeof(OwnerRecord) == 256);
inline constexpr uint32_t kCacheSlots = 16;

/// How somebody who knows nothing of an owner but this finds out whether it is gone; the kind's own affair.
struct OwnerTrace {
  uint64_t space;              // the namespace or the like in which the rest means something
  std::array<char, 248> text;  // NUL-terminated; too long a text is none, and its owner is looked for elsewhere
};
static_assert(sizeof(OwnerTrace) == 256);

/// A storage map that has, or had, elements.
struct StorageMapRow {
  std::atomic<uint32_t> id;          // 0: free
  std::atomic<uint32_t> cache_slot;  // constant while the id is there
};

/// The beginning of the owners file.
struct OwnersControl {
  static constexpr uint32_t kHeads = 1 << 16;
  static constexpr uint32_t kStripes = 256;
  static constexpr uint32_t kMostMaps = 4096;

  FileHeader header;
  MachineShape shape;
  uint64_t limit;                   // bytes of elements that an owner may have, where its kind has no rule; constant
  std::atomic<uint64_t> serial;     // of the newest owner
  std::atomic<uint64_t> map_lock;   // HolderLock over `maps`
  std::atomic<uint32_t> maps_seen;  // rows from 0 to this one were ever used
  std::array<std::atomic<uint32_t>, 3> cursors;  // of the sweeps of records, blocks and traces: hints
  alignas(64) std::array<std::atomic<uint64_t>, kStripes> stripes;  // HolderLocks over the chains of the hash table
  alignas(64) std::array<StorageMapRow, kMostMaps> maps;
  alignas(64) std::array<std::atomic<uint32_t>, kHeads> heads;  // record + 1
};
static_assert(sizeof(OwnersControl) % 64 == 0);

/// The whole owners file from kHeaderOffset on.
struct OwnersLayout {
  explicit OwnersLayout(uint32_t slots)
      : records(SlabLayout::make(round_up(sizeof(OwnersControl), kPageSize), sizeof(OwnerRecord), kMostOwners,
                                 uint64_t{64} << 10, slots)),
        blocks(SlabLayout::make(records.end, sizeof(EntryBlock), 4 * kMostOwners, uint64_t{64} << 10, slots)),
        traces(SlabLayout::make(blocks.end, sizeof(OwnerTrace), kMostOwners, uint64_t{64} << 10, slots)) {}
  SlabLayout records, blocks, traces;
  [[nodiscard]] uint64_t size() const { return traces.end; }
};

}  // namespace skep
