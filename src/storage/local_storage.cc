// SPDX-License-Identifier: Apache-2.0
#include "storage/local_storage.h"

#include <cerrno>

#include "machine/holder_lock.h"
#include "storage/charge.h"

namespace skep {

LocalStorage::Guard::Guard(const Lease& lease, const LocalStorage& storage, Take take)
    : storage_(storage), error_(ENOENT) {
  const auto alive = [&] { return storage.record_.number.load(std::memory_order_acquire) == storage.number_; };
  // Of an owner that has gone, the lock may be another owner's by now.
  if (!alive()) return;
  std::atomic<uint64_t>& lock = storage.record_.lock;
  if (take == Take::kIfFree) {
    error_ = HolderLock::try_acquire(lease, lock) ? 0 : EBUSY;
  } else {
    const auto taken =
        take == Take::kAnyway ? HolderLock::acquire(lease, lock) : HolderLock::acquire_from_dead(lease, lock);
    error_ = taken ? 0 : to_int(taken.error());
    if (taken && *taken == HolderLock::Taken::kFromDead) storage.recount();
  }
  if (error_ == 0 && !alive()) {
    HolderLock::release(lock);
    error_ = ENOENT;
  }
}

LocalStorage::Guard::~Guard() {
  if (error_ == 0) HolderLock::release(storage_.record_.lock);
}

LocalStorage::Place LocalStorage::place_of(uint32_t map) const {
  uint64_t steps = 0;
  for (EntryBlock* block = &record_.entries; block != nullptr && steps < Owners::kMostBlocks;
       block = owners_.next_block(*block), ++steps) {
    for (uint32_t i = 0; i < EntryBlock::kEntries; ++i) {
      if (entry_map(block->entries[i].load(std::memory_order_acquire)) == map) return {block, i};
    }
  }
  return {};
}

StorageEntry LocalStorage::find_entry(const StoragePart& part) const {
  const Place place = place_of(part.map);
  if (!place) return 0;
  // The place may have been emptied or have been given to another map since.
  const StorageEntry entry = place.entry().load(std::memory_order_acquire);
  const bool whole = entry_map(entry) == part.map && entry_cell(entry) < part.cells->layout().capacity;
  return whole && record_.number.load(std::memory_order_acquire) == number_ ? entry : 0;
}

std::byte* LocalStorage::find_slowly(const Lease& lease, const StoragePart& part) const {
  const StorageEntry entry = find_entry(part);
  if (entry == 0) return nullptr;
  remember(lease, part, entry);
  return part.cells->bytes(entry_cell(entry));
}

/// Puts an entry into the cache, unless it is not one any more or somebody is changing something: finding waits for
/// nobody.
void LocalStorage::remember(const Lease& lease, const StoragePart& part, StorageEntry entry) const {
  const Guard guard(lease, *this, Guard::Take::kIfFree);
  if (guard.error() != 0) return;
  const Place place = place_of(part.map);
  if (place && load(place.entry()) == entry) commit(record_.cache[part.cache_slot], entry);
}

bool LocalStorage::has_elements() const {
  uint64_t steps = 0;
  for (EntryBlock* block = &record_.entries; block != nullptr && steps < Owners::kMostBlocks;
       block = owners_.next_block(*block), ++steps) {
    for (const auto& entry : block->entries) {
      if (load(entry) != 0) return true;
    }
  }
  return false;
}

/// After a holder's death: the sum is what the entries say.
void LocalStorage::recount() const {
  uint64_t sum = 0;
  uint64_t steps = 0;
  for (EntryBlock* block = &record_.entries; block != nullptr && steps < Owners::kMostBlocks;
       block = owners_.next_block(*block), ++steps) {
    for (uint32_t i = 0; i < EntryBlock::kEntries; ++i) {
      if (load(block->entries[i]) != 0) sum += load(block->charges[i]);
    }
  }
  if (sum != 0) sum += ChargeRule::first_element(record_.kind);
  commit(record_.charged, sum);
}

uint32_t LocalStorage::drop_entries_of_gone_maps() const {
  uint32_t dropped = 0;
  uint64_t steps = 0;
  for (EntryBlock* block = &record_.entries; block != nullptr && steps < Owners::kMostBlocks;
       block = owners_.next_block(*block), ++steps) {
    for (auto& place : block->entries) {
      const StorageEntry entry = load(place);
      if (entry == 0 || owners_.knows_map(entry_map(entry))) continue;
      for (auto& cached : record_.cache) {
        if (load(cached) == entry) commit(cached, 0);
      }
      commit(place, 0);
      ++dropped;
    }
  }
  if (dropped != 0) recount();
  return dropped;
}

Status LocalStorage::charge(const StoragePart& part, bool first) const {
  const uint64_t limit = owners_.control_.limit;
  const auto fits = [&](uint64_t charged, uint64_t more) {
    return ChargeRule::allows(record_.kind, charged, more, limit);
  };
  uint64_t charged = load(record_.charged);
  if (!fits(charged, part.charge)) {
    if (drop_entries_of_gone_maps() == 0) return fail(ENOMEM);
    charged = load(record_.charged);
    first = !has_elements();
    if (!fits(charged, part.charge)) return fail(ENOMEM);
  }
  if (first && !fits(charged + part.charge, ChargeRule::first_element(record_.kind))) return fail(ENOMEM);
  return {};
}

LocalStorage::Place LocalStorage::free_place() const {
  uint64_t steps = 0;
  for (EntryBlock* block = &record_.entries; block != nullptr && steps < Owners::kMostBlocks;
       block = owners_.next_block(*block), ++steps) {
    for (uint32_t i = 0; i < EntryBlock::kEntries; ++i) {
      if (load(block->entries[i]) == 0) return {block, i};
    }
  }
  return {};
}

/// A free place, in another block if need be.
Result<LocalStorage::Place> LocalStorage::make_place(const Lease& lease) const {
  Place place = free_place();
  if (!place && drop_entries_of_gone_maps() > 0) place = free_place();
  if (place) return place;
  const auto cell = owners_.blocks_.claim(lease);
  if (!cell) return std::unexpected(cell.error());
  EntryBlock& added = owners_.block(*cell);
  for (auto& entry : added.entries) entry.store(0, std::memory_order_relaxed);
  added.next.store(load(record_.entries.next), std::memory_order_relaxed);
  owners_.blocks_.publish(*cell, number_);
  commit(record_.entries.next, *cell + 1);
  return Place{.block = &added, .index = 0};
}

Status LocalStorage::link(const Lease& lease, const StoragePart& part, uint32_t cell, Expect expect) const {
  const Guard guard(lease, *this);
  if (guard.error() != 0) return fail(guard.error());
  Place place = place_of(part.map);
  const StorageEntry old = place ? load(place.entry()) : 0;
  const bool first = old == 0 && !has_elements();
  // The kernel's order: an owner without elements is asked first, others after the new element has been paid for.
  if (first && expect == Expect::kPresent) return fail(ENOENT);
  if (auto status = charge(part, first); !status) return status;
  if (old == 0 && expect == Expect::kPresent) return fail(ENOENT);
  if (old != 0 && expect == Expect::kAbsent) return fail(EEXIST);
  if (old == 0) {
    auto made = make_place(lease);
    if (!made) return std::unexpected(made.error());
    place = *made;
  }
  part.cells->publish(cell, number_);
  std::atomic<StorageEntry>& cached = record_.cache[part.cache_slot];
  const StorageEntry entry = storage_entry(part.map, cell);
  if (old != 0) {
    if (load(cached) == old) commit(cached, 0);
    place.entry().exchange(entry, std::memory_order_seq_cst);  // the commit; a locked instruction, as retire() wants
    SKEP_CRASH_POINT();
    commit(cached, entry);
    part.cells->retire(entry_cell(old));
  } else {
    commit(place.charge(), part.charge);
    commit(record_.charged,
           load(record_.charged) + part.charge + (has_elements() ? 0 : ChargeRule::first_element(record_.kind)));
    commit(place.entry(), entry);  // the commit
    commit(cached, entry);
  }
  return {};
}

Status LocalStorage::unlink(const Lease& lease, const StoragePart& part) const {
  const Guard guard(lease, *this);
  if (guard.error() != 0) return fail(guard.error());
  const Place place = place_of(part.map);
  if (!place) return fail(ENOENT);
  const StorageEntry old = load(place.entry());
  std::atomic<StorageEntry>& cached = record_.cache[part.cache_slot];
  if (load(cached) == old) commit(cached, 0);
  place.entry().exchange(0, std::memory_order_seq_cst);  // the commit; a locked instruction, as retire() wants
  SKEP_CRASH_POINT();
  part.cells->retire(entry_cell(old));
  const uint64_t left = load(record_.charged) - load(place.charge());
  commit(record_.charged, has_elements() ? left : 0);
  return {};
}

}  // namespace skep
