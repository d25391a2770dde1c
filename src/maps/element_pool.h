// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <atomic>
#include <cstdint>

#include "machine/crash_point.h"
#include "maps/bucket.h"
#include "maps/hash_layout.h"
#include "maps/lru_uses.h"
#include "maps/slot_journal.h"
#include "memory/segment.h"

namespace skep {

/// The free elements, spare elements and free overflow buckets of a hash map.
///
/// Layout
///
///     slot 0   [ magazine: up to 28 elements ]  \      own slot: pop and push, one compare-and-swap
///     slot 1   [ magazine                    ]   \     14 at a time, under the pool lock
///      ...                                        >--  chunk 0 [ list of free elements, never used ones ]
///     slot n   [ magazine                    ]   /     chunk 1 ...   a bit for each chunk that has any
///
/// Operations: take / put_back of an element, take_spare / put_back_spare, take_overflow / put_back_overflow; steal (a
/// magazine of another slot) when one's own and the chunks are empty.
///
/// Invariants
///   P1 Each element is in exactly one place: a chain, a magazine, a chunk (listed or never used), a journal's spare,
///      the reserve, or a journal's in_hand / to_free. While a dead process's transfer is unrepaired, the top of the
///      magazine it locked may also be the next free one of the chunk it names, and its spare may also be the top of
///      the reserve or kept in another journal.
///   P2 take() fails with E2BIG only when max_entries elements were in chains or in the hands of live writers at one
///      moment of the call.
///      Where elements are evicted: when all but those were, which other writers are about to use for their next keys,
///      having evicted them.
///   P3 A chunk without memory has no element in any other place; it got its memory before its first element leaves.
///   P4 An overflow bucket is in a chain, the free list or a journal, at most one in each journal.
/// Progress: blocking, bounded by the holders of two leaf locks; a dead holder's is repaired by whoever waits.
///   Behind a live one that does not move an operation ends with ETIMEDOUT before it has changed anything; what has
///   been changed is finished without waiting (put_back() for about a millisecond, in vain if need be).
/// Reclamation: where memory comes and goes (BPF_F_NO_PREALLOC), a chunk whose elements are all back waits for a grace
///   period, because readers may still compare a key in it, and is then given back. One such chunk is kept;
///   all are where values have fields that own something, since the owner looks at them when the value is gone.
/// Locks: a magazine, then the pool; a thief holds the magazine it takes from and nothing else. Taken with a bucket
///   held. Who evicts has its magazine first, and then takes buckets without waiting for any.
/// Limits and errno: E2BIG (full), ENOMEM (no memory for a chunk), ETIMEDOUT (a live holder does not move).
class ElementPool {
 public:
  /// When chunks have memory: from the beginning; from when they are first needed; only while they are.
  enum class Memory : uint8_t { kReserved, kGrowing, kGrowingAndShrinking };
  static Memory memory_of(const MapSpec& spec);

  ElementPool(const HashLayout& layout, const Segment& window, Machine& machine, Memory memory,
              DeadHolderRepair& repair);
  ElementPool(const ElementPool&) = delete;
  ElementPool& operator=(const ElementPool&) = delete;

  /// Fills a fresh window: spares, and chunks with memory unless the map is growing.
  Status initialise();

  /// Takes a free element; the journal's in_hand names it.
  Result<uint32_t> take(const Actor& actor);
  /// Sees to it that put_back() cannot fail, by locking the magazine; one of the two follows. ETIMEDOUT, EDEADLK.
  Status begin_put_back(const Actor& actor);
  /// Puts the journal's to_free back.
  void put_back(const Actor& actor);
  void cancel_put_back(const Actor& actor) { unlock(magazines_[actor.slot].lock); }

  /// A spare element, which the journal names: the slot's own, or one that nobody uses where there are fewer than
  /// slots. ETIMEDOUT.
  [[gnu::always_inline]] Result<uint32_t> take_spare(const Actor& actor) {
    if (const uint32_t spare = load(journals_[actor.slot].spare); spare - 1 < SlotJournal::kKept - 1) [[likely]]
      return spare;
    return take_shared_spare(actor);
  }
  /// Lets others have it where spares are shared.
  [[gnu::always_inline]] void put_back_spare(const Actor& actor) {
    if (!layout_.spare_per_slot) [[unlikely]]
      keep(journals_[actor.slot].spare);
  }

  /// Takes an overflow bucket; the journal's `overflow` names it. There always is one. ETIMEDOUT.
  Result<uint32_t> take_overflow(const Actor& actor);
  /// What take_overflow() gave, or was unlinked since make_room_for_overflow(), stays in the journal.
  void put_back_overflow(const Actor& actor) { keep(journals_[actor.slot].overflow); }
  /// Sees to it that the journal can name an overflow bucket that is about to be unlinked. ETIMEDOUT, EDEADLK.
  Status make_room_for_overflow(const Actor& actor) {
    return load(journals_[actor.slot].overflow) == 0 ? Status{} : return_kept_overflow(actor);
  }

  /// Finishes or undoes what the dead holder of actor.slot was doing under a magazine's and the pool's lock and
  /// releases them.
  void repair_locks(const Actor& actor);

  /// LRU: how elements have been used; not any() where elements are not evicted, or nobody may write.
  [[nodiscard]] const LruUses& uses() const { return uses_; }
  /// LRU: puts the journal's to_free back, for this slot's own next insert, and keeps the magazine locked. Any number
  /// of times between begin_put_back() and end_put_back(), as long as has_room().
  void push_evicted(const Actor& actor);
  [[nodiscard]] bool has_room(const Actor& actor) const {
    return load(magazines_[actor.slot].count) < HashMagazine::kCapacity;
  }
  void end_put_back(const Actor& actor) { unlock(magazines_[actor.slot].lock); }
  /// LRU: where this slot keeps what it claimed of its list.
  [[nodiscard]] std::atomic<uint32_t>& lru_claim(const Actor& actor) const { return magazines_[actor.slot].claim; }
  /// LRU: elements that others evicted for themselves may be taken as well.
  void share_evicted();

  [[nodiscard]] SlotJournal& journal(uint32_t slot) const { return journals_[slot]; }
  [[nodiscard]] HashPool& pool() const { return pool_; }
  [[nodiscard]] HashMagazine& magazine(uint32_t slot) const { return magazines_[slot]; }
  [[nodiscard]] HashChunk& chunk(uint32_t number) const { return chunks_[number]; }
  [[nodiscard]] uint32_t reserve(uint32_t i) const { return reserve_[i].load(std::memory_order_relaxed); }
  [[nodiscard]] Bucket& overflow_bucket(uint32_t number) const { return overflow_[number - 1]; }

 private:
  static void keep(std::atomic<uint32_t>& named) {
    if (const uint32_t number = load(named); number != 0) commit(named, number | SlotJournal::kKept);
  }
  Result<uint32_t> take_shared_spare(const Actor& actor);
  uint32_t unused_spare(const Actor& actor);
  void undo_taken_spare(const Actor& actor);
  Status return_kept_overflow(const Actor& actor);
  /// For how long a lock is waited for whose live holder does not move.
  enum class Patience { kFull, kShort };
  Status lock(const Actor& actor, std::atomic<uint32_t>& word, Patience patience = Patience::kFull);
  Status lock_slowly(const Actor& actor, std::atomic<uint32_t>& word, Patience patience);
  static void unlock(std::atomic<uint32_t>& word) { commit(word, 0); }

  Status refill(const Actor& actor, HashMagazine& magazine, Patience patience = Patience::kFull);
  Status flush(const Actor& actor, HashMagazine& magazine, Patience patience = Patience::kFull);
  Result<uint32_t> steal(const Actor& actor);
  Result<uint32_t> take_from_others(const Actor& actor);
  uint32_t pop(const Actor& actor, HashMagazine& magazine);
  uint32_t seen_slots() const;

  Result<uint32_t> chunk_with_free();
  Result<uint32_t> chunk_with_new_memory();
  Status give_memory(uint32_t chunk);
  void give_back_memory(uint32_t chunk);
  [[nodiscard]] uint32_t memory_parts() const;
  [[nodiscard]] ByteRange memory_part(uint32_t chunk, uint32_t part) const;
  void mark(uint32_t chunk, bool has_free);
  void retire(uint32_t chunk);
  void give_back_retired();
  uint32_t next_of(uint32_t chunk) const;
  void recount(uint32_t chunk);
  void rebuild_marks();

  const HashLayout& layout_;
  const Segment& window_;
  Machine& machine_;
  const bool growing_;
  const bool shrinking_;
  const uint32_t keeps_;  // free elements that a magazine keeps
  DeadHolderRepair& repair_;
  const HashElements elements_;
  const LruUses uses_;
  HashPool& pool_;
  SlotJournal* const journals_;
  HashMagazine* const magazines_;
  HashChunk* const chunks_;
  std::atomic<uint64_t>* const bitmap_;
  std::atomic<uint32_t>* const reserve_;
  Bucket* const overflow_;
};

}  // namespace skep
