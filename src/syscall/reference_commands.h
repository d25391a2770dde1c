// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "syscall/caller.h"

namespace skep {

// The commands on elements of maps whose values are not bytes (reference_kinds.h): map_elements.cc and map_batch.cc
// hand them over. Each looks the descriptor up again, so they are called outside of every section and lease; checks
// and their order are those of Linux 6.18.

Answer reference_lookup_elem(Process& process, uint32_t map_fd, uint64_t key, uint64_t value, uint64_t flags);
Answer reference_update_elem(Process& process, uint32_t map_fd, uint64_t key, uint64_t value, uint64_t flags);
Answer reference_delete_elem(Process& process, uint32_t map_fd, uint64_t key);
/// LOOKUP_AND_DELETE of one element, which none of these kinds has.
Answer reference_take_elem(Process& process, uint32_t map_fd, uint64_t key, uint64_t flags);

/// One element of an UPDATE_BATCH; `key` and `value` are copies.
Status reference_update(Process& process, const OpenObject& map, int map_fd, const void* key, const void* value,
                        uint64_t flags);
/// Makes the values of a lookup out of `count` words, spec().value_size apart.
Status show_references(Process& process, const OpenObject& map, const uint64_t* words, uint32_t count,
                       std::byte* values);

}  // namespace skep
