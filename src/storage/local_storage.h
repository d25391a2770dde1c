// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "storage/owners.h"

namespace skep {

/// The elements of one owner, at most one in each map.
///
/// Operations and their commit stores
///   find     reads the cache, else the entries: nobody is waited for, nothing is written
///   link     the entry: a new element, or one in place of another, which is retired
///   unlink   the entry; the element is retired
/// All three are for callers with a lease; find_entry() is also for reader sections. Pointers to elements stay valid to
/// the end of the section: deleted and replaced ones keep their bytes until then.
class LocalStorage {
 public:
  LocalStorage(Owners& owners, Owner owner) : owners_(owners), record_(*owner.record), number_(owner.number) {}

  /// What the update's flags ask of the element that is there: BPF_ANY, BPF_NOEXIST, BPF_EXIST.
  enum class Expect { kAny, kAbsent, kPresent };

  /// The element's bytes, null where there is none. From the cache where it is there, which is the common case; else
  /// it is there the next time.
  [[gnu::always_inline]] std::byte* find(const Lease& lease, const StoragePart& part) const {
    // Acquire pairs with the release in link() and remember().
    const StorageEntry cached = record_.cache[part.cache_slot].load(std::memory_order_acquire);
    if (entry_map(cached) == part.map && record_.number.load(std::memory_order_relaxed) == number_ &&
        entry_cell(cached) < part.cells->layout().capacity) [[likely]]
      return part.cells->bytes(entry_cell(cached));
    return find_slowly(lease, part);
  }
  /// The same without remembering; 0: there is none.
  [[nodiscard]] StorageEntry find_entry(const StoragePart& part) const;

  /// Makes `cell`, which the caller has claimed and filled, the owner's element in that map. On errors it is still the
  /// caller's. ENOENT: kPresent and absent, or the owner is dead; EEXIST; ENOMEM: the owner's limit, no memory;
  /// ETIMEDOUT, EDEADLK.
  Status link(const Lease& lease, const StoragePart& part, uint32_t cell, Expect expect) const;
  /// ENOENT; ETIMEDOUT, EDEADLK.
  Status unlink(const Lease& lease, const StoragePart& part) const;

 private:
  friend class Owners;
  struct Place {
    EntryBlock* block = nullptr;
    uint32_t index = 0;
    explicit operator bool() const { return block != nullptr; }
    [[nodiscard]] std::atomic<StorageEntry>& entry() const { return block->entries[index]; }
    [[nodiscard]] std::atomic<uint32_t>& charge() const { return block->charges[index]; }
  };
  /// The lock over the owner's entries, for the time of a scope; what a dead holder left is put right.
  class Guard {
   public:
    /// kFromTheDead waits for nobody who lives (EBUSY), kIfFree asks not even whether the holder does.
    enum class Take { kAnyway, kFromTheDead, kIfFree };
    Guard(const Lease& lease, const LocalStorage& storage, Take take = Take::kAnyway);
    Guard(const Guard&) = delete;
    Guard& operator=(const Guard&) = delete;
    ~Guard();
    /// ENOENT: the owner is dead; EBUSY; ETIMEDOUT, EDEADLK.
    [[nodiscard]] int error() const { return error_; }

   private:
    const LocalStorage& storage_;
    int error_;
  };

  std::byte* find_slowly(const Lease& lease, const StoragePart& part) const;
  void remember(const Lease& lease, const StoragePart& part, StorageEntry entry) const;
  [[nodiscard]] Place place_of(uint32_t map) const;
  [[nodiscard]] Place free_place() const;
  Result<Place> make_place(const Lease& lease) const;
  uint32_t drop_entries_of_gone_maps() const;
  [[nodiscard]] Status charge(const StoragePart& part, bool first) const;
  void recount() const;
  [[nodiscard]] bool has_elements() const;

  Owners& owners_;
  OwnerRecord& record_;
  const OwnerNumber number_;
};

}  // namespace skep
