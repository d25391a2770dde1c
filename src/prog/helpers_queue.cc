// SPDX-License-Identifier: Apache-2.0
#include <skep/abi.h>

#include <cerrno>
#include <cstring>

#include "prog/helpers.h"

namespace skep::helpers {
namespace {

uint64_t status_value(const Status& status) { return status ? 0 : error_value(to_int(status.error())); }

/// Whether the map has the operation at all; else the run is over.
bool has_operation(Run& run, const MapBinding& map, bool bloom_too) {
  const uint32_t type = map.map->spec().type;
  if (type == BPF_MAP_TYPE_QUEUE || type == BPF_MAP_TYPE_STACK) [[likely]]
    return true;
  if (bloom_too && type == BPF_MAP_TYPE_BLOOM_FILTER) return true;
  run.stop(EINVAL, "the map is of a type that has no such operation");
  return false;
}

bool may_change(Run& run, const MapBinding& map) {
  if (map.writable) [[likely]]
    return true;
  run.stop(EINVAL, "the map may not be written by programs (BPF_F_RDONLY_PROG)");
  return false;
}

/// A program may rely on what the kernel does: the buffer is zeros where there was nothing to give.
uint64_t given(const MapBinding& map, uint64_t buffer, const Status& status) {
  if (!status) [[unlikely]]
    std::memset(memory<void>(buffer), 0, map.value_size);
  return status_value(status);
}

}  // namespace

uint64_t map_push_elem(Run& run, uint64_t a, uint64_t b, uint64_t c, uint64_t, uint64_t) {
  const auto& map = *memory<const MapBinding>(a);
  if (!has_operation(run, map, true) || !may_change(run, map)) return 0;
  return status_value(map.map->update_from_program(run.lease(), nullptr, memory<const void>(b), c));
}

uint64_t map_pop_elem(Run& run, uint64_t a, uint64_t b, uint64_t, uint64_t, uint64_t) {
  const auto& map = *memory<const MapBinding>(a);
  if (!has_operation(run, map, false) || !may_change(run, map)) return 0;
  return given(map, b, map.map->take(run.lease(), nullptr, memory<void>(b), 0));
}

uint64_t map_peek_elem(Run& run, uint64_t a, uint64_t b, uint64_t, uint64_t, uint64_t) {
  const auto& map = *memory<const MapBinding>(a);
  if (!has_operation(run, map, true)) return 0;
  const Status status = map.map->lookup(nullptr, memory<void>(b), 0);
  // A filter is asked about what stands in the buffer.
  return map.map->spec().type == BPF_MAP_TYPE_BLOOM_FILTER ? status_value(status) : given(map, b, status);
}

}  // namespace skep::helpers
