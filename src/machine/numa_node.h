// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>

namespace skep {

/// Whether the host has a NUMA node of that number; node 0 always. Costs a system call for others.
[[nodiscard]] bool numa_node_exists(uint32_t node);

}  // namespace skep
