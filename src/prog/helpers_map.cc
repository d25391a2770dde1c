// SPDX-License-Identifier: Apache-2.0
#include <cerrno>
#include <cstring>

#include "prog/helpers.h"

namespace skep::helpers {
namespace {

uint64_t status_value(const Status& status) { return status ? 0 : error_value(to_int(status.error())); }

uint64_t granted(Run& run, const MapBinding& map, void* value) {
  return value == nullptr ? 0 : run.grant_value(map, value);
}

/// Whether the program may use the values of the map as memory; stops the run otherwise.
bool has_values(Run& run, const MapBinding& map) {
  if (map.values == ValueMeaning::kBytes) [[likely]]
    return true;
  run.stop(EINVAL, "programs cannot use the values of a map of that type");
  return false;
}

/// The kinds that bpf_for_each_map_elem() exists for.
bool can_be_walked(uint32_t type) {
  switch (type) {
    case BPF_MAP_TYPE_ARRAY:
    case BPF_MAP_TYPE_PERCPU_ARRAY:
    case BPF_MAP_TYPE_HASH:
    case BPF_MAP_TYPE_PERCPU_HASH:
    case BPF_MAP_TYPE_LRU_HASH:
    case BPF_MAP_TYPE_LRU_PERCPU_HASH:
    case BPF_MAP_TYPE_RHASH:
      return true;
    default:
      return false;
  }
}

constexpr const char* kReadOnlyMap =
    "the map may not be written by programs (BPF_F_RDONLY_PROG), or not by this process";

}  // namespace

uint64_t map_lookup_elem(Run& run, uint64_t a, uint64_t b, uint64_t, uint64_t, uint64_t) {
  const auto& map = *memory<const MapBinding>(a);
  if (!has_values(run, map)) return 0;
  return granted(run, map, map.map->find(run.lease(), memory<const void>(b)));
}

uint64_t map_lookup_percpu_elem(Run& run, uint64_t a, uint64_t b, uint64_t c, uint64_t, uint64_t) {
  const auto& map = *memory<const MapBinding>(a);
  if (!has_values(run, map)) return 0;
  return granted(run, map, map.map->find_percpu(run.lease(), memory<const void>(b), static_cast<uint32_t>(c)));
}

uint64_t map_update_elem(Run& run, uint64_t a, uint64_t b, uint64_t c, uint64_t d, uint64_t) {
  const auto& map = *memory<const MapBinding>(a);
  if (!has_values(run, map)) return 0;
  if (!map.writable) {
    run.stop(EINVAL, kReadOnlyMap);
    return 0;
  }
  return status_value(map.map->update_from_program(run.lease(), memory<const void>(b), memory<const void>(c), d));
}

uint64_t map_delete_elem(Run& run, uint64_t a, uint64_t b, uint64_t, uint64_t, uint64_t) {
  const auto& map = *memory<const MapBinding>(a);
  if (!has_values(run, map)) return 0;
  if (!map.writable) {
    run.stop(EINVAL, kReadOnlyMap);
    return 0;
  }
  return status_value(map.map->erase(run.lease(), memory<const void>(b)));
}

uint64_t for_each_map_elem(Run& run, uint64_t a, uint64_t b, uint64_t c, uint64_t d, uint64_t) {
  const auto& map = *memory<const MapBinding>(a);
  const auto& callback = *memory<const FunctionEntry>(b);
  if (!can_be_walked(map.map->spec().type)) {
    run.stop(EINVAL, "bpf_for_each_map_elem() does not know maps of that type");
    return 0;
  }
  if (d != 0) return error_value(EINVAL);
  const auto calls = map.map->for_each(run.lease(), [&](const void* key, void* value) {
    // A short key may be the walk's own variable: the program gets it in memory that outlives the callback.
    if (map.key_size <= sizeof(uint64_t)) key = std::memcpy(&run.callback_key(), key, map.key_size);
    run.grant_constant(key, map.key_size);
    const uint64_t granted_value = run.grant_value(map, value);
    const uint64_t verdict = run.call_function(callback, a, reinterpret_cast<uint64_t>(key), granted_value, c);
    return verdict == 0 && run.stopped() == 0 ? Visit::kContinue : Visit::kStop;
  });
  return calls ? *calls : error_value(to_int(calls.error()));
}

uint64_t loop(Run& run, uint64_t a, uint64_t b, uint64_t c, uint64_t d, uint64_t) {
  const auto count = static_cast<uint32_t>(a);
  const auto& callback = *memory<const FunctionEntry>(b);
  if (d != 0) return error_value(EINVAL);
  if (count > Run::kMaxLoops) return error_value(E2BIG);
  for (uint32_t i = 0; i < count; ++i) {
    const uint64_t verdict = run.call_function(callback, i, c, 0);
    if (verdict != 0 || run.stopped() != 0) return i + 1;
  }
  return count;
}

uint64_t spin_lock(Run& run, uint64_t a, uint64_t, uint64_t, uint64_t, uint64_t) { return run.lock_value(a); }
uint64_t spin_unlock(Run& run, uint64_t a, uint64_t, uint64_t, uint64_t, uint64_t) { return run.unlock_value(a); }

uint64_t res_spin_lock(Run& run, uint64_t a, uint64_t, uint64_t, uint64_t, uint64_t) {
  return int_value(run.lock_resilient(a));
}
uint64_t res_spin_unlock(Run& run, uint64_t a, uint64_t, uint64_t, uint64_t, uint64_t) {
  run.unlock_resilient(a);
  return 0;
}

}  // namespace skep::helpers
