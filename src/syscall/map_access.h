// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <skep/abi.h>

#include "syscall/caller.h"

namespace skep {

// What the map commands ask of a descriptor, in the words of the kernel's map access modes.

inline Result<const OpenObject*> find_map(Caller& caller, uint32_t fd) {
  const Result<const OpenObject*> object = caller.descriptors().find(static_cast<int>(fd));
  if (object && (*object)->kind != ObjectKind::kMap) return fail(EINVAL);
  return object;
}

inline Result<std::shared_ptr<const OpenObject>> share_map(Caller& caller, uint32_t fd) {
  return caller.descriptors().share(static_cast<int>(fd), ObjectKind::kMap);
}

[[nodiscard]] inline bool is_frozen(const OpenObject& object) {
  // Pairs with the store in map_freeze(), which waits for a grace period: a writer that asks again under its lease
  // cannot write after BPF_MAP_FREEZE has returned.
  return object.map->header().frozen.load(std::memory_order_acquire) != 0;
}

[[nodiscard]] inline bool may_write(const OpenObject& object) { return object.writable && !is_frozen(object); }

[[nodiscard]] inline bool is_per_cpu(uint32_t type) {
  return type == BPF_MAP_TYPE_PERCPU_HASH || type == BPF_MAP_TYPE_PERCPU_ARRAY ||
         type == BPF_MAP_TYPE_LRU_PERCPU_HASH || type == BPF_MAP_TYPE_PERCPU_CGROUP_STORAGE;
}

[[nodiscard]] inline bool is_hash(uint32_t type) {
  return type == BPF_MAP_TYPE_HASH || type == BPF_MAP_TYPE_PERCPU_HASH || type == BPF_MAP_TYPE_LRU_HASH ||
         type == BPF_MAP_TYPE_LRU_PERCPU_HASH;
}

/// The size of one value in the client's buffer under BPF_F_CPU and BPF_F_ALL_CPUS (one CPU's value) or without them.
/// EINVAL: the map is not per-CPU, both flags; ERANGE: no such CPU.
Result<uint64_t> one_cpu_value_size(const OpenObject& object, uint64_t flags);
inline Result<uint64_t> client_value_size(const OpenObject& object, uint64_t flags) {
  if ((flags & (BPF_F_CPU | BPF_F_ALL_CPUS)) == 0) return object.user_value_size;
  return one_cpu_value_size(object, flags);
}

/// The client's key into `to`. EINVAL: a key for a keyless map; EFAULT.
inline Status read_key(const OpenObject& object, uint64_t user_key, void* to) {
  if (object.key_size == 0) {
    if (user_key != 0) return fail(EINVAL);
    return {};
  }
  if (!read_user(to, user_key, object.key_size)) return fail(EFAULT);
  return {};
}

}  // namespace skep
