// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <atomic>
#include <memory>
#include <optional>

#include "maps/field_gaps.h"
#include "maps/map.h"
#include "maps/striped_values.h"
#include "storage/local_storage.h"
#include "storage/owner_source.h"

namespace skep {

/// BPF_MAP_TYPE_TASK_STORAGE, CGRP_STORAGE, SK_STORAGE and INODE_STORAGE: one value for each owner that has one.
///
/// What it is: the elements of one map; which owner has which is written down with the owners (storage/owners.h), in a
///   file of the instance that all these maps share.
/// Layout
///
///   | MapHeader | StorageControl | stripes of BPF_F_LOCK | a Slab of values, and their words: whose each is |
///
/// Operations: get, lookup, update, erase, each of one owner; for_each_owner. By the syscall side's key, a descriptor,
///   through the syscall layer, which knows descriptors.
/// Invariants
///   I1 A live cell's word names its owner, and that owner's entry names the cell: else it is swept (Owners O1).
///   I2 A value is constant from link() on, but for what programs write through pointers and for updates with
///   BPF_F_LOCK.
/// Ordering guarantees: those of owners.h; a copying lookup is never torn (redo_log.h).
/// Progress: reading waits for nobody, but for the value's lock under BPF_F_LOCK.
/// Reclamation: a cell is used again after a grace period; memory of empty chunks goes back (slab.h). Every update
/// looks
///   at two cells more, for what dead processes and owners left.
/// Locks: an owner's; under BPF_F_LOCK the value's and a stripe's, without an owner's.
/// Limits and errno: 4,194,304 elements, 16 GiB (ENOMEM); an owner's limit (ENOMEM, storage/charge.h); values of up to
///   65,407 bytes (E2BIG); next_key, batches and take 524; EINVAL for flags; ENOENT, EEXIST.
/// Differs from the kernel: updates never fail with EAGAIN; an owner whose death nobody could see (inodes, sockets of
///   other processes) keeps its elements until somebody looks.
class StorageMap final : public Map {
 public:
  StorageMap(MapSegments segments, Machine& machine, OwnerKind owners_are, std::shared_ptr<Owners> owners);
  ~StorageMap() override;

  [[nodiscard]] OwnerKind owner_kind() const { return owner_kind_; }
  [[nodiscard]] Owners& owners() const { return *owners_; }

  // -- the syscall side ----------------------------------------------------------------------------------------------
  /// Copies the value out, inside a section. Flags: BPF_F_LOCK. ENOENT.
  Status lookup_of(const OwnerIdentity& identity, void* value, uint64_t flags) const;
  /// The same of an owner that was found in the caller's section.
  Status lookup(const Owner& owner, void* value, uint64_t flags) const;
  /// Asks the owners for a cache slot, which takes the map's id: so at its first use and not when it is opened. Before
  /// lookup(); the others do it themselves.
  Status join(const Lease& lease) const;
  [[nodiscard]] bool has_joined() const { return &part() == &joined_; }
  /// `make_trace` is called where the owner has had no storage yet. EINVAL: flags; EEXIST, ENOENT, ENOMEM, ETIMEDOUT.
  Status update_of(const Lease& lease, const OwnerIdentity& identity, const std::function<OwnerTrace()>& make_trace,
                   const void* value, uint64_t flags);
  Status erase_of(const Lease& lease, const OwnerIdentity& identity);

  // -- the program side ----------------------------------------------------------------------------------------------
  /// The owner's value; null where there is none. Valid until the lease ends.
  [[gnu::always_inline]] void* get(const Lease& lease, const Owner& owner) {
    std::byte* const value = LocalStorage(*owners_, owner).find(lease, part());
    return value != nullptr || has_joined() ? value : get_first(lease, owner);
  }
  /// The same, made from `initial` (null: zeros) where there is none. Null: it cannot be made.
  void* get_or_make(const Lease& lease, const Owner& owner, const void* initial);
  Status update(const Lease& lease, const Owner& owner, const void* value, uint64_t flags);
  Status erase(const Lease& lease, const Owner& owner);

  /// Calls visit(owner, value) for every element, in no order; inside a lease. The number of calls.
  uint64_t for_each_owner(const std::function<Visit(const Owner& owner, void* value)>& visit) const;
  /// One step of looking for what died while nobody looked: bounded, some system calls.
  void sweep(const Lease& lease);

  // By key: there are no keys but descriptors.
  Status next_key(const void* key, void* next) const override;
  void settle(const Lease& lease, void* value) override;
  [[nodiscard]] CheckReport check() const override;

 private:
  using Map::erase;
  using Map::lookup;
  using Map::update;
  /// What owners know this map by; before join(): what no owner has anything of.
  [[nodiscard]] const StoragePart& part() const { return *part_.load(std::memory_order_acquire); }
  void* get_first(const Lease& lease, const Owner& owner);
  [[nodiscard]] uint32_t cell_of(const void* value) const {
    return static_cast<uint32_t>(static_cast<uint64_t>(static_cast<const std::byte*>(value) - cells_.bytes(0)) /
                                 cells_.layout().stride);
  }
  [[nodiscard]] ValueRange range(uint32_t cell) const { return {cell, 0, 1, value_size_}; }
  void copy_out(uint32_t cell, void* value) const;
  Status copy_out_locked(uint32_t cell, void* value) const;
  Status write_locked(const Lease& lease, uint32_t cell, const void* value);
  Status put(const Lease& lease, const Owner& owner, const void* value, LocalStorage::Expect expect);

  const OwnerKind owner_kind_;
  const std::shared_ptr<Owners> owners_;
  const uint32_t value_size_;
  const FieldGaps gaps_;
  mutable Slab cells_;
  const StoragePart stranger_;
  mutable StoragePart joined_{};
  mutable std::atomic<const StoragePart*> part_{&stranger_};
  std::optional<StripedValues> striped_;  // where values have a lock
};

}  // namespace skep
