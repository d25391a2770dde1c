// SPDX-License-Identifier: Apache-2.0
#include <cerrno>

#include "machine/numa_node.h"
#include "maps/arena_map.h"
#include "prog/helpers.h"

namespace skep::helpers {
namespace {

ArenaMap* arena_of(uint64_t map) { return memory<const MapBinding>(map)->arena; }

}  // namespace

uint64_t arena_alloc_pages(Run& run, uint64_t map, uint64_t address, uint64_t count, uint64_t node, uint64_t flags) {
  constexpr auto kAnyNode = static_cast<uint32_t>(-1);
  ArenaMap* const arena = arena_of(map);
  if (arena == nullptr || flags != 0) return 0;
  if (static_cast<uint32_t>(node) != kAnyNode && !numa_node_exists(static_cast<uint32_t>(node))) return 0;
  return arena->allocate(run.lease(), address, static_cast<uint32_t>(count));
}

uint64_t arena_free_pages(Run& run, uint64_t map, uint64_t address, uint64_t count, uint64_t, uint64_t) {
  ArenaMap* const arena = arena_of(map);
  if (arena != nullptr && address != 0) arena->release(run.lease(), address, static_cast<uint32_t>(count));
  return 0;
}

uint64_t arena_reserve_pages(Run& run, uint64_t map, uint64_t address, uint64_t count, uint64_t, uint64_t) {
  ArenaMap* const arena = arena_of(map);
  if (arena == nullptr) return error_value(EINVAL);
  const Status status = arena->reserve(run.lease(), address, static_cast<uint32_t>(count));
  return status ? 0 : error_value(to_int(status.error()));
}

}  // namespace skep::helpers
