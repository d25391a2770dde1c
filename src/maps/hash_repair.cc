// SPDX-License-Identifier: Apache-2.0
#include "machine/recovery.h"
#include "maps/hash_table.h"

// What happens to the chains after a process died in the middle of changing them. The repairer acts in the name of the
// dead one's slot and writes its journal, so that a repairer that dies leaves nothing new to the next one.

namespace skep {
namespace {

/// Makes pool().slots_seen cover `slot`.
void mark_seen(std::atomic<uint32_t>& slots_seen, uint32_t slot) {
  uint32_t seen = load(slots_seen);
  while (seen <= slot && !slots_seen.compare_exchange_weak(seen, slot + 1, std::memory_order_release)) {
  }
}

}  // namespace

int HashTable::enter_slot(uint32_t slot) {
  SlotJournal& mine = pool_.journal(slot);
  const uint32_t self = machine_.self().value;
  if (load(mine.process) == self) return EDEADLK;  // this thread is in the middle of another operation
  const auto guard = machine_.lock_recovery(header_.file.id);
  if (guard.error() != 0) return guard.error();
  if (load(mine.process) != 0) {
    if (const int error = repair_slot(slot); error != 0) return error;
  }
  mark_seen(pool_.pool().slots_seen, slot);
  commit(mine.process, self);
  return 0;
}

int HashTable::repair(const Actor& actor, uint32_t slot, uint32_t process) {
  if (process == 0) return 0;
  if (!actor.repairing) {
    const auto guard = machine_.lock_recovery(header_.file.id);
    return guard.error() != 0 ? guard.error() : repair({.slot = actor.slot, .repairing = true}, slot, process);
  }
  return pool_.journal(slot).process.load(std::memory_order_acquire) == process ? repair_slot(slot) : 0;
}

Result<bool> HashTable::repair_all(const Actor& actor) {
  bool any = false;
  const uint32_t self = machine_.self().value;
  const uint32_t slots = pool_.pool().slots_seen.load(std::memory_order_acquire);
  for (uint32_t slot = 0; slot < slots; ++slot) {
    const SlotJournal& journal = pool_.journal(slot);
    const uint32_t process = journal.process.load(std::memory_order_acquire);
    if (process == 0 || process == self || !is_busy(slot)) continue;
    if (machine_.alive(ProcessTag{process})) continue;
    if (const int error = repair(actor, slot, process); error != 0) return fail(error);
    any = true;
  }
  return any;
}

void HashTable::settle(const Lease& lease, uint32_t element) {
  for (uint32_t slot = 0; slot < pool_.pool().slots_seen.load(std::memory_order_acquire); ++slot) {
    const SlotJournal& journal = pool_.journal(slot);
    const uint32_t process = journal.process.load(std::memory_order_acquire);
    if (process == 0 || (journal.in_place.load(std::memory_order_acquire) != element &&
                         load(journal.to_free) != element && load(journal.replaced) != element)) {
      continue;
    }
    if (machine_.alive(ProcessTag{process})) continue;
    if (repair({.slot = lease.slot()}, slot, process) != 0) return;
  }
}

int HashTable::repair_slot(uint32_t slot) {
  const Actor actor{.slot = slot, .repairing = true};
  SlotJournal& journal = pool_.journal(slot);
  pool_.repair_locks(actor);
  if (const uint32_t bucket = load(journal.bucket); bucket != 0) {
    Bucket& head = buckets_[bucket - 1];
    const uint64_t word = head.word.load(std::memory_order_acquire);
    if (Bucket::holder(word) == slot + 1) {
      Hold hold(*this, actor, head, word);
      if (const Status repaired = repair_chain(hold); !repaired) {
        hold.error_ = to_int(repaired.error());  // the chain stays the dead one's
        return hold.error_;
      }
    }
  }
  commit(journal.bucket, 0);
  commit(journal.process, 0);
  return 0;
}

// Where a live holder of the magazine or the pool does not move, the repair ends as if the repairer had died.
Status HashTable::repair_chain(Hold& hold) {
  SlotJournal& left = journal(hold);
  if (load(left.in_place) != 0) finish_in_place(hold);
  raise_version(hold);  // whatever was unlinked, T3 holds from here on
  if (const uint32_t old = load(left.replaced); old != 0) {
    if (load(left.spare) != old && contains(hold, load(left.spare))) commit(left.spare, old);
    if (load(left.spare) == old) release_fields(old);
    commit(left.replaced, 0);
  }
  if (const uint32_t element = load(left.in_hand); element != 0) {
    if (!contains(hold, element)) commit(left.to_free, element);
    commit(left.in_hand, 0);
  }
  if (const uint32_t element = load(left.to_free); element != 0) {
    if (contains(hold, element)) {
      commit(left.to_free, 0);
    } else {
      if (auto status = pool_.begin_put_back(hold.actor_); !status) return status;
      release_fields(element);
      pool_.put_back(hold.actor_);
    }
  }
  if (const uint32_t number = load(left.overflow); number != 0 && (number & SlotJournal::kKept) == 0) {
    bool linked_in = false;
    for (const Bucket* bucket = hold.head_; bucket != nullptr; bucket = next(*bucket)) {
      linked_in |= bucket == &overflow_[number - 1];
    }
    if (linked_in) {
      commit(left.overflow, 0);
    } else {
      pool_.put_back_overflow(hold.actor_);
    }
  }
  for (bool changed = true; changed && next(*hold.head_) != nullptr;) {
    if (auto status = pool_.make_room_for_overflow(hold.actor_); !status) return status;
    changed = compact_one(hold);
  }
  pool_.put_back_spare(hold.actor_);
  return {};
}

bool HashTable::compact_one(Hold& hold) {
  if (next(*hold.head_) == nullptr) return false;
  for (Bucket* bucket = hold.head_; bucket != nullptr; bucket = next(*bucket)) {
    const bool is_last = next(*bucket) == nullptr;
    for (uint32_t i = 0; i < (is_last ? Bucket::kSlots : Bucket::kLinkSlot); ++i) {
      const uint32_t element = load(bucket->slots[i]);
      if (element == 0) {
        bool more = !is_last;
        for (uint32_t j = i + 1; j < Bucket::kSlots; ++j) more |= load(bucket->slots[j]) != 0;
        if (!more && i > 0) return false;
        fill_hole(hold, {.bucket = bucket, .slot = i, .element = 0});
        return true;
      }
      // A second copy, left by a move that was not finished: the later one goes.
      bool seen = false;
      for (Bucket* later = bucket; later != nullptr; later = next(*later)) {
        for (uint32_t j = later == bucket ? i + 1 : 0; j < Bucket::kSlots; ++j) {
          if (load(later->slots[j]) != element) continue;
          raise_version(hold);
          commit(later->slots[j], 0);
          seen = true;
        }
      }
      if (seen) return true;
    }
  }
  return false;
}

}  // namespace skep
