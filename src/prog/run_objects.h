// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <optional>
#include <vector>

#include "machine/lease.h"
#include "storage/current_task.h"
#include "storage/owners.h"

namespace skep {

/// What stands for the kernel's tasks, cgroups and sockets in the registers of one run.
///
/// An object is an address in a part of the address space in which nothing lies: a program hands it to helpers, which
/// find out what it is, and reads the few members that lead from one object to another (task->cgroups->dfl_cgrp,
/// cgroup->kn->id, task->pid). Where they lie in the running kernel's structs its types tell; everything else there
/// belongs to nobody, so that reading it stops the program.
class RunObjects {
 public:
  enum class Kind : uint8_t { kTask, kTaskCgroups, kCgroup, kCgroupNode, kSocket };
  struct Object {
    Kind kind = Kind::kTask;
    pid_t thread = 0;  // tasks and what was reached from them: the thread's number; 0: the one that runs the program
    OwnerIdentity identity;
    OwnerNumber owner = 0;  // sockets of the run: their owner, once they have storage; objects of the application
    Owners* owners = nullptr;
    uint64_t cookie = 0;    // sockets of the run: theirs, once it was asked for
    uint32_t acquired = 0;  // references that the program has to give back
  };

  RunObjects() : objects_(1) {}

  /// The task that runs the program.
  [[nodiscard]] static uint64_t current_task() { return address_of(0); }
  /// A task by its number in this process's PID namespace; 0: there is none.
  uint64_t task(pid_t thread);
  /// The cgroup with that id (its inode's number in the unified hierarchy); 0: it cannot be seen.
  uint64_t cgroup(uint64_t id);
  /// The cgroup `level` steps below the root on the way to that one; 0: there is none.
  uint64_t ancestor(const Object& cgroup, int level);
  /// The socket of the packet that the program runs on.
  uint64_t socket();

  /// The object at that address, of that kind; null: something else.
  [[nodiscard]] Object* find(uint64_t address, Kind kind);
  /// The same for whom storage is asked: also an object of the application, by its reference (storage/object_owner.h),
  /// which is good for one call.
  [[nodiscard]] Object* find_owner(uint64_t address, Kind kind);
  void acquire(uint64_t address) { ++objects_[index_of(address)].acquired; }
  [[nodiscard]] bool any_acquired() const;
  /// A load from one of the members that exist. False: there is none at that address.
  bool load(uint64_t address, uint32_t size, uint64_t& value);

  /// The object as an owner of storage; 0 where it is none yet and `make` is false, or it cannot be made one.
  Owner owner_of(const Lease& lease, Object& object, Owners& owners, bool make);
  /// The run has ended: everything is forgotten, and what belongs to the run is destroyed.
  void reset(const Lease* lease);

 private:
  static constexpr uint64_t kRoom = uint64_t{1} << 16;  // for each object: more than any struct has
  static constexpr uint64_t kMost = 1024;
  static uint64_t base();
  static uint64_t address_of(size_t index) { return base() + index * kRoom; }
  static size_t index_of(uint64_t address) { return (address - base()) / kRoom; }
  uint64_t add(const Object& object);

  std::vector<Object> objects_;  // the first is the current task
  Object application_;           // what find_owner() made of a reference
};

}  // namespace skep
