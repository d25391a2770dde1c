// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <map>
#include <utility>

#include "object/instance.h"

namespace skep {

/// An object that something keeps alive.
struct HeldObject {
  ObjectKind kind = ObjectKind::kMap;
  uint32_t id = 0;  // 0: none
  auto operator<=>(const HeldObject&) const = default;
};

/// The links by which a map keeps alive what its entries stand for: one link per entry.
///
///   <dir>/holds/bpf-map-<holder>/<kind>-<id>.<any number>
///
/// An object of this class is one change of one map's links, from open() to its destruction: it has the directory's
/// shared flock, so that a sweep, which needs the exclusive one, never sees a change half-way.
///
/// Invariants
///   1. To an object belong at least as many links as there are entries that stand for it: a link is made before its
///      entry is stored, and removed after its entry was taken out. So nothing in a map is ever dead.
///   2. Which of the links of an object belongs to which entry does not matter; the numbers only keep them apart.
///   3. What a dead process left is one link too many. Whoever has the exclusive flock (nobody is changing anything)
///      counts the entries and removes the surplus. Removing the holder removes all links.
/// Any thread and process. Costs three system calls besides the link itself.
class EntryHolds {
 public:
  /// ENOMEM: the file system is full; EMFILE.
  static Result<EntryHolds> open(Instance& instance, ObjectKind holder_kind, uint32_t holder);

  /// The exclusive flock instead of the shared one, if nobody else has either. False: with neither; call share().
  bool try_exclusive();
  /// Back to the shared one.
  Status share();

  /// One more link. The caller has a reference of the object. `hint` is the number to try first: one that other entries
  /// are unlikely to use for the same object. ENOMEM: the file system is full.
  Status add(HeldObject held, uint32_t hint);
  /// One link less, and the object collected if it was the last that kept it.
  void drop(HeldObject held, uint32_t hint);
  /// How many links there are, by object.
  [[nodiscard]] std::map<HeldObject, uint64_t> count() const;

 private:
  EntryHolds(Instance& instance, FileDescriptor directory) : instance_(&instance), directory_(std::move(directory)) {}
  bool unlink_any(HeldObject held);

  Instance* instance_;
  FileDescriptor directory_;
};

}  // namespace skep
