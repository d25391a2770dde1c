// SPDX-License-Identifier: Apache-2.0
// Local storage: what tasks, cgroups and the sockets of packets have in maps of their kind.
#include <atomic>
#include <cerrno>

#include "maps/storage_map.h"
#include "prog/helpers.h"
#include "storage/storage_busy.h"

namespace skep::helpers {
namespace {

using Kind = RunObjects::Kind;

constexpr uint64_t kCreate = 1;  // BPF_LOCAL_STORAGE_GET_F_CREATE

/// The map of that kind of owner; null: another one, and the run is stopped.
StorageMap* storage_of(Run& run, uint64_t a, OwnerKind kind) {
  const auto& binding = *memory<const MapBinding>(a);
  if (binding.storage != nullptr && binding.storage->owner_kind() == kind) [[likely]]
    return binding.storage;
  run.stop(EINVAL, "the map is not one of storage of that kind of owner");
  return nullptr;
}

/// Whether the program must leave the storage of that kind of owner as it is, since it interrupts an operation on such:
/// the kernel's counters. Of tasks, SYSCALL programs and iterators never do; of cgroups, every program may.
bool must_leave(const Run& run, const StorageBusy& busy, OwnerKind owner) {
  if (busy.first()) return false;
  if (owner == OwnerKind::kTask) return (helper_type_bit(run.code().type) & (kSyscall | kIterator)) == 0;
  return owner == OwnerKind::kCgroup;
}

uint64_t storage_get(Run& run, uint64_t a, uint64_t b, uint64_t c, uint64_t d, OwnerKind owner, Kind kind) {
  StorageMap* const map = storage_of(run, a, owner);
  if (map == nullptr || (d & ~kCreate) != 0) return 0;
  RunObjects::Object* const object = run.objects().find_owner(b, kind);
  if (object == nullptr) return 0;
  const auto& binding = *memory<const MapBinding>(a);
  // What is there is given to everybody; StorageBusy is about making what is not.
  Owner who = run.objects().owner_of(run.lease(), *object, map->owners(), false);
  if (who) {
    if (void* const value = map->get(run.lease(), who); value != nullptr) return run.grant_value(binding, value);
  }
  if ((d & kCreate) == 0) return 0;
  const StorageBusy busy(owner);
  if (must_leave(run, busy, owner)) return 0;
  if (!who) who = run.objects().owner_of(run.lease(), *object, map->owners(), true);
  void* const value = who ? map->get_or_make(run.lease(), who, memory<const void>(c)) : nullptr;
  return value == nullptr ? 0 : run.grant_value(binding, value);
}

uint64_t storage_delete(Run& run, uint64_t a, uint64_t b, OwnerKind owner, Kind kind) {
  StorageMap* const map = storage_of(run, a, owner);
  if (map == nullptr) return 0;
  RunObjects::Object* const object = run.objects().find_owner(b, kind);
  if (object == nullptr) return error_value(EINVAL);
  const StorageBusy busy(owner);
  const bool leave = must_leave(run, busy, owner);
  if (leave && owner == OwnerKind::kCgroup) return error_value(EBUSY);  // whether there is anything or not
  const Owner who = run.objects().owner_of(run.lease(), *object, map->owners(), false);
  if (!who || map->get(run.lease(), who) == nullptr) return error_value(ENOENT);
  if (leave) return error_value(EBUSY);
  const Status erased = map->erase(run.lease(), who);
  return erased ? 0 : error_value(to_int(erased.error()));
}

}  // namespace

uint64_t task_storage_get(Run& run, uint64_t a, uint64_t b, uint64_t c, uint64_t d, uint64_t) {
  return storage_get(run, a, b, c, d, OwnerKind::kTask, Kind::kTask);
}
uint64_t task_storage_delete(Run& run, uint64_t a, uint64_t b, uint64_t, uint64_t, uint64_t) {
  return storage_delete(run, a, b, OwnerKind::kTask, Kind::kTask);
}
uint64_t cgrp_storage_get(Run& run, uint64_t a, uint64_t b, uint64_t c, uint64_t d, uint64_t) {
  return storage_get(run, a, b, c, d, OwnerKind::kCgroup, Kind::kCgroup);
}
uint64_t cgrp_storage_delete(Run& run, uint64_t a, uint64_t b, uint64_t, uint64_t, uint64_t) {
  return storage_delete(run, a, b, OwnerKind::kCgroup, Kind::kCgroup);
}
uint64_t sk_storage_get(Run& run, uint64_t a, uint64_t b, uint64_t c, uint64_t d, uint64_t) {
  return storage_get(run, a, b, c, d, OwnerKind::kSocket, Kind::kSocket);
}
uint64_t sk_storage_delete(Run& run, uint64_t a, uint64_t b, uint64_t, uint64_t, uint64_t) {
  return storage_delete(run, a, b, OwnerKind::kSocket, Kind::kSocket);
}

uint64_t get_current_task_btf(Run&, uint64_t, uint64_t, uint64_t, uint64_t, uint64_t) {
  return RunObjects::current_task();
}

uint64_t task_from_pid(Run& run, uint64_t a, uint64_t, uint64_t, uint64_t, uint64_t) {
  const uint64_t task = run.objects().task(static_cast<pid_t>(a));
  if (task != 0) run.objects().acquire(task);
  return task;
}
uint64_t cgroup_from_id(Run& run, uint64_t a, uint64_t, uint64_t, uint64_t, uint64_t) {
  const uint64_t cgroup = run.objects().cgroup(a);
  if (cgroup != 0) run.objects().acquire(cgroup);
  return cgroup;
}
uint64_t object_acquire(Run& run, uint64_t a, uint64_t, uint64_t, uint64_t, uint64_t) {
  run.objects().acquire(a);
  return a;
}
uint64_t cgroup_ancestor(Run& run, uint64_t a, uint64_t b, uint64_t, uint64_t, uint64_t) {
  const uint64_t cgroup = run.objects().ancestor(*run.objects().find(a, Kind::kCgroup), static_cast<int>(b));
  if (cgroup != 0) run.objects().acquire(cgroup);
  return cgroup;
}
uint64_t task_release(Run& run, uint64_t a, uint64_t, uint64_t, uint64_t, uint64_t) {
  --run.objects().find(a, Kind::kTask)->acquired;
  return 0;
}
uint64_t cgroup_release(Run& run, uint64_t a, uint64_t, uint64_t, uint64_t, uint64_t) {
  --run.objects().find(a, Kind::kCgroup)->acquired;
  return 0;
}

uint64_t get_socket_cookie(Run& run, uint64_t a, uint64_t, uint64_t, uint64_t, uint64_t) {
  // Of the packet's socket, which has none on the host: numbers that the host does not give.
  static std::atomic<uint64_t> next{0};
  RunObjects::Object* const socket = a == 0 ? nullptr : run.objects().find(run.objects().socket(), Kind::kSocket);
  if (socket == nullptr) return 0;
  if (socket->cookie == 0) socket->cookie = uint64_t{1} << 63 | (next.fetch_add(1, std::memory_order_relaxed) + 1);
  return socket->cookie;
}

}  // namespace skep::helpers
