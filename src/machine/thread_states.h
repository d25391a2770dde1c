// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>

#include "machine/thread_state.h"

namespace skep {

/// In a forked child: the forking thread's state of that machine loses its leases and its record, which are the
/// parent's, and takes the child's identity. Async-signal-safe.
void leave_to_parent(uint64_t machine_serial, ProcessTag child);

}  // namespace skep
