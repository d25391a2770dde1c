// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <mutex>
#include <vector>

#include "machine/machine.h"
#include "machine/quiet_mutex.h"

namespace skep {

/// What this process has opened by id, found again in a few nanoseconds: id -> T, where T has a member `id`.
///
/// What it is: an open hash table. An id means the same object as long as the instance exists, so what is found is
///   never wrong; entries go only so that dead objects give their memory back.
/// Layout
///   table_ -> Table { mask, entries[mask + 1] }     entry: null (ends a search), a T, or gone_ (a T was here)
///   An id's search begins at id & mask; ids ascend, so neighbours seldom collide.
/// Operations: find (no lock), insert, erase_if on a few entries at a time.
/// Invariants
///   1. An entry once published is constant. At most half of a table's entries are not null: every search ends.
///   2. What is taken out lives until a grace period later, so whoever found it under a lease may use it to the
///      lease's end.
/// Ordering: the release stores of table_ and of an entry pair with the acquire loads of find().
/// Progress: find is wait-free. Locks: mutex_ for changes, a leaf but for Machine::defer.
template <class T>
class IdCache {
 public:
  explicit IdCache(Machine& machine) : machine_(machine), table_(new Table(kFirstSize)) {}
  IdCache(const IdCache&) = delete;
  IdCache& operator=(const IdCache&) = delete;
  ~IdCache() {
    Table* const table = table_.load(std::memory_order_relaxed);
    for (uint32_t i = 0; i <= table->mask; ++i) {
      if (T* entry = table->entries[i].load(std::memory_order_relaxed); entry != &gone_) delete entry;
    }
    delete table;
  }

  /// Under a lease, to whose end the result is valid; null: not there.
  [[nodiscard]] const T* find(uint32_t id) const {
    const Table& table = *table_.load(std::memory_order_acquire);
    for (uint32_t i = id & table.mask;; i = (i + 1) & table.mask) {
      const T* entry = table.entries[i].load(std::memory_order_acquire);
      if (entry == nullptr || entry->id == id) return id != 0 ? entry : nullptr;  // 0 is the number of gone_
    }
  }

  /// Adds it, unless another thread just did; what is there then. Under a lease, as find().
  const T* insert(std::unique_ptr<T> entry) {
    const std::scoped_lock lock(mutex_);
    if (const T* found = find(entry->id)) return found;
    if ((used_ + 1) * 2 > table_.load(std::memory_order_relaxed)->mask + 1) rebuild();
    return place(*table_.load(std::memory_order_relaxed), entry.release());
  }

  /// Takes out those of the next `count` places whose entries are `dead`, going round; how many that were.
  template <class Dead>
  uint32_t erase_some(uint32_t count, const Dead& dead) {
    const std::scoped_lock lock(mutex_);
    Table& table = *table_.load(std::memory_order_relaxed);
    uint32_t erased = 0;
    for (uint32_t seen = 0; seen <= table.mask && count > 0; ++seen) {
      std::atomic<T*>& place = table.entries[cursor_++ & table.mask];
      T* const entry = place.load(std::memory_order_relaxed);
      if (entry == nullptr || entry == &gone_) continue;
      --count;
      if (!dead(*entry)) continue;
      place.store(&gone_, std::memory_order_release);
      retire(entry);
      ++erased;
    }
    return erased;
  }

  /// For fork(2): held across it, so that the child inherits a whole table.
  QuietMutex& mutex() { return mutex_; }

 private:
  static constexpr uint32_t kFirstSize = 64;
  struct Table {
    explicit Table(uint32_t size) : mask(size - 1), entries(new std::atomic<T*>[size]()) {}
    const uint32_t mask;
    const std::unique_ptr<std::atomic<T*>[]> entries;
  };

  const T* place(Table& table, T* entry) {
    uint32_t i = entry->id & table.mask;
    while (table.entries[i].load(std::memory_order_relaxed) != nullptr) i = (i + 1) & table.mask;
    table.entries[i].store(entry, std::memory_order_release);  // pairs with find()
    ++used_;
    return entry;
  }
  /// A table without the places of what is gone, twice as large where that is not enough.
  void rebuild() {
    Table* const old = table_.load(std::memory_order_relaxed);
    uint32_t living = 0;
    for (uint32_t i = 0; i <= old->mask; ++i) living += is_living(old->entries[i]);
    auto fresh = std::make_unique<Table>((living + 1) * 4 > old->mask + 1 ? (old->mask + 1) * 2 : old->mask + 1);
    used_ = 0;
    for (uint32_t i = 0; i <= old->mask; ++i) {
      if (is_living(old->entries[i])) place(*fresh, old->entries[i].load(std::memory_order_relaxed));
    }
    table_.store(fresh.release(), std::memory_order_release);  // pairs with find()
    retire(old);
  }
  bool is_living(const std::atomic<T*>& place) const {
    const T* entry = place.load(std::memory_order_relaxed);
    return entry != nullptr && entry != &gone_;
  }
  template <class Retired>
  void retire(Retired* retired) {
    machine_.defer([kept = std::shared_ptr<Retired>(retired)] {});
  }

  Machine& machine_;
  std::atomic<Table*> table_;
  T gone_{};  // its id is 0, which no object has
  QuietMutex mutex_;
  // Guarded by mutex_:
  uint32_t used_ = 0;
  uint32_t cursor_ = 0;
};

}  // namespace skep
