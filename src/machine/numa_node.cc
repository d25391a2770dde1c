// SPDX-License-Identifier: Apache-2.0
#include "machine/numa_node.h"

#include <unistd.h>

#include <cstdio>

namespace skep {

bool numa_node_exists(uint32_t node) {
  char path[64];
  std::snprintf(path, sizeof path, "/sys/devices/system/node/node%u", node);
  return node == 0 || ::access(path, F_OK) == 0;
}

}  // namespace skep
