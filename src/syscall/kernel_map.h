// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <vector>

#include "maps/map.h"

namespace skep {

/// What iterators find behind the map of their context: as many bytes as the running kernel's `struct bpf_map` has,
/// with those members filled in, where the kernel has them, that describe a map to its user: id, name, map_type,
/// key_size, value_size, max_entries, map_flags, map_extra. All else is zero. Empty where the kernel does not show its
/// types. Programs are compiled against those types, or adjusted to them when they are loaded.
std::vector<std::byte> kernel_map(const Map& map);

}  // namespace skep
