// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <skep/abi.h>

#include "syscall/caller.h"

namespace skep {

// What the map commands ask of a descriptor, in the words of the kernel's map access modes.

/// No errno: the map's keys or values are not bytes, so that the commands of storage_commands.h or reference_commands.h
/// serve it.
inline constexpr Errno kNotBytes{1 << 16};

/// Inside a ReaderSection: the map behind `fd` whose values are bytes, or null and why.
template <bool kAnyValues = false>
[[gnu::always_inline]] inline const OpenObject* find_map(Process& process, uint32_t fd, Errno& error) {
  const OpenObject* object = process.descriptors.believed(static_cast<int>(fd));
  if (object == nullptr) [[unlikely]] {
    const Result<const OpenObject*> found = process.descriptors.find(static_cast<int>(fd));
    if (!found) {
      error = found.error();
      return nullptr;
    }
    object = *found;
  }
  if (kAnyValues ? object->kind == ObjectKind::kMap : object->plain_map) [[likely]]
    return object;
  error = object->kind == ObjectKind::kMap ? kNotBytes : Errno{EINVAL};
  return nullptr;
}

inline Result<std::shared_ptr<const OpenObject>> share_map(Caller& caller, uint32_t fd) {
  return caller.descriptors().share(static_cast<int>(fd), ObjectKind::kMap);
}

[[nodiscard]] inline bool is_frozen(const OpenObject& object) {
  // Pairs with the store in map_freeze(), which waits for a grace period: a writer that asks again under its lease
  // cannot write after BPF_MAP_FREEZE has returned.
  return object.frozen->load(std::memory_order_acquire) != 0;
}

[[nodiscard]] inline bool may_write(const OpenObject& object) { return object.writable && !is_frozen(object); }

/// The flags that clients see: programs cannot write maps of devices and of instructions, whatever was asked for.
[[nodiscard]] inline uint32_t shown_flags(const MapSpec& spec) {
  const bool constant =
      spec.type == BPF_MAP_TYPE_DEVMAP || spec.type == BPF_MAP_TYPE_DEVMAP_HASH || spec.type == BPF_MAP_TYPE_INSN_ARRAY;
  return constant ? spec.flags | BPF_F_RDONLY_PROG : spec.flags;
}

[[nodiscard]] inline bool is_per_cpu(uint32_t type) {
  return type == BPF_MAP_TYPE_PERCPU_HASH || type == BPF_MAP_TYPE_PERCPU_ARRAY ||
         type == BPF_MAP_TYPE_LRU_PERCPU_HASH || type == BPF_MAP_TYPE_PERCPU_CGROUP_STORAGE;
}

[[nodiscard]] inline bool is_hash(uint32_t type) {
  return type == BPF_MAP_TYPE_HASH || type == BPF_MAP_TYPE_PERCPU_HASH || type == BPF_MAP_TYPE_LRU_HASH ||
         type == BPF_MAP_TYPE_LRU_PERCPU_HASH || type == BPF_MAP_TYPE_HASH_OF_MAPS || type == BPF_MAP_TYPE_RHASH;
}

/// The client's key into `to`. EINVAL: a key for a keyless map; EFAULT.
[[gnu::always_inline]] inline Status read_key(const OpenObject& object, uint64_t user_key, void* to) {
  if (object.key_size == 0) {
    if (user_key != 0) return fail(EINVAL);
    return {};
  }
  if (!read_user_inline(to, user_key, object.key_size)) return fail(EFAULT);
  return {};
}

}  // namespace skep
