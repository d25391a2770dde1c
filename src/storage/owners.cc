// SPDX-License-Identifier: Apache-2.0
#include "storage/owners.h"

#include <algorithm>
#include <bit>
#include <cerrno>
#include <optional>

#include "machine/holder_lock.h"
#include "machine/reader_section.h"
#include "storage/local_storage.h"
#include "storage/storage_parts.h"

namespace skep {
namespace {

uint64_t hash_of(const OwnerIdentity& identity) {
  // The words are the host's own numbers: nobody chooses them, they only stand close together.
  constexpr uint64_t kMultiplier = 0x9e3779b97f4a7c15;
  uint64_t hash = static_cast<uint64_t>(identity.kind) + 1;
  for (const uint64_t word : identity.words) hash = (std::rotl(hash, 23) ^ word) * kMultiplier;
  return hash ^ hash >> 32;
}

OwnerIdentity identity_of(const OwnerRecord& record) { return {.kind = record.kind, .words = record.words}; }

/// Whether nobody finds it by its identity: then its second word is the ProcessTag of who made it.
bool is_private(const OwnerIdentity& identity) { return identity.words[0] == 0; }

/// A lock of the file, for the time of a scope.
class Held {
 public:
  explicit Held(const Lease& lease, std::atomic<uint64_t>& word, bool patient = true) : word_(word) {
    const auto taken = patient ? HolderLock::acquire(lease, word) : HolderLock::acquire_from_dead(lease, word);
    error_ = taken ? 0 : to_int(taken.error());
  }
  Held(const Held&) = delete;
  Held& operator=(const Held&) = delete;
  ~Held() {
    if (error_ == 0) HolderLock::release(word_);
  }
  [[nodiscard]] int error() const { return error_; }

 private:
  std::atomic<uint64_t>& word_;
  int error_;
};

}  // namespace

Owners::Owners(Segment window, Machine& machine)
    : window_(std::move(window)),
      machine_(machine),
      control_(*reinterpret_cast<OwnersControl*>(window_.data())),
      layout_(machine.slots()),
      records_(layout_.records, window_, machine),
      blocks_(layout_.blocks, window_, machine),
      traces_(layout_.traces, window_, machine) {}

Owners::~Owners() = default;

std::atomic<uint32_t>& Owners::head(const OwnerIdentity& identity) const {
  return control_.heads[hash_of(identity) % OwnersControl::kHeads];
}

std::atomic<uint64_t>& Owners::stripe(const OwnerIdentity& identity) const {
  return control_.stripes[hash_of(identity) % OwnersControl::kHeads % OwnersControl::kStripes];
}

EntryBlock* Owners::next_block(const EntryBlock& block) const {
  const uint32_t next = block.next.load(std::memory_order_acquire);  // pairs with the release in make_place()
  return next == 0 || next > blocks_.seen() ? nullptr : &this->block(next - 1);
}

Owner Owners::find(const OwnerIdentity& identity) const {
  uint32_t next = head(identity).load(std::memory_order_acquire);  // pairs with the release in make_record()
  for (uint32_t steps = 0; next != 0 && next <= records_.seen() && steps < kMostOwners; ++steps) {
    OwnerRecord& record = this->record(next - 1);
    if (record.kind == identity.kind && record.words == identity.words) {
      if (const OwnerNumber number = record.number.load(std::memory_order_acquire); number != 0) {
        return {.record = &record, .number = number};
      }
    }
    next = record.next.load(std::memory_order_acquire);
  }
  return {};
}

Result<Owner> Owners::make_record(const Lease& lease, const OwnerIdentity& identity, const OwnerTrace* trace) {
  uint32_t trace_cell = 0;
  if (trace != nullptr) {
    const auto cell = traces_.claim(lease);
    if (!cell) return std::unexpected(cell.error());
    *reinterpret_cast<OwnerTrace*>(traces_.bytes(*cell)) = *trace;
    trace_cell = *cell + 1;
  }
  const auto index = records_.claim(lease);
  if (!index) {
    if (trace_cell != 0) traces_.give_back(trace_cell - 1);
    return std::unexpected(index.error());
  }
  const OwnerNumber number = (control_.serial.fetch_add(1, std::memory_order_relaxed) + 1) << kOwnerIndexBits | *index;
  OwnerRecord& record = this->record(*index);
  // Before the record's word is live: a live one whose number is 0 is half destroyed, and swept.
  record.number.store(number, std::memory_order_relaxed);
  record.next.store(0, std::memory_order_relaxed);
  record.kind = identity.kind;
  record.words = identity.words;
  record.lock.store(0, std::memory_order_relaxed);
  record.charged.store(0, std::memory_order_relaxed);
  record.trace.store(trace_cell, std::memory_order_relaxed);
  for (auto& entry : record.cache) entry.store(0, std::memory_order_relaxed);
  for (auto& entry : record.entries.entries) entry.store(0, std::memory_order_relaxed);
  record.entries.next.store(0, std::memory_order_relaxed);
  // In this order: a trace without a record is swept.
  records_.publish(*index, number);
  if (trace_cell != 0) traces_.publish(trace_cell - 1, number);
  return Owner{.record = &record, .number = number};
}

Result<Owner> Owners::make(const Lease& lease, const OwnerIdentity& identity) {
  return make_record(lease, identity, nullptr);
}

Result<Owner> Owners::find_or_make(const Lease& lease, const OwnerIdentity& identity, const OwnerTrace* trace) {
  if (const Owner found = find(identity)) return found;
  const Held chain(lease, stripe(identity));
  if (chain.error() != 0) return fail(chain.error());
  if (const Owner found = find(identity)) return found;
  auto owner = make_record(lease, identity, trace);
  if (!owner) return owner;
  OwnerRecord& record = *owner->record;
  std::atomic<uint32_t>& first = head(identity);
  commit(record.next, load(first));
  // The commit store: others find it. Who dies before leaves a record without a place, which the sweep frees.
  commit(first, owner_index(owner->number) + 1);
  return owner;
}

/// Takes the record out of its chain if it is there. Readers that stand on it go on from it: it keeps its link until
/// they have left.
Status Owners::unlink_from_chain(const Lease& lease, OwnerRecord& record, uint32_t index, bool patient) {
  const OwnerIdentity identity = identity_of(record);
  if (is_private(identity)) return {};
  const Held chain(lease, stripe(identity), patient);
  if (chain.error() != 0) return fail(chain.error());
  std::atomic<uint32_t>* link = &head(identity);
  for (uint32_t steps = 0; steps < kMostOwners; ++steps) {
    const uint32_t next = load(*link);
    if (next == 0 || next > records_.seen()) return {};
    if (next == index + 1) {
      link->exchange(load(record.next), std::memory_order_seq_cst);
      SKEP_CRASH_POINT();
      return {};
    }
    link = &this->record(next - 1).next;
  }
  return {};
}

/// Whether somebody finds the record, or may be about to put it into its chain.
bool Owners::has_place(const Lease& lease, const OwnerRecord& record, uint32_t index) const {
  const OwnerIdentity identity = identity_of(record);
  if (is_private(identity)) return true;
  const auto listed = [&] {
    uint32_t next = head(identity).load(std::memory_order_acquire);  // as in find()
    for (uint32_t steps = 0; next != 0 && next <= records_.seen() && steps < kMostOwners; ++steps) {
      if (next == index + 1) return true;
      next = this->record(next - 1).next.load(std::memory_order_acquire);
    }
    return false;
  };
  if (listed()) return true;
  const Held chain(lease, stripe(identity), false);
  return chain.error() != 0 || listed();
}

/// Under the lock of an owner whose number is 0: its elements are freed where this process can, and its entries.
void Owners::release_elements(OwnerRecord& record, OwnerNumber number) {
  const StorageParts& parts = StorageParts::of(machine_);
  std::optional<StorageParts::Locked> locked;
  uint64_t steps = 0;
  for (EntryBlock* block = &record.entries; block != nullptr && steps < kMostBlocks; block = next_block(*block)) {
    ++steps;
    for (auto& place : block->entries) {
      const StorageEntry entry = load(place);
      if (entry == 0) continue;
      if (!locked) locked.emplace();
      const StoragePart* part = parts.find(*locked, entry_map(entry));
      if (part != nullptr && entry_cell(entry) < part->cells->seen()) {
        part->cells->retire_once(entry_cell(entry), number);
      }
      commit(place, 0);
    }
  }
  // Each is taken out of the chain first: whoever finishes this after a death must not come to what is another owner's
  // by then.
  for (steps = 0; steps < kMostBlocks; ++steps) {
    const uint32_t next = load(record.entries.next);
    if (next == 0 || next > blocks_.seen()) return;
    record.entries.next.exchange(load(block(next - 1).next), std::memory_order_seq_cst);
    SKEP_CRASH_POINT();
    blocks_.retire_once(next - 1, number);
  }
}

Status Owners::destroy(const Lease& lease, OwnerNumber number) { return destroy(lease, number, true); }

/// A patient one waits for locks of the living; another one finds EBUSY.
Status Owners::destroy(const Lease& lease, OwnerNumber number, bool patient) {
  const uint32_t index = owner_index(number);
  if (number == 0 || index >= records_.seen() || records_.meaning(index) != number) return {};
  OwnerRecord& record = this->record(index);
  const Held owner(lease, record.lock, patient);
  if (owner.error() != 0) return fail(owner.error());
  if (records_.meaning(index) != number) return {};
  // The commit: from here on nobody finds it or gives it anything. A locked instruction, as retire() wants.
  record.number.exchange(0, std::memory_order_seq_cst);
  SKEP_CRASH_POINT();
  for (auto& entry : record.cache) entry.store(0, std::memory_order_relaxed);
  release_elements(record, number);
  if (auto status = unlink_from_chain(lease, record, index, patient); !status) return status;  // the sweep tries again
  if (const uint32_t trace = load(record.trace); trace != 0 && trace <= traces_.seen()) {
    traces_.retire_once(trace - 1, number);
  }
  records_.retire_once(index, number);
  return {};
}

/// Null: it has none.
StorageMapRow* Owners::row_of(uint32_t map) const {
  if (map == 0) return nullptr;
  const uint32_t seen = std::min(control_.maps_seen.load(std::memory_order_acquire), OwnersControl::kMostMaps);
  StorageMapRow* const end = control_.maps.data() + seen;
  // Acquire pairs with the commit of the id, so that the cache slot is seen with it.
  StorageMapRow* const row =
      std::find_if(control_.maps.data(), end, [&](auto& r) { return r.id.load(std::memory_order_acquire) == map; });
  return row == end ? nullptr : row;
}

bool Owners::knows_map(uint32_t map) const { return row_of(map) != nullptr; }

Result<uint32_t> Owners::register_map(const Lease& lease, uint32_t map, OwnerKind kind) {
  if (const StorageMapRow* row = row_of(map)) return load(row->cache_slot) % kCacheSlots;
  const Held table(lease, control_.map_lock);
  if (table.error() != 0) return fail(table.error());
  std::array<uint32_t, kCacheSlots> uses{};
  StorageMapRow* free = nullptr;
  const uint32_t seen = std::min(load(control_.maps_seen), OwnersControl::kMostMaps);
  for (uint32_t i = 0; i < seen; ++i) {
    StorageMapRow& row = control_.maps[i];
    const uint32_t id = load(row.id);
    const uint32_t slot = load(row.cache_slot) % kCacheSlots;
    if (id == map) return slot;
    if (id == 0) {
      if (free == nullptr) free = &row;
    } else if (load(row.cache_slot) / kCacheSlots == static_cast<uint32_t>(kind)) {
      ++uses[slot];
    }
  }
  if (free == nullptr) {
    if (seen == OwnersControl::kMostMaps) {
      return fail_because(ENOMEM, "an instance of skep has at most 4096 maps of local storage");
    }
    free = &control_.maps[seen];
    commit(control_.maps_seen, seen + 1);
  }
  const auto slot = static_cast<uint32_t>(std::ranges::min_element(uses) - uses.begin());
  commit(free->cache_slot, static_cast<uint32_t>(kind) * kCacheSlots + slot);
  commit(free->id, map);
  return slot;
}

void Owners::unregister_map(uint32_t map) {
  // Nobody registers a map that has gone, and rows are given away by their ids alone: no lock is needed.
  while (StorageMapRow* row = row_of(map)) {
    uint32_t id = map;
    row->id.compare_exchange_strong(id, 0, std::memory_order_acq_rel);
    SKEP_CRASH_POINT();
  }
}

void Owners::check_element(const Lease& lease, const StoragePart& part, uint32_t cell, OwnerNumber number) {
  const Owner owner = find(number);
  if (!owner) {
    part.cells->retire_once(cell, number);
    return;
  }
  const LocalStorage storage(*this, owner);
  const StorageEntry entry = storage_entry(part.map, cell);
  if (storage.find_entry(part) == entry) return;
  // Perhaps it is about to be linked, or just has been unlinked: under the lock there is no such thing.
  const LocalStorage::Guard guard(lease, storage, LocalStorage::Guard::Take::kFromTheDead);
  if (guard.error() != 0) return;
  if (storage.find_entry(part) != entry) part.cells->retire_once(cell, number);
}

void Owners::look_at_owner(const Lease& lease, uint32_t index, OwnerNumber number, OwnerGone gone) {
  OwnerRecord& record = this->record(index);
  const bool destroyed = record.number.load(std::memory_order_acquire) != number;
  if (!destroyed) {
    const OwnerIdentity identity = identity_of(record);
    const uint32_t trace = load(record.trace);
    const OwnerTrace* known =
        trace == 0 || trace > traces_.seen() ? nullptr : reinterpret_cast<const OwnerTrace*>(traces_.bytes(trace - 1));
    const bool dead =
        is_private(identity) ? !machine_.alive({static_cast<uint32_t>(identity.words[1])}) : gone(identity, known);
    if (!dead && has_place(lease, record, index)) {
      if (load(record.lock) == 0) return;
      // Perhaps a dead process's: then what it was charging is counted anew.
      const LocalStorage storage(*this, {.record = &record, .number = number});
      const LocalStorage::Guard guard(lease, storage, LocalStorage::Guard::Take::kFromTheDead);
      return;
    }
  }
  static_cast<void>(destroy(lease, number, false));
}

void Owners::look_at_block(const Lease& lease, uint32_t cell, OwnerNumber number) {
  const Owner owner = find(number);
  if (owner) {
    const auto listed = [&] {
      uint64_t steps = 0;
      for (const EntryBlock* b = &owner.record->entries; b != nullptr && steps < kMostBlocks;
           b = next_block(*b), ++steps) {
        if (b == &block(cell)) return true;
      }
      return false;
    };
    if (listed()) return;
    const LocalStorage storage(*this, owner);
    const LocalStorage::Guard guard(lease, storage, LocalStorage::Guard::Take::kFromTheDead);
    if (guard.error() != 0 || listed()) return;
    blocks_.retire_once(cell, number);
  } else if (records_.meaning(owner_index(number)) != number) {  // else who destroys it retires its blocks
    blocks_.retire_once(cell, number);
  }
}

void Owners::sweep_all(const Lease& lease, OwnerGone gone) {
  // Owners that are destroyed on the way leave blocks and traces to the second round.
  for (int round = 0; round < 2; ++round) {
    const uint32_t count = std::max({records_.seen(), blocks_.seen(), traces_.seen()});
    sweep(lease, count, gone);
    for (Slab* slab : {&records_, &blocks_, &traces_}) {
      const uint32_t chunks = slab->seen() / slab->layout().chunk_cells;
      for (uint32_t i = 0; i < chunks; ++i) slab->trim(lease);
    }
  }
}

void Owners::sweep(const Lease& lease, uint32_t count, OwnerGone gone) {
  records_.sweep(lease, control_.cursors[0], count,
                 [&](uint32_t index, OwnerNumber number) { look_at_owner(lease, index, number, gone); });
  blocks_.sweep(lease, control_.cursors[1], count,
                [&](uint32_t cell, OwnerNumber number) { look_at_block(lease, cell, number); });
  traces_.sweep(lease, control_.cursors[2], count, [&](uint32_t cell, OwnerNumber number) {
    if (records_.meaning(owner_index(number)) != number) traces_.retire_once(cell, number);
  });
  records_.trim(lease);
  blocks_.trim(lease);
  traces_.trim(lease);
}

}  // namespace skep
