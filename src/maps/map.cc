// SPDX-License-Identifier: Apache-2.0
#include "maps/map.h"

namespace skep {

Status Map::lookup(const void*, void*, uint64_t) const { return fail(kEnotsupp); }
Status Map::next_key(const void*, void*) const { return fail(kEnotsupp); }
BatchResult Map::lookup_batch(const void*, void*, uint32_t, uint64_t, BatchSink&) const { return {.error = kEnotsupp}; }
uint32_t Map::lookup_many(const void* keys, void* values, uint8_t* found, uint32_t count) const {
  uint32_t hits = 0;
  for (uint32_t i = 0; i < count; ++i) {
    const auto* key = static_cast<const std::byte*>(keys) + uint64_t{i} * spec().key_size;
    auto* value = static_cast<std::byte*>(values) + uint64_t{i} * user_value_size();
    found[i] = lookup(key, value, 0).has_value();
    hits += found[i];
  }
  return hits;
}
void* Map::find(const Lease&, const void*) const { return nullptr; }
void* Map::find_percpu(const Lease&, const void*, uint32_t) const { return nullptr; }
Status Map::update(const Lease&, const void*, const void*, uint64_t) { return fail(kEnotsupp); }
Status Map::update_from_program(const Lease& lease, const void* key, const void* value, uint64_t flags) {
  return update(lease, key, value, flags);
}
Status Map::erase(const Lease&, const void*) { return fail(kEnotsupp); }
Result<uint64_t> Map::exchange(const Lease&, const void*, uint64_t, uint64_t) { return fail(kEnotsupp); }
BatchResult Map::update_many(const Lease& lease, const void* keys, const void* values, uint32_t count, uint64_t flags) {
  const uint64_t key_size = spec().key_size, value_size = user_value_size();
  for (uint32_t i = 0; i < count; ++i) {
    const Status status = update(lease, static_cast<const std::byte*>(keys) + i * key_size,
                                 static_cast<const std::byte*>(values) + i * value_size, flags);
    if (!status) return {.count = i, .error = to_int(status.error())};
  }
  return {.count = count};
}
BatchResult Map::erase_many(const Lease& lease, const void* keys, uint32_t count) {
  const uint64_t key_size = spec().key_size;
  for (uint32_t i = 0; i < count; ++i) {
    const Status status = erase(lease, static_cast<const std::byte*>(keys) + i * key_size);
    if (!status) return {.count = i, .error = to_int(status.error())};
  }
  return {.count = count};
}
Status Map::take(const Lease&, const void*, void*, uint64_t) { return fail(kEnotsupp); }
BatchResult Map::take_batch(const Lease&, const void*, void*, uint32_t, uint64_t, BatchSink&) {
  return {.error = kEnotsupp};
}
Result<uint64_t> Map::for_each(const Lease&, const std::function<Visit(const void*, void*)>&) {
  return fail(kEnotsupp);
}
void Map::settle(const Lease&, void*) {}
bool Map::copy_key(const void*, void*) const { return false; }
Status Map::modify(const Lease&, const void*, const std::function<void(void*)>&) { return fail(kEnotsupp); }

}  // namespace skep
