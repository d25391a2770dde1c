// SPDX-License-Identifier: Apache-2.0
#include <cstdio>

#include "cli/command.h"
#include "cli/objects.h"

namespace skep::cli {

int list(Arguments arguments) {
  if (!arguments.empty()) return usage_error("ls takes no arguments");
  const auto instance = open_instance();
  if (!instance) return 1;
  for (const uint32_t id : living(*instance, ObjectKind::kMap)) {
    const auto map = open_map_by_id(*instance, id);
    if (!map) {
      complain("map " + std::to_string(id), map.error());
      continue;
    }
    const MapSpec& spec = (*map)->spec();
    std::printf("map   %6u  %-16.16s %-14s key %u  value %u  max_entries %u\n", id, (*map)->header().name,
                kind_name(**map), spec.key_size, spec.value_size, spec.max_entries);
  }
  for (const uint32_t id : living(*instance, ObjectKind::kProgram)) std::printf("prog  %6u\n", id);
  for (const uint32_t id : living(*instance, ObjectKind::kBtf)) std::printf("btf   %6u\n", id);
  for (const uint32_t id : living(*instance, ObjectKind::kLink)) std::printf("link  %6u\n", id);
  for (const uint32_t id : living(*instance, ObjectKind::kPerfEvent)) std::printf("event %6u\n", id);
  return 0;
}

}  // namespace skep::cli
