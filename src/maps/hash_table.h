// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <atomic>
#include <cstdint>
#include <functional>

#include "machine/crash_point.h"
#include "machine/lease.h"
#include "maps/bucket.h"
#include "maps/element_pool.h"
#include "maps/field_gaps.h"
#include "maps/hash_layout.h"
#include "maps/slot_journal.h"

namespace skep {

/// The chains of a hash map: everything about them that does not look into keys.
///
/// Layout: bucket.h draws a bucket, hash_layout.h the window. The physical bucket of a key is the low bits of its hash,
/// its tag the top byte. A chain is a bucket and, when it has more than 11 elements, overflow buckets:
///
///     bucket 5                    overflow 2                  overflow 9
///     [ e e e e e e e e e e | ->] [ e e e e e e e e e e | ->] [ e e e . . . . . . . . ]
///
/// Operations: hold (lock) a chain, insert, replace, erase, write_in_place; repair of a dead holder's.
///
/// Invariants
///   T1 Every element in a chain is there once, under the tag of its key. While its holder moves it, it is there twice.
///   T2 All buckets of a chain but the last are full; the last one has its elements at the front unless it is the only
///      one. (Hence n elements have at most n / 10 overflow buckets, and the pool of them never runs out.)
///   T3 The version is raised after an element or bucket became unreachable and before it can be reused, and between
///      the stores that make a moved element visible at its new place and invisible at its old.
///   T4 While kInPlace is set, the holder's journal says which element, and its spare has the whole new value.
/// Ordering guarantees (of a reader that validates the version)
///   O1 A key that is in the map during the whole read is found, whatever happens to the other keys of its chain.
///   O2 A value that is copied is one that an update stored, whole (programs that write through pointers apart).
///   O3 An update, insert or erase that returned before the read began is seen.
///   O4 Iteration meets every key that stays exactly once, whatever happens to others meanwhile: it goes through a
///      chain in the order of tags and keys, wherever elements stand.
///   O5 A copying read stays inside the window and ends, whatever stands there: element and bucket numbers are checked
///      and links counted.
/// Progress: readers never wait, not even for a dead or stopped writer; they repeat when the version moved. Writers
///   wait for the holder of their chain.
/// Reclamation: elements and overflow buckets are reused at once; readers find out by the version.
/// Locks: one bucket, then those of element_pool.h. The recovery guard is taken with any of them held, and its owner
///   waits for leaf locks only.
/// Crash safety: slot_journal.h; each operation has one store marked COMMIT. What a dead holder left is repaired by who
///   waits for its lock, by the next tenant of its slot, and by whoever finds the map full.
/// Limits and errno: EDEADLK (this thread holds a chain: a signal handler, a callback), ETIMEDOUT.
class HashTable final : public DeadHolderRepair {
 public:
  HashTable(const HashLayout& layout, const MapSegments& segments, Machine& machine);
  HashTable(const HashTable&) = delete;
  HashTable& operator=(const HashTable&) = delete;

  /// Where in a chain an element is; element 0: nowhere.
  struct Place {
    Bucket* bucket = nullptr;
    uint32_t slot = 0;
    uint32_t element = 0;
  };

  /// The exclusive right to change one chain, while it lives.
  class Hold {
   public:
    [[gnu::always_inline]] Hold(HashTable& table, const Lease& lease, uint32_t bucket)
        : table_(table), actor_{.slot = lease.slot()}, head_(&table.buckets_[bucket]) {
      error_ = table.begin(*this, bucket, lease.process());
    }
    /// The same without waiting: EBUSY where somebody holds it.
    struct IfFree {};
    Hold(HashTable& table, const Lease& lease, uint32_t bucket, IfFree)
        : table_(table), actor_{.slot = lease.slot()}, head_(&table.buckets_[bucket]) {
      error_ = table.begin(*this, bucket, lease.process(), false);
    }
    [[gnu::always_inline]] ~Hold() {
      if (error_ == 0) table_.end(*this);
    }
    Hold(const Hold&) = delete;
    Hold& operator=(const Hold&) = delete;

    /// 0, or why it is not held: EDEADLK, ETIMEDOUT.
    [[nodiscard]] int error() const { return error_; }
    [[nodiscard]] Bucket& head() const { return *head_; }
    [[nodiscard]] const Actor& actor() const { return actor_; }

   private:
    friend class HashTable;
    Hold(HashTable& table, const Actor& actor, Bucket& head, uint64_t word)
        : table_(table), actor_(actor), head_(&head), word_(word) {}

    HashTable& table_;
    Actor actor_;
    Bucket* head_;
    uint64_t word_ = 0;  // what head_->word is; nobody else writes it
    int error_ = 0;
  };

  /// Links a new element: `fill(element)` writes its key and value first. E2BIG, ENOMEM, ETIMEDOUT.
  template <class Fill>
  Status insert(Hold& hold, uint8_t tag, const Fill& fill) {
    const Place room = find_room(hold);
    if (room.element != 0) return grow_and_insert(hold, room, tag, fill);
    const auto element = pool_.take(hold.actor_);
    if (!element) return std::unexpected(element.error());
    std::atomic_thread_fence(std::memory_order_release);  // a reader of the bytes to come sees that they were unlinked
    fill(*element);
    if (pool_.uses().any()) [[unlikely]]
      pool_.uses().begin(*element);
    commit(room.bucket->tags[room.slot], tag);
    commit(room.bucket->slots[room.slot], *element);  // COMMIT; pairs with the acquire loads of readers
    commit(journal(hold).in_hand, 0);
    return {};
  }

  /// Puts the spare element in the place of another: `fill(element)` writes its key and value first. ETIMEDOUT.
  template <class Fill>
  [[gnu::always_inline]] Status replace(Hold& hold, const Place& place, const Fill& fill) {
    const auto spare = pool_.take_spare(hold.actor_);
    if (!spare) return std::unexpected(spare.error());
    std::atomic_thread_fence(std::memory_order_release);
    fill(*spare);
    if (pool_.uses().any()) [[unlikely]]
      pool_.uses().inherit(*spare, place.element);
    commit(journal(hold).replaced, place.element);
    commit(place.bucket->slots[place.slot], *spare);  // COMMIT; pairs with the acquire loads of readers
    raise_version(hold);
    release_fields(place.element);
    if (pool_.uses().any()) [[unlikely]]
      pool_.uses().forget(place.element);
    commit(journal(hold).spare, place.element);
    commit(journal(hold).replaced, 0);
    pool_.put_back_spare(hold.actor_);
    return {};
  }

  /// Overwrites a value: `stage(element)` writes the new value, all or the one part of CPU `cpu`, into a spare element.
  template <class Stage>
  Status write_in_place(Hold& hold, uint32_t element, uint32_t cpu_plus_one, const Stage& stage) {
    const auto spare = pool_.take_spare(hold.actor_);
    if (!spare) return std::unexpected(spare.error());
    std::atomic_thread_fence(std::memory_order_release);
    stage(*spare);
    commit(journal(hold).in_place_cpu, cpu_plus_one);
    commit(journal(hold).in_place, element);  // COMMIT, as far as a crash is concerned
    finish_in_place(hold);
    pool_.put_back_spare(hold.actor_);
    return {};
  }

  /// Unlinks and frees an element. ETIMEDOUT, EDEADLK: nothing happened.
  Status erase(Hold& hold, const Place& place);

  /// Where in the chain an element with that tag is.
  [[nodiscard]] Place place_of(const Hold& hold, uint8_t tag, uint32_t element) const {
    for (Bucket* bucket = hold.head_; bucket != nullptr; bucket = next(*bucket)) {
      for (uint32_t hits = bucket->match(tag); hits != 0; hits &= hits - 1) {
        const auto slot = static_cast<uint32_t>(std::countr_zero(hits));
        if (load(bucket->slots[slot]) == element) return {.bucket = bucket, .slot = slot, .element = element};
      }
    }
    return {};
  }
  /// LRU: erase() between begin_put_back() and end_put_back() of the pool; the element is for this slot's next insert.
  Status evict(Hold& hold, const Place& place);

  /// Completes what a dead process was writing into `element` in place.
  void settle(const Lease& lease, uint32_t element);

  int repair(const Actor& actor, uint32_t slot, uint32_t process) override;
  Result<bool> repair_all(const Actor& actor) override;

  /// Checks every invariant of this file and of element_pool.h, repairing what dead processes left first if it may.
  [[nodiscard]] CheckReport check(bool writable, const std::function<uint64_t(const void* key)>& hash_of);

  [[nodiscard]] const HashLayout& layout() const { return layout_; }
  [[nodiscard]] Bucket& bucket(uint32_t number) const { return buckets_[number]; }
  [[nodiscard]] Bucket* next(const Bucket& bucket) const { return linked(bucket.slots[Bucket::kLinkSlot]); }
  /// next() for readers, whose walk ends even if the links are no chain's: `steps` begins as 0.
  [[nodiscard]] const Bucket* next(const Bucket& bucket, uint32_t& steps) const {
    const Bucket* further = next(bucket);
    return further == nullptr || ++steps > layout_.overflow_buckets ? nullptr : further;
  }
  /// Whether a slot's content is the number of an element, and of one that the window has.
  [[nodiscard]] bool is_element(uint32_t slot_value) const { return slot_value - 1 < layout_.elements; }
  [[nodiscard]] ElementPool& pool() { return pool_; }
  [[nodiscard]] const ElementPool& pool() const { return pool_; }
  [[nodiscard]] const HashElements& elements() const { return elements_; }
  [[nodiscard]] const FieldGaps& gaps() const { return gaps_; }

  /// Where a reader that saw `word` finds part `cpu` of an element's value: in its place, or, while it is being written
  /// there, in the writer's spare. Validate the word afterwards.
  [[nodiscard]] const std::byte* readable_part(uint64_t word, uint32_t element, uint32_t cpu) const {
    if (word & Bucket::kInPlace) [[unlikely]]
      return staged_part(word, element, cpu);
    return elements_.part(element, cpu);
  }

 private:
  [[gnu::always_inline]] int begin(Hold& hold, uint32_t bucket, ProcessTag self, bool waits = true) {
    SlotJournal& mine = pool_.journal(hold.actor_.slot);
    if (mine.process.load(std::memory_order_relaxed) != self.value || mine.bucket.load(std::memory_order_relaxed) != 0)
        [[unlikely]] {
      if (const int error = enter_slot(hold.actor_.slot); error != 0) return error;
    }
    commit(mine.bucket, bucket + 1);
    uint64_t word = hold.head_->word.load(std::memory_order_relaxed);
    hold.word_ = word | (hold.actor_.slot + 1);
    // Acquire pairs with the release in end().
    if (Bucket::holder(word) == 0 && hold.head_->word.compare_exchange_strong(
                                         word, hold.word_, std::memory_order_acquire, std::memory_order_relaxed))
        [[likely]] {
      SKEP_CRASH_POINT();
      return 0;
    }
    if (waits) return wait_for(hold);
    commit(mine.bucket, 0);
    return EBUSY;
  }
  [[gnu::always_inline]] void end(Hold& hold) {
    // Release pairs with the acquire in begin() and wait_for().
    commit(hold.head_->word, hold.word_ & ~(Bucket::kHolderMask | Bucket::kInPlace));
    commit(journal(hold).bucket, 0);
  }
  int enter_slot(uint32_t slot);
  int wait_for(Hold& hold);

  template <class Fill>
  Status grow_and_insert(Hold& hold, const Place& last, uint8_t tag, const Fill& fill) {
    const auto number = pool_.take_overflow(hold.actor_);
    if (!number) return std::unexpected(number.error());
    const auto element = pool_.take(hold.actor_);
    if (!element) {
      pool_.put_back_overflow(hold.actor_);
      return std::unexpected(element.error());
    }
    std::atomic_thread_fence(std::memory_order_release);
    fill(*element);
    if (pool_.uses().any()) pool_.uses().begin(*element);
    grow(hold, last, *number, tag, *element);
    return {};
  }
  void grow(Hold& hold, const Place& last, uint32_t number, uint8_t tag, uint32_t element);

  [[nodiscard]] SlotJournal& journal(const Hold& hold) const { return pool_.journal(hold.actor_.slot); }
  [[nodiscard]] Bucket* linked(const std::atomic<uint32_t>& slot) const {
    const uint32_t value = slot.load(std::memory_order_acquire);  // pairs with the COMMIT of grow()
    if ((value & Bucket::kLink) == 0) [[likely]]
      return nullptr;
    const uint32_t number = value & ~Bucket::kLink;
    return number - 1 < layout_.overflow_buckets ? &overflow_[number - 1] : nullptr;
  }
  /// An empty slot for a new element; `element` is not 0 where the chain is full, and the place is its last bucket.
  [[nodiscard]] Place find_room(const Hold& hold) const;
  /// Whether the slot's holder is, or died, in the middle of something: in a chain, or about to evict.
  [[nodiscard]] bool is_busy(uint32_t slot) const {
    return load(pool_.journal(slot).bucket) != 0 || load(pool_.magazine(slot).lock) == slot + 1;
  }
  [[nodiscard]] bool contains(const Hold& hold, uint32_t element) const;
  [[nodiscard]] const std::byte* staged_part(uint64_t word, uint32_t element, uint32_t cpu) const;

  /// What the special fields of an element own goes once it is unlinked.
  void release_fields(uint32_t element) const {
    if (gaps_.any_owner()) [[unlikely]]
      gaps_.release(elements_.value(element));
  }
  void raise_version(Hold& hold) {
    hold.word_ += Bucket::kVersionStep;
    commit(hold.head_->word, hold.word_);  // pairs with the acquire of readers' first look at the word
  }
  void finish_in_place(Hold& hold);
  void fill_hole(Hold& hold, const Place& hole);
  void drop_last_bucket(Hold& hold, Bucket& parent);
  bool compact_one(Hold& hold);

  int repair_slot(uint32_t slot);
  Status repair_chain(Hold& hold);
  /// Whether the chain loses its last bucket when it loses an element.
  [[nodiscard]] bool shrinks(const Hold& hold) const;

  const HashLayout layout_;
  MapHeader& header_;
  Machine& machine_;
  Bucket* const buckets_;
  Bucket* const overflow_;
  const HashElements elements_;
  const FieldGaps gaps_;
  ElementPool pool_;
};

}  // namespace skep
