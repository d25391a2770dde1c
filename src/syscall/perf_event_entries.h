// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "syscall/caller.h"

namespace skep {

// An entry of a PERF_EVENT_ARRAY goes with the open file description of the map through which it was made, unless the
// map is BPF_F_PRESERVE_ELEMS. That description holds a lock (F_OFD_SETLK) on the byte of the map's file that the
// insertion's number names; the operating system releases it with the description, however that ends. Whoever closes a
// descriptor under the preload library looks, whoever changes the entry, and a program that finds a ring full.

/// Whether the description that made the entry with this word is still open.
[[nodiscard]] bool insertion_is_open(const Map& map, uint64_t word);

/// Takes out the entries of the map `id` whose descriptions were closed. Not under a lease.
void drop_closed_insertions(Process& process, uint32_t id);

}  // namespace skep
