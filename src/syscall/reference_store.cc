// SPDX-License-Identifier: Apache-2.0
#include "syscall/reference_store.h"

#include <array>
#include <cstring>
#include <optional>
#include <vector>

#include "machine/crash_point.h"
#include "machine/lease.h"
#include "object/entry_holds.h"

namespace skep {

/// One change of the map's links: see reference_store.h.
class ReferenceStore::Change {
 public:
  static Result<Change> begin(ReferenceStore& store) {
    auto holds = EntryHolds::open(*store.process_.instance, ObjectKind::kMap, store.map_.header().file.id);
    if (!holds) return std::unexpected(holds.error());
    std::atomic<uint32_t>& changing = store.map_.header().changing;
    if (changing.load(std::memory_order_relaxed) != 0) {
      if (holds->try_exclusive()) {
        store.sweep(*holds);
        changing.store(0, std::memory_order_relaxed);
      }
      if (const Status shared = holds->share(); !shared) return std::unexpected(shared.error());
    }
    // Under the shared flock, so that nobody sweeps between this and the end; the flock orders it for the sweeper.
    changing.fetch_add(1, std::memory_order_relaxed);
    return Change(*std::move(holds), changing);
  }
  Change(Change&& other) noexcept : holds_(std::move(other.holds_)), changing_(other.changing_) {
    other.changing_ = nullptr;
  }
  Change& operator=(Change&&) = delete;
  ~Change() {
    if (changing_ != nullptr) changing_->fetch_sub(1, std::memory_order_relaxed);
  }
  EntryHolds& holds() { return holds_; }

 private:
  Change(EntryHolds holds, std::atomic<uint32_t>& changing) : holds_(std::move(holds)), changing_(&changing) {}

  EntryHolds holds_;
  std::atomic<uint32_t>* changing_;
};

namespace {

/// Passes a batch on and remembers which words were in it.
class RememberingSink final : public BatchSink {
 public:
  RememberingSink(BatchSink& sink, uint32_t key_size) : sink_(sink), key_size_(key_size) {}
  bool put(const void* keys, const void* values, uint32_t count) override {
    for (uint32_t i = 0; i < count; ++i) {
      Taken& taken = words.emplace_back();
      std::memcpy(&taken.word, static_cast<const std::byte*>(values) + i * sizeof taken.word, sizeof taken.word);
      taken.key.assign(static_cast<const char*>(keys) + uint64_t{i} * key_size_, key_size_);
    }
    return sink_.put(keys, values, count);
  }
  struct Taken {
    uint64_t word;
    std::string key;
  };
  std::vector<Taken> words;

 private:
  BatchSink& sink_;
  const uint32_t key_size_;
};

}  // namespace

uint32_t ReferenceStore::hint(const void* key) const {
  uint32_t folded = 0;
  const auto* bytes = static_cast<const unsigned char*>(key);
  const uint32_t size = map_.spec().key_size;
  if (size == sizeof folded) {
    std::memcpy(&folded, key, size);
    return folded;
  }
  for (uint32_t i = 0; i < size; ++i) folded = folded * 31 + bytes[i];
  return folded;
}

Status ReferenceStore::store(const void* key, const Reference& reference, uint64_t flags) {
  auto change = Change::begin(*this);
  if (!change) return std::unexpected(change.error());
  const uint32_t number = hint(key);
  if (reference.held.id != 0) {
    if (const Status added = change->holds().add(reference.held, number); !added) return added;
    SKEP_CRASH_POINT();
  }
  Result<uint64_t> old = fail(EPERM);
  {
    const Lease lease(process_.machine);
    // Pairs with map_freeze(), as every write of the syscall side.
    if (map_.header().frozen.load(std::memory_order_acquire) == 0)
      old = map_.exchange(lease, key, reference.word, flags);
  }
  SKEP_CRASH_POINT();
  const HeldObject surplus = old ? held(*old) : reference.held;
  if (surplus.id != 0) change->holds().drop(surplus, number);
  return old ? Status{} : std::unexpected(old.error());
}

Status ReferenceStore::erase(const void* key) {
  auto change = Change::begin(*this);
  if (!change) return std::unexpected(change.error());
  uint64_t word = 0;
  {
    const Lease lease(process_.machine);
    if (map_.header().frozen.load(std::memory_order_acquire) != 0) return fail(EPERM);
    if (const Status taken = map_.take(lease, key, &word, 0); !taken) return taken;
  }
  SKEP_CRASH_POINT();
  if (const HeldObject gone = held(word); gone.id != 0) change->holds().drop(gone, hint(key));
  return {};
}

BatchResult ReferenceStore::take_batch(const void* in_cursor, void* out_cursor, uint32_t capacity, uint64_t flags,
                                       BatchSink& sink) {
  auto change = Change::begin(*this);
  if (!change) return {.error = to_int(change.error())};
  RememberingSink remembering(sink, map_.spec().key_size);
  BatchResult result{.error = EPERM};
  {
    const Lease lease(process_.machine);
    if (map_.header().frozen.load(std::memory_order_acquire) == 0)
      result = map_.take_batch(lease, in_cursor, out_cursor, capacity, flags, remembering);
  }
  for (const auto& taken : remembering.words) {
    if (const HeldObject gone = held(taken.word); gone.id != 0) change->holds().drop(gone, hint(taken.key.data()));
  }
  return result;
}

Status ReferenceStore::clear() {
  auto change = Change::begin(*this);
  if (!change) return std::unexpected(change.error());
  std::vector<std::byte> key(map_.spec().key_size), next(map_.spec().key_size);
  // Twice as many keys as there can be, and the walk of a damaged map goes round.
  uint64_t left = 2 * uint64_t{map_.spec().max_entries} + 1;
  for (const void* from = nullptr; left > 0 && map_.next_key(from, next.data()); from = key.data(), --left) {
    key = next;
    uint64_t word = 0;
    {
      const Lease lease(process_.machine);
      (void)map_.take(lease, key.data(), &word, 0);
    }
    if (const HeldObject gone = held(word); gone.id != 0) change->holds().drop(gone, hint(key.data()));
  }
  return {};
}

void ReferenceStore::drop_if(const std::function<bool(uint64_t word)>& gone) {
  auto holds = EntryHolds::open(*process_.instance, ObjectKind::kMap, map_.header().file.id);
  // Nobody else changes the map, so what is taken out is what was looked at.
  if (!holds || !holds->try_exclusive()) return;
  struct Entry {
    std::vector<std::byte> key;
    uint64_t word;
  };
  std::vector<Entry> entries;
  {
    const Lease lease(process_.machine);
    (void)map_.for_each(lease, [&](const void* key, const void* value) {
      const auto* const bytes = static_cast<const std::byte*>(key);
      Entry& entry = entries.emplace_back(std::vector(bytes, bytes + map_.spec().key_size), 0);
      std::memcpy(&entry.word, value, sizeof entry.word);
      return Visit::kContinue;
    });
  }
  for (const Entry& entry : entries) {
    uint64_t word = entry.word;
    if (word == 0 || !gone(word)) continue;
    {
      const Lease lease(process_.machine);
      if (!map_.take(lease, entry.key.data(), &word, 0)) continue;
    }
    if (const HeldObject object = held(word); object.id != 0) holds->drop(object, hint(entry.key.data()));
  }
}

void ReferenceStore::sweep() {
  auto holds = EntryHolds::open(*process_.instance, ObjectKind::kMap, map_.header().file.id);
  if (!holds || !holds->try_exclusive()) return;
  sweep(*holds);
  map_.header().changing.store(0, std::memory_order_relaxed);
}

void ReferenceStore::sweep(EntryHolds& holds) {
  std::map<HeldObject, uint64_t> links = holds.count();
  {
    const Lease lease(process_.machine);
    (void)map_.for_each(lease, [&](const void*, const void* value) {
      uint64_t word;
      std::memcpy(&word, value, sizeof word);
      if (const auto found = links.find(held(word)); found != links.end() && found->second > 0) --found->second;
      return Visit::kContinue;
    });
  }
  for (auto& [object, surplus] : links)
    for (; surplus > 0; --surplus) holds.drop(object, 0);
}

}  // namespace skep
