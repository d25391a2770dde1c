// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "syscall/caller.h"

namespace skep {

// A map's users are the descriptors and the pins of clients; programs that hold it are not. What some kinds keep goes
// with the last user, also where a program holds the map. Nobody need notice at that moment: whoever closes a
// descriptor under the preload library does, whoever runs a program that has such a map, whoever opens it by id, and
// the next process that opens the instance.

/// Whether such a map loses something with its last user: its programs, or what the fields of its values own.
[[nodiscard]] inline bool ends_with_users(const MapSpec& spec) {
  return spec.type == BPF_MAP_TYPE_PROG_ARRAY || spec.fields.any_owner();
}

/// Takes that out of the map if it is such a map and nobody uses it. Costs three system calls where somebody does. Not
/// under a lease.
void map_lost_its_users(Process& process, uint32_t id);

}  // namespace skep
