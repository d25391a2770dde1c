// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "syscall/caller.h"

namespace skep {

// The element commands on maps of local storage, whose keys are descriptors: of a task, a cgroup, a socket, an inode.

/// Whether the descriptor is such a map.
bool is_storage(Process& process, uint32_t map_fd);

Answer storage_lookup_elem(Process& process, uint32_t map_fd, uint64_t key, uint64_t value, uint64_t flags);
Answer storage_update_elem(Process& process, uint32_t map_fd, uint64_t key, uint64_t value, uint64_t flags);
Answer storage_delete_elem(Process& process, uint32_t map_fd, uint64_t key);
Answer storage_take_elem(Process& process, uint32_t map_fd, uint64_t key, uint64_t flags);

}  // namespace skep
