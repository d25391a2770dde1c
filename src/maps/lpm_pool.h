// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>

#include "machine/crash_point.h"
#include "maps/lpm_layout.h"
#include "memory/segment.h"

namespace skep {

/// The memory of a trie: elements and nodes, of which each pool has one size.
///
/// Layout: a pool is chunks of consecutive units; a chunk has memory or not, a list of free units, and a mark behind
/// which units were never used. Retired units wait in two lists, through the links of their pools:
///
///     trie --retire--> [ open ] --begin_grace_period--> [ waiting ] --elapsed--> chunk --all free--> file system
///
/// Operations: take, give (a unit that nobody has seen), retire, reclaim; repair of what a dead writer left.
///
/// Invariants
///   M1 Each unit of a ready chunk is in exactly one place: the trie, the journal, a list of retired ones, its chunk's
///      list, or behind its mark. While a dead writer's move is unrepaired, it may be in two, one of them the journal.
///   M2 A unit in a chunk's list cannot be reached by any reader: it was never published, or a grace period has
///   elapsed. M3 A chunk without memory has no unit in any other place.
/// Progress and locks: under the writers' lock of the trie; never waits. Readers do not come here.
/// Reclamation: a chunk whose units are all free gives its memory back; one small chunk of each pool is kept.
/// Limits and errno: ENOMEM: no memory for a chunk, or every unit waits for a grace period.
class LpmPools {
 public:
  LpmPools(const LpmLayout& layout, const Segment& window, Machine& machine);
  LpmPools(const LpmPools&) = delete;
  LpmPools& operator=(const LpmPools&) = delete;

  static uint32_t pool_of(uint32_t ref) { return LpmRef::is_node(ref) ? LpmRef::node_class(ref) + 1 : 0; }
  [[nodiscard]] std::byte* unit(uint32_t ref) const {
    const LpmLayout::Pool& pool = layout_.pools[pool_of(ref)];
    return window_.data() + pool.units + number_of(ref) * pool.stride;
  }

  /// A unit of a pool, as a reference; the journal's taken[i] names it.
  Result<uint32_t> take(uint32_t pool, uint32_t i);
  /// Puts the journal's taken units back into their chunks; each is checked to be out first if `repairing`.
  void give_back_taken(bool repairing);
  /// The journal's taken units are in the trie.
  void forget_taken();
  /// Puts a unit that readers may still see on the list. `repairing`: unless it is its head already.
  void retire(uint32_t ref, bool repairing);

  /// Gives retired units whose readers have gone back to their chunks, and begins a grace period for others, when it is
  /// worth the time or `urgent`.
  void reclaim(bool urgent);
  /// Finishes what a dead writer was doing to the lists.
  void repair_lists();
  /// Finishes what it was doing to the memory of chunks; comes last, when each unit is where it belongs.
  void repair_memory();

  [[nodiscard]] const LpmChunk* chunks(uint32_t pool) const { return chunks_of(pool); }
  [[nodiscard]] uint32_t link_of(uint32_t ref) const { return load(link(ref)); }
  [[nodiscard]] uint32_t chunk_size(uint32_t pool, uint32_t chunk) const;

 private:
  static uint32_t number_of(uint32_t ref) { return LpmRef::is_node(ref) ? LpmRef::number(ref) : ref - 1; }
  static uint32_t ref_of(uint32_t pool, uint32_t number) {
    return pool == LpmLayout::kElements ? number + 1 : LpmRef::node(pool - 1, number);
  }
  [[nodiscard]] LpmChunk* chunks_of(uint32_t pool) const {
    return reinterpret_cast<LpmChunk*>(window_.data() + layout_.pools[pool].table);
  }
  [[nodiscard]] std::atomic<uint32_t>& link(uint32_t ref) const { return link(pool_of(ref), number_of(ref)); }
  [[nodiscard]] std::atomic<uint32_t>& link(uint32_t pool, uint32_t number) const {
    return reinterpret_cast<std::atomic<uint32_t>*>(window_.data() + layout_.pools[pool].links)[number];
  }
  Result<uint32_t> chunk_with_free(uint32_t pool);
  Status give_memory(uint32_t pool, uint32_t chunk);
  void give_back_memory(uint32_t pool, uint32_t chunk);
  [[nodiscard]] ByteRange memory_part(uint32_t pool, uint32_t chunk, uint32_t part) const;
  void push(uint32_t ref);
  void after_push(uint32_t pool, uint32_t chunk);
  [[nodiscard]] bool in_chunk(uint32_t ref) const;
  void recount(uint32_t ref);
  void release_waiting();

  const LpmLayout& layout_;
  const Segment& window_;
  Machine& machine_;
  LpmControl& control_;
  LpmJournal& journal_;
};

}  // namespace skep
