// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "maps/map.h"
#include "syscall/caller.h"

namespace skep {

/// What BPF_MAP_CREATE of a map of maps takes from attr.inner_map_fd. EBADF: not open; EINVAL: not a map, or itself a
/// map of maps; 524: a kind that cannot be inside another map.
Result<InnerTemplate> inner_template(Caller& caller);

}  // namespace skep
