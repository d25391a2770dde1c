// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "machine/lease.h"
#include "machine/machine.h"
#include "memory/result.h"
#include "memory/segment.h"
#include "storage/owner_layout.h"
#include "storage/storage_parts.h"

namespace skep {

/// An owner that was found, inside the caller's section; number 0: there is none.
struct Owner {
  OwnerRecord* record = nullptr;
  OwnerNumber number = 0;
  [[nodiscard]] explicit operator bool() const { return number != 0; }
};

/// Whether an owner is gone for good, as far as its kind can tell from outside; the host's answer, some system calls.
using OwnerGone = bool (*)(const OwnerIdentity& identity, const OwnerTrace* trace);

/// The owners of local storage in one instance: who they are, what they have, and that nothing of theirs outlives them.
///
/// What it is: one file of the instance, `owners`, which all its processes map. An owner is a record, found by its
///   identity in a hash table, or by its number. Its elements lie in the files of the maps.
/// Layout:
///
///     heads --> record --> record          chains; a lock for every 256th
///               | number, identity         who
///               | cache[16]                the element in the map of that cache slot: map id, cell
///               | entries [5] --> [5] -->  all elements: map id, cell
///               ' trace                    how a stranger finds out whether it is gone
///
///     map 7's file:  words [ live, owner 4711 | retired | ... ]    values [ .... ][ .... ]
///
/// Operations: find, find_or_make, make (owners that have no identity outside), destroy; local_storage.h on the
/// elements
///   of one; register_map / unregister_map; sweep, a bounded step after what died while nobody looked.
///
/// Invariants
///   O1 An element is its owner's while an entry of the owner names it. An element's word says whose it is, so that an
///      element without an entry (its maker died, or its owner while nobody had the map) is known as such by whoever
///      meets it, and is freed once: under its owner's lock, or, without an owner, by a compare-and-swap of its word.
///   O2 What a cache slot names, an entry names: it is emptied before the entry and filled after it.
///   O3 A number is never given twice; so a stale entry or word finds nothing, or the owner that it is about.
///   O4 Entries of maps that have gone are stale and mean nothing: ids are not given twice. They are dropped when room
///      is needed, and do not count then.
/// Ordering guarantees
///   1 Who finds an entry sees the whole value (publish(), then the entry's release; acquire when it is read).
///   2 After destroy() has returned, and its caller's section has ended, nobody reaches an element of the owner.
/// Progress: finding writes nothing and waits for nobody. Making and destroying wait for locks whose holders die or are
///   bounded in time.
/// Reclamation: records, blocks and traces are cells of slabs (slab.h).
/// Locks: an owner's, then a stripe's. The lock of the table of maps alone.
/// A process that dies in between leaves: a record without a place in its chain (sweep), an element without an entry
///   (sweep of its map), an owner whose number is 0 and whose record is live (sweep finishes the destruction).
/// Limits and errno: ENOMEM: 1,048,576 owners at a time, no memory; ETIMEDOUT, EDEADLK from locks.
class Owners : public std::enable_shared_from_this<Owners> {
 public:
  /// Those of the machine's instance; made when they are missing, or ENOENT. One per machine and process.
  static Result<std::shared_ptr<Owners>> open(Machine& machine, bool make = true);
  Owners(Segment window, Machine& machine);
  ~Owners();
  Owners(const Owners&) = delete;
  Owners& operator=(const Owners&) = delete;

  [[nodiscard]] Machine& machine() const { return machine_; }

  // -- owners, inside a lease or reader section ----------------------------------------------------------------------
  [[nodiscard]] Owner find(const OwnerIdentity& identity) const;
  /// The owner of that number, if it lives.
  [[nodiscard]] Owner find(OwnerNumber number) const {
    const uint32_t index = owner_index(number);
    if (number == 0 || index >= records_.seen() || records_.meaning(index) != number) return {};
    OwnerRecord& record = this->record(index);
    if (record.number.load(std::memory_order_acquire) != number) return {};
    return {.record = &record, .number = number};
  }
  /// `trace` may be null. ENOMEM, ETIMEDOUT, EDEADLK.
  Result<Owner> find_or_make(const Lease& lease, const OwnerIdentity& identity, const OwnerTrace* trace);
  /// An owner that nobody finds by its identity: the first word is 0, the second this process's tag. It is gone when
  /// the process is.
  Result<Owner> make(const Lease& lease, const OwnerIdentity& identity);
  /// Frees the owner and all its elements: those in maps that this process has mapped at once, the others when somebody
  /// who has their map comes across them. Nothing where it is gone already. ETIMEDOUT, EDEADLK: it is not done yet.
  Status destroy(const Lease& lease, OwnerNumber number);

  // -- maps ----------------------------------------------------------------------------------------------------------
  /// The cache slot of a map, chosen when it is first asked for: one that the fewest maps of that kind of owner have.
  Result<uint32_t> register_map(const Lease& lease, uint32_t map, OwnerKind kind);
  /// The map is gone: its entries do not count any more. Waits for nobody.
  void unregister_map(uint32_t map);
  /// The same, for who may have no owners: nothing is made.
  static void map_is_gone(Machine& machine, uint32_t map);
  [[nodiscard]] bool knows_map(uint32_t map) const;

  // -- what nobody looked after --------------------------------------------------------------------------------------
  /// Looks at `count` records, and at as many blocks and traces; destroys owners of which `gone` says so, and finishes
  /// what dead processes had begun. Waits for nobody who lives.
  void sweep(const Lease& lease, uint32_t count, OwnerGone gone);
  /// Looks at everything: as long as it takes.
  void sweep_all(const Lease& lease, OwnerGone gone);
  /// A cell of the part was met that is live for `owner`: frees it if it is nobody's.
  void check_element(const Lease& lease, const StoragePart& part, uint32_t cell, OwnerNumber owner);

  struct Census {
    uint32_t owners = 0;
    uint32_t entries = 0;  // of maps that exist
    uint64_t charged = 0;
    uint32_t blocks = 0, traces = 0;
    uint32_t chunks = 0;      // of the slabs of all three, with memory: 64 KiB each
    uint32_t unfinished = 0;  // what dead processes left to be swept, and what living ones are about to do
    std::string problem;      // the first invariant that does not hold; only while nobody changes anything
  };
  [[nodiscard]] Census census() const;
  /// An entry of an owner that names what is not its element in that map; empty: there is none. As census().
  [[nodiscard]] std::string problem_of(const StoragePart& part) const;

 private:
  friend class LocalStorage;
  static constexpr uint64_t kMostBlocks = OwnersControl::kMostMaps;  // of one owner; bounds walks over damaged chains

  [[nodiscard]] OwnerRecord& record(uint32_t index) const {
    return *reinterpret_cast<OwnerRecord*>(records_.bytes(index));
  }
  [[nodiscard]] EntryBlock& block(uint32_t cell) const { return *reinterpret_cast<EntryBlock*>(blocks_.bytes(cell)); }
  [[nodiscard]] std::atomic<uint32_t>& head(const OwnerIdentity& identity) const;
  [[nodiscard]] std::atomic<uint64_t>& stripe(const OwnerIdentity& identity) const;
  [[nodiscard]] EntryBlock* next_block(const EntryBlock& block) const;
  Result<Owner> make_record(const Lease& lease, const OwnerIdentity& identity, const OwnerTrace* trace);
  Status unlink_from_chain(const Lease& lease, OwnerRecord& record, uint32_t index, bool patient);
  [[nodiscard]] bool has_place(const Lease& lease, const OwnerRecord& record, uint32_t index) const;
  Status destroy(const Lease& lease, OwnerNumber number, bool patient);
  [[nodiscard]] StorageMapRow* row_of(uint32_t map) const;
  void release_elements(OwnerRecord& record, OwnerNumber number);
  void look_at_owner(const Lease& lease, uint32_t index, OwnerNumber number, OwnerGone gone);
  void look_at_block(const Lease& lease, uint32_t cell, OwnerNumber number);

  Segment window_;
  Machine& machine_;
  OwnersControl& control_;
  const OwnersLayout layout_;
  Slab records_;
  Slab blocks_;
  Slab traces_;
};

}  // namespace skep
