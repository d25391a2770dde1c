// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cerrno>
#include <cstdint>
#include <cstring>

#include "memory/result.h"
#include "skep/abi.h"

namespace skep {

/// What the array kinds share: u32 keys of which every one below max_entries exists.

inline uint32_t load_index(const void* key) {
  uint32_t index;
  std::memcpy(&index, key, sizeof(index));
  return index;
}

/// BPF_MAP_GET_NEXT_KEY of an array: no key or one out of range: 0; the last one: ENOENT.
inline Status next_index(uint32_t max_entries, const void* key, void* next) {
  uint32_t index = key == nullptr ? UINT32_MAX : load_index(key);
  if (index == max_entries - 1) return fail(ENOENT);
  index = index >= max_entries ? 0 : index + 1;
  std::memcpy(next, &index, sizeof(index));
  return {};
}

/// The checks of an update in the kernel's order: flags, index, existence.
inline Status check_index_update(uint32_t max_entries, uint32_t index, uint64_t flags) {
  if ((flags & (BPF_NOEXIST | BPF_EXIST)) == (BPF_NOEXIST | BPF_EXIST)) return fail(EINVAL);
  if (index >= max_entries) return fail(E2BIG);
  if ((flags & BPF_NOEXIST) != 0) return fail(EEXIST);
  return {};
}

}  // namespace skep
