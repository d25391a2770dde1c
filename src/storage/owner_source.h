// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <sys/types.h>

#include <string>

#include "memory/result.h"
#include "storage/owner_layout.h"

namespace skep {

/// Where the host's tasks, cgroups, sockets and inodes are turned into owners: one row for each kind.
struct OwnerSource {
  OwnerKind kind;
  /// Who a client's descriptor stands for. Errors as Linux 6.18 has them for the key of a storage map. The descriptor
  /// is borrowed. Any thread; some system calls.
  Result<OwnerIdentity> (*resolve)(int fd);
  /// What gone() will need to know; for a descriptor that resolve() has just taken.
  OwnerTrace (*trace)(int fd);
  /// Whether it is gone for good. False where that cannot be told from here.
  bool (*gone)(const OwnerIdentity& identity, const OwnerTrace& trace);
};

extern const OwnerSource kTaskOwners;    // task_owner.cc
extern const OwnerSource kCgroupOwners;  // cgroup_owner.cc
extern const OwnerSource kSocketOwners;  // socket_owner.cc
extern const OwnerSource kInodeOwners;   // inode_owner.cc

/// The row; null for kObject.
const OwnerSource* find_owner_source(OwnerKind kind);
/// For Owners::sweep().
bool is_gone(const OwnerIdentity& identity, const OwnerTrace* trace);

/// The identity of a thread of the host by its number in this process's PID namespace: what a pidfd of it resolves to.
/// ESRCH: there is none.
Result<OwnerIdentity> resolve_thread(pid_t thread);
OwnerTrace trace_thread(pid_t thread);
/// What trace() says of a cgroup's directory.
OwnerTrace trace_cgroup(const std::string& path);

}  // namespace skep
