// SPDX-License-Identifier: Apache-2.0
#include "maps/hash_table.h"

#include <optional>

#include "machine/waiter.h"
#include "skep/abi.h"

namespace skep {
namespace {

/// The last occupied slot of a bucket without a link, or kSlots when it is empty.
uint32_t last_element(const Bucket& bucket) {
  for (uint32_t i = Bucket::kSlots; i-- > 0;) {
    if (load(bucket.slots[i]) != 0) return i;
  }
  return Bucket::kSlots;
}

}  // namespace

HashTable::HashTable(const HashLayout& layout, const MapSegments& segments, Machine& machine)
    : layout_(layout),
      header_(segments.header()),
      machine_(machine),
      buckets_(reinterpret_cast<Bucket*>(segments.control.data() + layout.bucket_table)),
      overflow_(reinterpret_cast<Bucket*>(segments.control.data() + layout.overflow_table)),
      elements_(layout, segments.control.data()),
      gaps_(segments.header().spec.fields),
      pool_(layout_, segments.control, machine, ElementPool::memory_of(segments.header().spec), *this) {}

int HashTable::wait_for(Hold& hold) {
  SlotJournal& mine = journal(hold);
  std::optional<Waiter> waiter;
  for (uint32_t waited_for = 0;;) {
    uint64_t word = load(hold.head_->word);
    const uint32_t holder = Bucket::holder(word);
    if (holder == 0) {
      hold.word_ = word | (hold.actor_.slot + 1);
      if (hold.head_->word.compare_exchange_weak(word, hold.word_, std::memory_order_acquire,
                                                 std::memory_order_relaxed)) {
        SKEP_CRASH_POINT();
        return 0;
      }
      continue;
    }
    if (holder != waited_for) {
      waiter.emplace(machine_);
      waited_for = holder;
    }
    const ProcessTag process{pool_.journal(holder - 1).process.load(std::memory_order_acquire)};
    switch (waiter->wait(holder - 1, process)) {
      case Waiter::Verdict::kTryAgain:
        break;
      case Waiter::Verdict::kHolderGone:
        if (const int error = repair(hold.actor_, holder - 1, process.value); error != 0) {
          commit(mine.bucket, 0);
          return error;
        }
        waited_for = 0;
        break;
      case Waiter::Verdict::kOwnThread:
        commit(mine.bucket, 0);
        return EDEADLK;
      case Waiter::Verdict::kTimedOut:
        commit(mine.bucket, 0);
        return ETIMEDOUT;
    }
  }
}

HashTable::Place HashTable::find_room(const Hold& hold) const {
  Bucket* last = hold.head_;
  while (Bucket* further = next(*last)) last = further;
  for (uint32_t i = 0; i < Bucket::kSlots; ++i) {
    if (load(last->slots[i]) == 0) return {.bucket = last, .slot = i, .element = 0};
  }
  return {.bucket = last, .slot = Bucket::kLinkSlot, .element = load(last->slots[Bucket::kLinkSlot])};
}

bool HashTable::contains(const Hold& hold, uint32_t element) const {
  for (const Bucket* bucket = hold.head_; bucket != nullptr; bucket = next(*bucket)) {
    for (const auto& slot : bucket->slots) {
      if (load(slot) == element) return true;
    }
  }
  return false;
}

void HashTable::grow(Hold& hold, const Place& last, uint32_t number, uint8_t tag, uint32_t element) {
  Bucket& bucket = overflow_[number - 1];
  for (auto& slot : bucket.slots) slot.store(0, std::memory_order_relaxed);
  bucket.tags[0].store(load(last.bucket->tags[last.slot]), std::memory_order_relaxed);
  bucket.slots[0].store(last.element, std::memory_order_relaxed);
  bucket.tags[1].store(tag, std::memory_order_relaxed);
  bucket.slots[1].store(element, std::memory_order_relaxed);
  commit(last.bucket->slots[last.slot], Bucket::kLink | number);  // COMMIT; pairs with the acquire in linked()
  commit(journal(hold).in_hand, 0);
  commit(journal(hold).overflow, 0);
}

bool HashTable::shrinks(const Hold& hold) const {
  const Bucket* last = hold.head_;
  while (const Bucket* further = next(*last)) last = further;
  return last != hold.head_ && load(last->slots[1]) == 0;  // T2
}

// What can fail comes first: the lock under which the element is given back, and room in the journal for a bucket.
Status HashTable::erase(Hold& hold, const Place& place) {
  if (auto status = pool_.begin_put_back(hold.actor_); !status) return status;
  const bool is_chain = next(*hold.head_) != nullptr;
  if (is_chain && shrinks(hold)) {
    if (auto status = pool_.make_room_for_overflow(hold.actor_); !status) {
      pool_.cancel_put_back(hold.actor_);
      return status;
    }
  }
  commit(journal(hold).to_free, place.element);
  commit(place.bucket->slots[place.slot], 0);  // COMMIT
  raise_version(hold);
  release_fields(place.element);
  if (is_chain) fill_hole(hold, place);
  pool_.put_back(hold.actor_);
  return {};
}

Status HashTable::evict(Hold& hold, const Place& place) {
  const bool is_chain = next(*hold.head_) != nullptr;
  if (is_chain && shrinks(hold)) {
    if (auto status = pool_.make_room_for_overflow(hold.actor_); !status) return status;
  }
  commit(journal(hold).to_free, place.element);
  commit(place.bucket->slots[place.slot], 0);  // COMMIT
  raise_version(hold);
  release_fields(place.element);
  if (is_chain) fill_hole(hold, place);
  pool_.push_evicted(hold.actor_);
  return {};
}

void HashTable::fill_hole(Hold& hold, const Place& hole) {
  Bucket* parent = nullptr;
  Bucket* last = hold.head_;
  bool beyond = false;  // whether the chain's last bucket comes after the hole's
  while (Bucket* further = next(*last)) {
    beyond |= last == hole.bucket;
    parent = last;
    last = further;
  }
  const uint32_t from = last_element(*last);
  if (from < Bucket::kSlots && (beyond || from > hole.slot)) {
    commit(hole.bucket->tags[hole.slot], load(last->tags[from]));
    commit(hole.bucket->slots[hole.slot], load(last->slots[from]));  // pairs with the acquire loads of readers
    raise_version(hold);
    commit(last->slots[from], 0);
  }
  if (parent != nullptr && last_element(*last) == Bucket::kSlots) drop_last_bucket(hold, *parent);
}

void HashTable::drop_last_bucket(Hold& hold, Bucket& parent) {
  commit(journal(hold).overflow, load(parent.slots[Bucket::kLinkSlot]) & ~Bucket::kLink);
  commit(parent.slots[Bucket::kLinkSlot], 0);
  raise_version(hold);
  pool_.put_back_overflow(hold.actor_);
}

void HashTable::finish_in_place(Hold& hold) {
  SlotJournal& mine = journal(hold);
  const uint32_t element = load(mine.in_place);
  const uint32_t spare = load(mine.spare);
  const uint32_t only = load(mine.in_place_cpu);
  hold.word_ |= Bucket::kInPlace;
  commit(hold.head_->word, hold.word_);
  // A reader that sees a byte of what follows sees kInPlace; pairs with the acquire fence of readers.
  std::atomic_thread_fence(std::memory_order_release);
  for (uint32_t cpu = 0; cpu < layout_.parts; ++cpu) {
    if (only != 0 && only != cpu + 1) continue;
    gaps_.copy_in(elements_.part(element, cpu), elements_.part(spare, cpu), layout_.value_room);
    SKEP_CRASH_POINT();
  }
  hold.word_ = (hold.word_ & ~Bucket::kInPlace) + Bucket::kVersionStep;
  commit(hold.head_->word, hold.word_);
  commit(mine.in_place, 0);
}

const std::byte* HashTable::staged_part(uint64_t word, uint32_t element, uint32_t cpu) const {
  const uint32_t holder = Bucket::holder(word);
  if (holder != 0 && holder <= machine_.slots()) {
    const SlotJournal& writer = pool_.journal(holder - 1);
    const uint32_t only = load(writer.in_place_cpu);
    const uint32_t spare = load(writer.spare);
    if (load(writer.in_place) == element && (only == 0 || only == cpu + 1) && is_element(spare)) {
      return elements_.part(spare, cpu);
    }
  }
  return elements_.part(element, cpu);
}

}  // namespace skep
