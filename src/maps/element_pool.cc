// SPDX-License-Identifier: Apache-2.0
#include "maps/element_pool.h"

#include <skep/abi.h>

#include <algorithm>
#include <chrono>
#include <optional>

#include "machine/crash_point.h"
#include "machine/waiter.h"
#include "maps/bucket.h"

namespace skep {
namespace {

/// How many free elements a magazine keeps. Where memory is given back, an element that lies in a magazine keeps a
/// whole chunk from going: large ones go straight back.
uint32_t magazine_keeps(const HashLayout& layout, bool growing) {
  constexpr uint64_t kBytes = 2048;
  const bool apart = layout.key_stride == layout.key_room;
  const uint64_t element = layout.key_stride + (apart ? layout.parts * layout.value_stride : 0);
  const uint32_t most = HashMagazine::kCapacity - 1;
  return growing ? static_cast<uint32_t>(std::min<uint64_t>(most, kBytes / element)) : most;
}

}  // namespace

ElementPool::Memory ElementPool::memory_of(const MapSpec& spec) {
  if ((spec.flags & BPF_F_NO_PREALLOC) == 0) return Memory::kReserved;
  // Who owns something for the field of a value looks at the field also after the value has gone.
  return spec.fields.any_owner() ? Memory::kGrowing : Memory::kGrowingAndShrinking;
}

ElementPool::ElementPool(const HashLayout& layout, const Segment& window, Machine& machine, Memory memory,
                         DeadHolderRepair& repair)
    : layout_(layout),
      window_(window),
      machine_(machine),
      growing_(memory != Memory::kReserved),
      shrinking_(memory == Memory::kGrowingAndShrinking),
      keeps_(magazine_keeps(layout, growing_)),
      repair_(repair),
      elements_(layout, window.data()),
      uses_(layout.lru_lists != 0 && window.writable()
                ? LruUses(reinterpret_cast<std::atomic<uint8_t>*>(window.data() + layout.lru_uses))
                : LruUses()),
      pool_(reinterpret_cast<HashControl*>(window.data() + kControlOffset)->pool),
      journals_(reinterpret_cast<SlotJournal*>(window.data() + layout.journals)),
      magazines_(reinterpret_cast<HashMagazine*>(window.data() + layout.magazines)),
      chunks_(reinterpret_cast<HashChunk*>(window.data() + layout.chunk_table)),
      bitmap_(reinterpret_cast<std::atomic<uint64_t>*>(window.data() + layout.chunk_bitmap)),
      reserve_(reinterpret_cast<std::atomic<uint32_t>*>(window.data() + layout.reserve)),
      overflow_(reinterpret_cast<Bucket*>(window.data() + layout.overflow_table)) {}

Status ElementPool::initialise() {
  const uint32_t last_permanent = layout_.chunk_of(layout_.spares);
  for (uint32_t c = 0; c < layout_.chunks; ++c) {
    if (growing_ && c > last_permanent) break;
    if (auto status = give_memory(c); !status) return status;
    chunks_[c].permanent = 1;
    const uint32_t before = layout_.chunk_first(c) - 1;
    const uint32_t spares = layout_.spares > before ? std::min(layout_.spares - before, layout_.chunk_size(c)) : 0;
    commit(chunks_[c].used, spares);
    commit(chunks_[c].free, layout_.chunk_size(c) - spares);
    mark(c, layout_.chunk_size(c) > spares);
  }
  for (uint32_t i = 0; i < layout_.spares; ++i) {
    if (layout_.spare_per_slot) {
      commit(journals_[i].spare, i + 1);
    } else {
      commit(reserve_[i], i + 1);
    }
  }
  if (!layout_.spare_per_slot) commit(pool_.spares, layout_.spares);
  return {};
}

Status ElementPool::lock(const Actor& actor, std::atomic<uint32_t>& word, Patience patience) {
  uint32_t expected = 0;
  // Acquire pairs with the release in unlock().
  if (word.compare_exchange_strong(expected, actor.slot + 1, std::memory_order_acquire, std::memory_order_relaxed))
      [[likely]] {
    SKEP_CRASH_POINT();
    return {};
  }
  return lock_slowly(actor, word, patience);
}

Status ElementPool::lock_slowly(const Actor& actor, std::atomic<uint32_t>& word, Patience patience) {
  using Clock = std::chrono::steady_clock;
  constexpr uint32_t kSpins = 256;                // attempts, before time counts
  constexpr std::chrono::milliseconds kShort(1);  // on a busy machine an attempt may take longer
  constexpr uint32_t kSleeps = 16;                // after that: a holder that waits for a processor gets one meanwhile
  std::optional<Waiter> waiter;
  uint32_t attempts = 0;
  uint32_t sleeps = 0;
  Clock::time_point began;
  for (uint32_t waited_for = 0;;) {
    uint32_t seen = word.load(std::memory_order_relaxed);
    if (seen == 0) {
      if (word.compare_exchange_weak(seen, actor.slot + 1, std::memory_order_acquire, std::memory_order_relaxed)) {
        SKEP_CRASH_POINT();
        return {};
      }
      continue;
    }
    if (seen != waited_for) {
      waiter.emplace(machine_);
      waited_for = seen;
    }
    const ProcessTag process{journals_[seen - 1].process.load(std::memory_order_acquire)};
    auto verdict = waiter->wait(seen - 1, process);
    if (++attempts == kSpins) began = Clock::now();
    if (patience == Patience::kShort && attempts > kSpins && verdict == Waiter::Verdict::kTryAgain &&
        Clock::now() - began > kShort && ++sleeps > kSleeps) {
      const bool lives = process == ProcessTag{} || machine_.alive(process);
      verdict = lives ? Waiter::Verdict::kTimedOut : Waiter::Verdict::kHolderGone;
    }
    switch (verdict) {
      case Waiter::Verdict::kHolderGone:
        if (const int error = repair_.repair(actor, seen - 1, process.value); error != 0) return fail(error);
        waiter.reset();
        waited_for = attempts = sleeps = 0;
        break;
      case Waiter::Verdict::kTimedOut:
        return fail(ETIMEDOUT);
      case Waiter::Verdict::kOwnThread:  // what a signal handler interrupted
        return fail(EDEADLK);
      case Waiter::Verdict::kTryAgain:
        break;
    }
  }
}

uint32_t ElementPool::pop(const Actor& actor, HashMagazine& magazine) {
  const uint32_t count = load(magazine.count);
  if (count == 0) return 0;
  const uint32_t element = load(magazine.items[count - 1]);
  commit(journals_[actor.slot].in_hand, element);
  commit(magazine.count, count - 1);
  return element;
}

Result<uint32_t> ElementPool::take(const Actor& actor) {
  HashMagazine& own = magazines_[actor.slot];
  if (auto status = lock(actor, own.lock); !status) return std::unexpected(status.error());
  uint32_t element = pop(actor, own);
  Status refilled;
  if (element == 0) [[unlikely]] {
    refilled = refill(actor, own, Patience::kShort);  // others may have some
    element = pop(actor, own);
  }
  unlock(own.lock);
  if (element != 0) [[likely]]
    return element;
  if (uses_.any()) return take_from_others(actor);
  auto stolen = steal(actor);
  const bool refused = !refilled && refilled.error() != Errno{ETIMEDOUT};
  if (!stolen && stolen.error() == Errno{E2BIG} && refused) return std::unexpected(refilled.error());
  return stolen;
}

uint32_t ElementPool::seen_slots() const { return pool_.slots_seen.load(std::memory_order_acquire); }

Result<uint32_t> ElementPool::steal(const Actor& actor) {
  constexpr int kRounds = 64;
  HashMagazine& own = magazines_[actor.slot];
  for (int round = 0; round < kRounds; ++round) {
    // An element that was free all the time is found unless it moved meanwhile between a magazine and a chunk.
    const uint32_t moves = pool_.moves.load(std::memory_order_acquire);
    for (uint32_t slot = 0, slots = seen_slots(); slot < slots; ++slot) {
      HashMagazine& victim = magazines_[slot];
      if (victim.count.load(std::memory_order_acquire) == 0) continue;
      if (auto status = lock(actor, victim.lock); !status) return std::unexpected(status.error());
      const uint32_t element = pop(actor, victim);
      unlock(victim.lock);
      if (element != 0) return element;
    }
    if (auto status = lock(actor, own.lock); !status) return std::unexpected(status.error());
    const Status refilled = refill(actor, own);
    const uint32_t element = pop(actor, own);
    unlock(own.lock);
    if (element != 0) return element;
    if (!refilled && refilled.error() != Errno{E2BIG}) return std::unexpected(refilled.error());
    const bool moved = pool_.moves.load(std::memory_order_acquire) != moves && round + 1 < kRounds;
    if (moved) continue;
    const auto repaired = repair_.repair_all(actor);
    if (!repaired) return std::unexpected(repaired.error());
    if (!*repaired) break;
  }
  return fail(E2BIG);
}

/// As steal(), in a map whose elements are evicted: one look at each magazine, since the caller makes room if need be,
/// and so not behind a live holder that does not move, nor at what others evicted for themselves.
Result<uint32_t> ElementPool::take_from_others(const Actor& actor) {
  for (uint32_t slot = 0, slots = seen_slots(); slot < slots; ++slot) {
    HashMagazine& victim = magazines_[slot];
    if (victim.count.load(std::memory_order_acquire) <= load(victim.evicted)) continue;
    if (!lock(actor, victim.lock, Patience::kShort)) continue;
    const uint32_t element = pop(actor, victim);
    unlock(victim.lock);
    if (element != 0) return element;
  }
  return fail(E2BIG);
}

void ElementPool::push_evicted(const Actor& actor) {
  HashMagazine& own = magazines_[actor.slot];
  SlotJournal& journal = journals_[actor.slot];
  const uint32_t count = load(own.count);
  const uint32_t element = load(journal.to_free);
  uses_.forget_passed(element);
  own.evicted.store(count + 1, std::memory_order_relaxed);
  commit(own.items[count], element);
  commit(own.count, count + 1);
  commit(journal.to_free, 0);
}

void ElementPool::share_evicted() {
  for (uint32_t slot = 0, slots = seen_slots(); slot < slots; ++slot) {
    magazines_[slot].evicted.store(0, std::memory_order_relaxed);
  }
}

Status ElementPool::begin_put_back(const Actor& actor) {
  HashMagazine& own = magazines_[actor.slot];
  if (auto status = lock(actor, own.lock); !status) return status;
  if (load(own.count) < HashMagazine::kCapacity) [[likely]]
    return {};
  auto status = flush(actor, own);  // as put_back() could not
  if (!status) unlock(own.lock);
  return status;
}

void ElementPool::put_back(const Actor& actor) {
  HashMagazine& own = magazines_[actor.slot];
  SlotJournal& journal = journals_[actor.slot];
  const uint32_t count = load(own.count);
  if (uses_.any()) [[unlikely]] {
    uses_.forget(load(journal.to_free));
    if (load(own.evicted) > count) own.evicted.store(count, std::memory_order_relaxed);
  }
  commit(own.items[count], load(journal.to_free));
  commit(own.count, count + 1);
  commit(journal.to_free, 0);
  if (count + 1 > keeps_) [[unlikely]]
    static_cast<void>(flush(actor, own, Patience::kShort));  // else they stay here, as long as there is room
  unlock(own.lock);
}

Status ElementPool::refill(const Actor& actor, HashMagazine& magazine, Patience patience) {
  if (uses_.any()) {
    magazine.evicted.store(0, std::memory_order_relaxed);
    if (load(pool_.chunk_hint) >= layout_.chunks) return fail(E2BIG);  // as it is once the map was full
  }
  if (auto status = lock(actor, pool_.lock, patience); !status) return status;
  SlotJournal& journal = journals_[actor.slot];
  Status result;
  if (load(pool_.retiring) != 0) give_back_retired();
  const uint32_t before = load(magazine.count);
  uint32_t count = before;
  const uint32_t wanted = std::clamp(keeps_, 1U, HashMagazine::kTransfer);
  while (count < wanted) {
    const auto picked = chunk_with_free();
    if (!picked) {
      if (count == 0) result = std::unexpected(picked.error());
      break;
    }
    HashChunk& chunk = chunks_[*picked];
    commit(journal.chunk, *picked + 1);
    uint32_t left = load(chunk.free);
    for (; left > 0 && count < wanted; --left, ++count) {
      const uint32_t element = next_of(*picked);
      commit(magazine.items[count], element);
      commit(magazine.count, count + 1);
      if (load(chunk.head) != 0) {
        commit(chunk.head, load(elements_.next_free(element)));
      } else {
        commit(chunk.used, load(chunk.used) + 1);
      }
      commit(chunk.free, left - 1);
    }
    mark(*picked, left > 0);
  }
  // After the fact: a thief that looked into this magazine too early and then finds no chunk sees that it must look
  // again.
  if (count != before) commit(pool_.moves, load(pool_.moves) + 1);
  commit(journal.chunk, 0);
  unlock(pool_.lock);
  return result;
}

Status ElementPool::flush(const Actor& actor, HashMagazine& magazine, Patience patience) {
  if (auto status = lock(actor, pool_.lock, patience); !status) return status;
  SlotJournal& journal = journals_[actor.slot];
  if (load(pool_.retiring) != 0) give_back_retired();
  uint32_t count = load(magazine.count);
  for (uint32_t i = 0; i < HashMagazine::kTransfer && count > 0; ++i, --count) {
    const uint32_t element = load(magazine.items[count - 1]);
    const uint32_t number = layout_.chunk_of(element);
    HashChunk& chunk = chunks_[number];
    commit(journal.chunk, number + 1);
    // Stale readers may still compare a key here; what they find is no key of theirs or is discarded by the version.
    commit(elements_.next_free(element), load(chunk.head));
    commit(chunk.head, element);
    commit(magazine.count, count - 1);
    const uint32_t free = load(chunk.free) + 1;
    commit(chunk.free, free);
    if (free == 1) mark(number, true);
    if (shrinking_ && chunk.permanent == 0 && free == layout_.chunk_size(number)) retire(number);
  }
  commit(journal.chunk, 0);
  unlock(pool_.lock);
  return {};
}

uint32_t ElementPool::next_of(uint32_t number) const {
  const HashChunk& chunk = chunks_[number];
  const uint32_t head = load(chunk.head);
  if (head != 0) return head;
  const uint32_t used = load(chunk.used);
  return used < layout_.chunk_size(number) ? layout_.chunk_first(number) + used : 0;
}

void ElementPool::mark(uint32_t chunk, bool has_free) {
  std::atomic<uint64_t>& word = bitmap_[chunk / 64];
  const uint64_t bit = uint64_t{1} << (chunk % 64);
  commit(word, has_free ? load(word) | bit : load(word) & ~bit);
  if (has_free && chunk < load(pool_.chunk_hint)) commit(pool_.chunk_hint, chunk);
}

Result<uint32_t> ElementPool::chunk_with_free() {
  const uint32_t words = (layout_.chunks + 63) / 64;
  for (uint32_t i = load(pool_.chunk_hint) / 64; i < words; ++i) {
    const uint64_t word = load(bitmap_[i]);
    if (word == 0) continue;
    const uint32_t chunk = i * 64 + static_cast<uint32_t>(std::countr_zero(word));
    commit(pool_.chunk_hint, chunk);
    return chunk;
  }
  commit(pool_.chunk_hint, words * 64);
  return growing_ ? chunk_with_new_memory() : fail(E2BIG);
}

Result<uint32_t> ElementPool::chunk_with_new_memory() {
  const uint32_t start = load(pool_.absent_hint) % layout_.chunks;
  for (uint32_t i = 0; i < layout_.chunks; ++i) {
    const uint32_t number = start + i < layout_.chunks ? start + i : start + i - layout_.chunks;
    HashChunk& chunk = chunks_[number];
    if (load(chunk.state) == HashChunk::kReady) continue;
    if (load(chunk.state) == HashChunk::kRetiring) {
      commit(chunk.state, HashChunk::kReady);
      commit(pool_.retiring, load(pool_.retiring) - 1);
      mark(number, true);
    } else if (auto status = give_memory(number); !status) {
      return std::unexpected(status.error());
    }
    commit(pool_.absent_hint, number + 1);
    return number;
  }
  return fail(E2BIG);
}

/// In how many places the memory of a chunk is: elements, or keys and the values of each CPU.
uint32_t ElementPool::memory_parts() const { return layout_.key_stride == layout_.key_room ? 1 + layout_.parts : 1; }

ByteRange ElementPool::memory_part(uint32_t number, uint32_t part) const {
  const uint64_t first = layout_.chunk_first(number) - 1;
  const uint64_t size = layout_.chunk_size(number);
  if (part == 0) return {.offset = layout_.keys + first * layout_.key_stride, .length = size * layout_.key_stride};
  return {.offset = layout_.values + (part - 1) * layout_.part_stride + first * layout_.value_stride,
          .length = size * layout_.value_stride};
}

Status ElementPool::give_memory(uint32_t number) {
  HashChunk& chunk = chunks_[number];
  if (growing_) {
    commit(chunk.state, HashChunk::kMoving);
    const auto status = window_.reserve_all(memory_parts(), [&](uint32_t part) { return memory_part(number, part); });
    if (!status) {
      commit(chunk.state, HashChunk::kAbsent);
      return status;
    }
  }
  commit(chunk.head, 0);
  commit(chunk.used, 0);
  commit(chunk.free, layout_.chunk_size(number));
  commit(chunk.state, HashChunk::kReady);
  mark(number, true);
  return {};
}

void ElementPool::give_back_memory(uint32_t number) {
  commit(chunks_[number].state, HashChunk::kMoving);
  window_.give_back_all(memory_parts(), [&](uint32_t part) { return memory_part(number, part); });
  SKEP_CRASH_POINT();
  commit(chunks_[number].state, HashChunk::kAbsent);
}

void ElementPool::retire(uint32_t number) {
  const uint32_t idle = load(pool_.idle_chunk);
  const bool another_idle = idle != 0 && idle != number + 1 && load(chunks_[idle - 1].state) == HashChunk::kReady &&
                            load(chunks_[idle - 1].free) == layout_.chunk_size(idle - 1);
  if (!another_idle) {
    commit(pool_.idle_chunk, number + 1);
    return;
  }
  mark(number, false);
  commit(chunks_[number].epoch, machine_.begin_grace_period());
  commit(chunks_[number].state, HashChunk::kRetiring);
  commit(pool_.retiring, load(pool_.retiring) + 1);
}

void ElementPool::give_back_retired() {
  constexpr uint32_t kAtOnce = 64;
  uint32_t number = load(pool_.retire_cursor) % layout_.chunks;
  for (uint32_t i = 0; i < std::min(kAtOnce, layout_.chunks) && load(pool_.retiring) != 0; ++i) {
    HashChunk& chunk = chunks_[number];
    if (load(chunk.state) == HashChunk::kRetiring && machine_.elapsed(load(chunk.epoch))) {
      give_back_memory(number);
      commit(pool_.retiring, load(pool_.retiring) - 1);
      if (number < load(pool_.absent_hint)) commit(pool_.absent_hint, number);
    }
    number = number + 1 < layout_.chunks ? number + 1 : 0;
  }
  commit(pool_.retire_cursor, number);
}

/// Under the pool lock: takes a spare that is in nobody's hands; 0: there is none.
uint32_t ElementPool::unused_spare(const Actor& actor) {
  SlotJournal& mine = journals_[actor.slot];
  if (const uint32_t kept = load(mine.spare); kept != 0) {
    commit(mine.spare, kept & ~SlotJournal::kKept);
    return kept & ~SlotJournal::kKept;
  }
  if (const uint32_t count = load(pool_.spares); count > 0) {
    const uint32_t spare = load(reserve_[count - 1]);
    commit(mine.spare, spare);
    commit(pool_.spares, count - 1);
    return spare;
  }
  for (uint32_t slot = 0; slot < seen_slots(); ++slot) {
    // Acquire pairs with the release in keep(): its old holder raised the version of the chain it was in (T3).
    const uint32_t kept = journals_[slot].spare.load(std::memory_order_acquire);
    if ((kept & SlotJournal::kKept) == 0) continue;
    commit(mine.spare, kept & ~SlotJournal::kKept);
    commit(journals_[slot].spare, 0);
    return kept & ~SlotJournal::kKept;
  }
  return 0;
}

Result<uint32_t> ElementPool::take_shared_spare(const Actor& actor) {
  std::optional<Waiter> waiter;
  for (;;) {
    if (auto status = lock(actor, pool_.lock); !status) return std::unexpected(status.error());
    const uint32_t spare = unused_spare(actor);
    unlock(pool_.lock);
    if (spare != 0) return spare;
    // All are in the hands of other writers, who need nothing that this one holds; one of them may be dead.
    if (!waiter) waiter.emplace(machine_);
    uint32_t holder = actor.slot;  // nobody: it was put back meanwhile
    for (uint32_t slot = 0; slot < seen_slots(); ++slot) {
      if (slot != actor.slot && load(journals_[slot].spare) - 1 < SlotJournal::kKept - 1) holder = slot;
    }
    const ProcessTag process{holder == actor.slot ? 0 : load(journals_[holder].process)};
    const auto verdict = waiter->wait(holder, process);
    if (verdict == Waiter::Verdict::kTimedOut) return fail(ETIMEDOUT);
    if (verdict == Waiter::Verdict::kOwnThread) return fail(EDEADLK);
    if (verdict == Waiter::Verdict::kHolderGone) {
      if (const auto repaired = repair_.repair_all(actor); !repaired) return std::unexpected(repaired.error());
      waiter.reset();
    }
  }
}

Result<uint32_t> ElementPool::take_overflow(const Actor& actor) {
  SlotJournal& journal = journals_[actor.slot];
  if (const uint32_t kept = load(journal.overflow); kept != 0) {
    commit(journal.overflow, kept & ~SlotJournal::kKept);
    return kept & ~SlotJournal::kKept;
  }
  if (auto status = lock(actor, pool_.lock); !status) return std::unexpected(status.error());
  uint32_t bucket = load(pool_.overflow_head);
  if (bucket != 0) {
    commit(journal.overflow, bucket);
    commit(pool_.overflow_head, static_cast<uint32_t>(load(overflow_[bucket - 1].word)));
  } else {
    bucket = load(pool_.overflow_used) + 1;
    commit(journal.overflow, bucket);
    commit(pool_.overflow_used, bucket);
  }
  unlock(pool_.lock);
  return bucket;
}

Status ElementPool::return_kept_overflow(const Actor& actor) {
  if (auto status = lock(actor, pool_.lock); !status) return status;
  SlotJournal& journal = journals_[actor.slot];
  const uint32_t bucket = load(journal.overflow) & ~SlotJournal::kKept;
  commit(overflow_[bucket - 1].word, uint64_t{load(pool_.overflow_head)});
  commit(pool_.overflow_head, bucket);
  commit(journal.overflow, 0);
  unlock(pool_.lock);
  return {};
}

void ElementPool::recount(uint32_t number) {
  HashChunk& chunk = chunks_[number];
  uint32_t free = layout_.chunk_size(number) - load(chunk.used);
  for (uint32_t e = load(chunk.head); e != 0; e = load(elements_.next_free(e))) ++free;
  commit(chunk.free, free);
}

void ElementPool::rebuild_marks() {
  uint32_t retiring = 0;
  for (uint32_t c = 0; c < layout_.chunks; ++c) {
    if (load(chunks_[c].state) == HashChunk::kMoving) give_back_memory(c);
    retiring += load(chunks_[c].state) == HashChunk::kRetiring;
    mark(c, load(chunks_[c].state) == HashChunk::kReady && load(chunks_[c].free) > 0);
  }
  commit(pool_.retiring, retiring);
  commit(pool_.chunk_hint, 0);
  commit(pool_.absent_hint, 0);
  commit(pool_.moves, load(pool_.moves) + 1);
}

/// Where a spare is still at the place that it was being taken from, that place has it.
void ElementPool::undo_taken_spare(const Actor& actor) {
  SlotJournal& journal = journals_[actor.slot];
  const uint32_t spare = load(journal.spare);
  if (spare == 0 || (spare & SlotJournal::kKept) != 0) return;
  const uint32_t spares = load(pool_.spares);
  bool elsewhere = spares > 0 && load(reserve_[spares - 1]) == spare;
  for (uint32_t slot = 0; slot < seen_slots(); ++slot) {
    elsewhere |= load(journals_[slot].spare) == (spare | SlotJournal::kKept);
  }
  if (elsewhere) commit(journal.spare, 0);
}

void ElementPool::repair_locks(const Actor& actor) {
  SlotJournal& journal = journals_[actor.slot];
  HashMagazine* locked = nullptr;
  for (uint32_t slot = 0; slot < seen_slots(); ++slot) {
    if (load(magazines_[slot].lock) == actor.slot + 1) locked = &magazines_[slot];
  }
  if (load(pool_.lock) == actor.slot + 1) {
    if (const uint32_t chunk = load(journal.chunk); chunk != 0) {
      // An element on its way between the two is in both places: let the chunk have it.
      if (locked != nullptr && load(locked->count) > 0 &&
          load(locked->items[load(locked->count) - 1]) == next_of(chunk - 1)) {
        commit(locked->count, load(locked->count) - 1);
      }
      recount(chunk - 1);
    }
    rebuild_marks();
    const uint32_t bucket = load(journal.overflow) & ~SlotJournal::kKept;
    if (bucket != 0 && (load(pool_.overflow_head) == bucket || load(pool_.overflow_used) < bucket)) {
      commit(journal.overflow, 0);
    }
    if (!layout_.spare_per_slot) undo_taken_spare(actor);
    commit(journal.chunk, 0);
    unlock(pool_.lock);
  }
  if (locked == nullptr) return;
  const uint32_t count = load(locked->count);
  const uint32_t top = count > 0 ? load(locked->items[count - 1]) : 0;
  if (top != 0 && load(journal.in_hand) == top) commit(journal.in_hand, 0);
  if (top != 0 && load(journal.to_free) == top) commit(journal.to_free, 0);
  unlock(locked->lock);
}

}  // namespace skep
