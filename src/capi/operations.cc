// SPDX-License-Identifier: Apache-2.0
#include <skep/abi.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "capi/handles.h"
#include "machine/lease.h"

namespace skep {
namespace {

/// Runs `body` under a lease of any slot, if writing is allowed.
template <class Body>
int mutate(skep_map* map, const Body& body) {
  if (const int error = write_error(map); error != 0) return error;
  return guarded([&] {
    const Lease lease(map->map->machine());
    return to_code(body(lease));
  });
}

/// The front of a walk's cursor; where the kind is to go on and room for what it answers follow.
struct Cursor {
  enum Place : uint32_t { kStart = 0, kInside = 1, kEnd = 2 };
  uint32_t place;
  uint32_t unused;
};

struct CopyingSink final : BatchSink {
  bool put(const void* key_run, const void* value_run, uint32_t count) override {
    std::memcpy(keys, key_run, count * key_size);
    std::memcpy(values, value_run, count * value_size);
    keys += count * key_size;
    values += count * value_size;
    return true;
  }
  std::byte* keys = nullptr;
  std::byte* values = nullptr;
  uint64_t key_size = 0;
  uint64_t value_size = 0;
};

}  // namespace
}  // namespace skep

int skep_map_get(const skep_map* map, const void* key, void* value, uint64_t flags) {
  return skep::to_code(map->map->lookup(key, value, flags));
}

int64_t skep_map_get_many(const skep_map* map, const void* keys, void* values, uint8_t* found, uint32_t count) {
  return map->map->lookup_many(keys, values, found, count);
}

int skep_map_next_key(const skep_map* map, const void* key, void* next) {
  return skep::to_code(map->map->next_key(key, next));
}

uint64_t skep_map_cursor_bytes(const skep_map* map) {
  return sizeof(skep::Cursor) + 2 * skep::round_up(map->map->batch_cursor_size(), 8);
}

int skep_map_get_batch(const skep_map* map, void* cursor, void* keys, void* values, uint32_t* count) {
  return skep::guarded([&] {
    skep::Cursor front;
    std::memcpy(&front, cursor, sizeof(front));
    const uint64_t inner_size = skep::round_up(map->map->batch_cursor_size(), 8);
    std::byte* const before = static_cast<std::byte*>(cursor) + sizeof(front);
    std::byte* const after = before + inner_size;
    const uint32_t capacity = *count;
    *count = 0;
    if (front.place == skep::Cursor::kEnd) return -ENOENT;
    skep::CopyingSink sink;
    sink.keys = static_cast<std::byte*>(keys);
    sink.values = static_cast<std::byte*>(values);
    sink.key_size = map->map->spec().key_size;
    sink.value_size = map->map->user_value_size();
    const bool started = front.place != skep::Cursor::kStart;
    const auto result = map->map->lookup_batch(started ? before : nullptr, after, capacity, 0, sink);
    *count = result.error == ENOSPC ? std::max<uint32_t>(capacity, 8) * 2 : result.count;
    if (result.cursor_written) {
      std::memcpy(before, after, inner_size);
      front.place = skep::Cursor::kInside;
    }
    if (result.error == ENOENT) front.place = skep::Cursor::kEnd;
    std::memcpy(cursor, &front, sizeof(front));
    return -result.error;
  });
}

int skep_map_update(skep_map* map, const void* key, const void* value, uint64_t flags) {
  return skep::mutate(map, [&](const skep::Lease& lease) { return map->map->update(lease, key, value, flags); });
}

int skep_map_erase(skep_map* map, const void* key) {
  return skep::mutate(map, [&](const skep::Lease& lease) { return map->map->erase(lease, key); });
}

int skep_map_take(skep_map* map, const void* key, void* value) {
  return skep::mutate(map, [&](const skep::Lease& lease) { return map->map->take(lease, key, value, 0); });
}

int skep_map_modify(skep_map* map, const void* key, void (*change)(void* value, void* context), void* context) {
  const auto run = [&](const skep::Lease& lease) {
    return map->map->modify(lease, key, [change, context](void* value) { change(value, context); });
  };
  if (!map->per_cpu) return skep::mutate(map, run);
  if (const int error = skep::write_error(map); error != 0) return error;
  return skep::guarded([&] {
    // A real CPU, so that no program changes the same part meanwhile.
    const skep::Lease lease(map->map->machine(), skep::Lease::AnyCpu{});
    return skep::to_code(run(lease));
  });
}

static_assert(sizeof(skep::Lease) <= sizeof(skep_guard) && alignof(skep::Lease) <= alignof(skep_guard));

void skep_guard_enter(const skep_map* map, skep_guard* guard) {
  skep::Machine& machine = map->map->machine();
  if (map->per_cpu) {
    new (guard) skep::Lease(machine, skep::Lease::AnyCpu{});
  } else {
    new (guard) skep::Lease(machine);
  }
}

void skep_guard_leave(skep_guard* guard) { reinterpret_cast<skep::Lease*>(guard)->~Lease(); }

void* skep_map_find(const skep_map* map, const skep_guard* guard, const void* key) {
  return map->map->find(*reinterpret_cast<const skep::Lease*>(guard), key);
}
