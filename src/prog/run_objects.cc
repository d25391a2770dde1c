// SPDX-License-Identifier: Apache-2.0
#include "prog/run_objects.h"

#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>

#include "btf/kernel_btf.h"
#include "machine/kernel_objects.h"
#include "storage/object_owner.h"
#include "storage/owner_source.h"

namespace skep {
namespace {

/// Where the members lie that programs may read; none where this host does not show its kernel's types.
struct Members {
  std::optional<uint32_t> task_pid, task_tgid, task_cgroups, cgroups_cgroup, cgroup_node, node_id;

  static const Members& get() {
    static const Members members = [] {
      Members found;
      const auto types = KernelBtf::read();
      if (!types) return found;
      const auto offset = [&](const char* name, const char* member) -> std::optional<uint32_t> {
        const auto where = types->member(types->find(BtfKind::kStruct, name), member);
        return where ? std::optional(where->offset) : std::nullopt;
      };
      found.task_pid = offset("task_struct", "pid");
      found.task_tgid = offset("task_struct", "tgid");
      found.task_cgroups = offset("task_struct", "cgroups");
      found.cgroups_cgroup = offset("css_set", "dfl_cgrp");
      found.cgroup_node = offset("cgroup", "kn");
      found.node_id = offset("kernfs_node", "id");
      return found;
    }();
    return members;
  }
};

constexpr pid_t kNoThread = -1;

pid_t own_thread() { return static_cast<pid_t>(::syscall(SYS_gettid)); }

}  // namespace

uint64_t RunObjects::base() {
  static const auto address = reinterpret_cast<uint64_t>(
      ::mmap(nullptr, kMost * kRoom, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0));
  return address;
}

uint64_t RunObjects::add(const Object& object) {
  const auto same = std::ranges::find_if(objects_, [&](const Object& one) {
    return one.kind == object.kind && one.thread == object.thread && one.identity == object.identity;
  });
  if (same != objects_.end()) return address_of(static_cast<size_t>(same - objects_.begin()));
  if (objects_.size() == kMost) return 0;
  objects_.push_back(object);
  return address_of(objects_.size() - 1);
}

uint64_t RunObjects::task(pid_t thread) {
  if (thread == own_thread()) return current_task();
  const auto identity = resolve_thread(thread);
  return identity ? add({.kind = Kind::kTask, .thread = thread, .identity = *identity}) : 0;
}

uint64_t RunObjects::cgroup(uint64_t id) {
  const auto found = find_cgroup(id);
  if (!found) return 0;
  return add({.kind = Kind::kCgroup, .identity = {.kind = OwnerKind::kCgroup, .words = {id, found->device, 0}}});
}

uint64_t RunObjects::ancestor(const Object& cgroup, int level) {
  const auto found = find_cgroup(cgroup.identity.words[0]);
  if (!found || level < 0 || static_cast<size_t>(level) >= found->ids.size()) return 0;
  return this->cgroup(found->ids[static_cast<size_t>(level)]);
}

uint64_t RunObjects::socket() {
  return add({.kind = Kind::kSocket, .identity = {.kind = OwnerKind::kSocket, .words = {}}});
}

RunObjects::Object* RunObjects::find(uint64_t address, Kind kind) {
  const uint64_t offset = address - base();
  if (offset % kRoom != 0 || offset / kRoom >= objects_.size()) return nullptr;
  Object& object = objects_[offset / kRoom];
  return object.kind == kind ? &object : nullptr;
}

RunObjects::Object* RunObjects::find_owner(uint64_t address, Kind kind) {
  if (!ObjectReference::is(address)) [[likely]]
    return find(address, kind);
  application_ = {.kind = kind,
                  .thread = kNoThread,
                  .identity = {.kind = OwnerKind::kObject, .words = {}},
                  .owner = ObjectReference::number(address)};
  return &application_;
}

bool RunObjects::any_acquired() const {
  return std::ranges::any_of(objects_, [](const Object& object) { return object.acquired != 0; });
}

bool RunObjects::load(uint64_t address, uint32_t size, uint64_t& value) {
  const uint64_t offset = address - base();
  if (offset / kRoom >= objects_.size()) return false;
  const Object object = objects_[offset / kRoom];
  const Members& members = Members::get();
  const auto is = [&](const std::optional<uint32_t>& member, uint32_t bytes) {
    return member && offset % kRoom == *member && size == bytes;
  };
  const pid_t thread = object.thread != 0 ? object.thread : own_thread();
  switch (object.kind) {
    case Kind::kTask:
      if (is(members.task_pid, 4)) {
        value = static_cast<uint32_t>(thread);
      } else if (is(members.task_tgid, 4)) {
        value = static_cast<uint32_t>(object.thread == 0 ? ::getpid() : process_of(thread));
      } else if (is(members.task_cgroups, 8)) {
        value = add({.kind = Kind::kTaskCgroups, .thread = object.thread, .identity = {}});
      } else {
        return false;
      }
      return true;
    case Kind::kTaskCgroups: {
      if (!is(members.cgroups_cgroup, 8)) return false;
      const auto ids = cgroups_of(object.thread);
      value = ids.empty() ? 0 : cgroup(ids.back());
      return true;
    }
    case Kind::kCgroup:
      if (!is(members.cgroup_node, 8)) return false;
      value = add({.kind = Kind::kCgroupNode, .identity = object.identity});
      return true;
    case Kind::kCgroupNode:
      if (!is(members.node_id, 8)) return false;
      value = object.identity.words[0];
      return true;
    case Kind::kSocket:
      return false;
  }
  return false;
}

Owner RunObjects::owner_of(const Lease& lease, Object& object, Owners& owners, bool make) {
  if (object.kind == Kind::kTask && object.thread == 0) {
    const auto current = find_current_task(lease, owners, make);
    return current ? *current : Owner{};
  }
  if (object.identity.kind == OwnerKind::kObject) {
    return ObjectReference::find(owners, ObjectReference::to(object.owner));
  }
  if (object.kind == Kind::kSocket) {
    if (object.owner == 0 && make) {
      object.identity.words = {0, lease.process().value, 0};
      const auto made = owners.make(lease, object.identity);
      object.owner = made ? made->number : 0;
      object.owners = &owners;
    }
    return owners.find(object.owner);
  }
  if (const Owner found = owners.find(object.identity); found || !make) return found;
  OwnerTrace trace{};
  if (object.kind == Kind::kTask) {
    trace = trace_thread(object.thread);
  } else if (const auto found = find_cgroup(object.identity.words[0]); found) {
    trace = trace_cgroup(found->path);
  } else {
    return {};
  }
  const auto made = owners.find_or_make(lease, object.identity, &trace);
  return made ? *made : Owner{};
}

void RunObjects::reset(const Lease* lease) {
  if (objects_.size() > 1) {
    for (const Object& object : objects_) {
      if (object.owner != 0 && lease != nullptr) static_cast<void>(object.owners->destroy(*lease, object.owner));
    }
    objects_.resize(1);
  }
  objects_[0] = {};
}

}  // namespace skep
