// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "syscall/caller.h"

namespace skep {

// A map's users are the descriptors and the pins of clients; programs that hold it are not. What some kinds keep goes
// with the last user, also where a program holds the map. Nobody need notice at that moment: whoever closes a
// descriptor under the preload library does, whoever runs a program that has such a map, whoever opens it by id, and
// the next process that opens the instance.

/// Whether maps of that type lose something with their last user.
[[nodiscard]] constexpr bool ends_with_users(uint32_t type) { return type == BPF_MAP_TYPE_PROG_ARRAY; }

/// Empties the map if it is of such a type and nobody uses it. Costs three system calls where somebody does. Not under
/// a lease.
void map_lost_its_users(Process& process, uint32_t id);

}  // namespace skep
