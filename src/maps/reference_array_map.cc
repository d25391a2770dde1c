// SPDX-License-Identifier: Apache-2.0
#include "maps/reference_array_map.h"

#include <cstring>

#include "maps/array_index.h"
#include "maps/generic_batch.h"
#include "skep/abi.h"

namespace skep {

Status check_reference_array(const MapSpec& spec, const ReferenceArrayTraits& traits) {
  const bool value_fits = spec.value_size == 4 || (traits.wide_values && spec.value_size == 8);
  if (spec.max_entries == 0 || spec.key_size != 4 || !value_fits || (spec.flags & ~traits.flags) != 0) {
    return fail(EINVAL);
  }
  return {};
}

Result<MapLayout> lay_out_reference_array(const MapSpec& spec) {
  MapLayout layout;
  layout.private_size = kControlOffset + uint64_t{spec.max_entries} * sizeof(uint64_t);
  layout.reserve[0] = {.offset = 0, .length = layout.private_size};
  return layout;
}

Status check_reference_array_update(const Map& map, const void* key, uint64_t flags) {
  return static_cast<const ReferenceArrayMap&>(map).check_update(load_index(key), flags);
}

ReferenceArrayMap::ReferenceArrayMap(MapSegments segments, Machine& machine, const ReferenceArrayTraits& traits)
    : Map(std::move(segments), machine),
      words_(reinterpret_cast<std::atomic<uint64_t>*>(segments_.control.data() + kControlOffset)),
      max_entries_(spec().max_entries),
      traits_(traits) {}

Status ReferenceArrayMap::check_update(uint32_t index, uint64_t flags) const {
  if (flags > (traits_.existence == Existence::kNoFlags ? uint64_t{BPF_ANY} : uint64_t{BPF_EXIST})) return fail(EINVAL);
  if (index >= max_entries_) return fail(E2BIG);
  if (traits_.existence == Existence::kAlwaysThere && flags == BPF_NOEXIST) return fail(EEXIST);
  return traits_.existence == Existence::kEntryFirst ? check_entry(word(index), flags) : Status{};
}

Status ReferenceArrayMap::check_entry(uint64_t word, uint64_t flags) {
  if (flags == BPF_NOEXIST && word != 0) return fail(EEXIST);
  return flags == BPF_EXIST && word == 0 ? Status(fail(ENOENT)) : Status{};
}

Status ReferenceArrayMap::lookup(const void* key, void* value, uint64_t flags) const {
  if (flags != 0) return fail(EINVAL);
  const uint64_t found = word(load_index(key));
  if (found == 0) return fail(ENOENT);
  std::memcpy(value, &found, sizeof found);
  return {};
}

Status ReferenceArrayMap::next_key(const void* key, void* next) const { return next_index(max_entries_, key, next); }

BatchResult ReferenceArrayMap::lookup_batch(const void* in_cursor, void* out_cursor, uint32_t capacity, uint64_t flags,
                                            BatchSink& sink) const {
  return generic_lookup_batch(*this, in_cursor, out_cursor, capacity, flags, sink);
}

Result<uint64_t> ReferenceArrayMap::exchange(const Lease&, const void* key, uint64_t word, uint64_t flags) {
  const uint32_t index = load_index(key);
  if (const Status status = check_update(index, flags); !status) return std::unexpected(status.error());
  if (traits_.one_per_cpu && index >= machine_.cpus()) return fail(ENODEV);
  const bool asks = traits_.existence >= Existence::kEntry;
  const bool same_is_fine = traits_.existence == Existence::kEntryOrSame;
  // COMMIT, either way. Pairs with word() and with the next exchange (O1).
  if (!asks || flags == BPF_ANY) return words_[index].exchange(word, std::memory_order_acq_rel);
  uint64_t old = words_[index].load(std::memory_order_acquire);
  for (;;) {
    if (const Status there = check_entry(old, flags); !there && !(same_is_fine && old == word))
      return std::unexpected(there.error());
    if (words_[index].compare_exchange_weak(old, word, std::memory_order_acq_rel, std::memory_order_acquire))
      return old;
  }
}

Status ReferenceArrayMap::take(const Lease&, const void* key, void* value, uint64_t flags) {
  if (flags != 0) return fail(EINVAL);
  const uint32_t index = load_index(key);
  if (index >= max_entries_) return fail(traits_.erase_beyond);
  const uint64_t taken = words_[index].exchange(0, std::memory_order_acq_rel);  // COMMIT, as in exchange()
  std::memcpy(value, &taken, sizeof taken);
  return taken != 0 || traits_.erase_empty == 0 ? Status{} : Status(fail(traits_.erase_empty));
}

Result<uint64_t> ReferenceArrayMap::for_each(const Lease&, const std::function<Visit(const void*, void*)>& visit) {
  uint64_t visited = 0;
  for (uint32_t index = 0; index < max_entries_; ++index) {
    uint64_t found = word(index);
    if (found == 0) continue;
    ++visited;
    if (visit(&index, &found) == Visit::kStop) break;
  }
  return visited;
}

Map::BatchSupport ReferenceArrayMap::batch_support() const {
  const bool supported = spec().type == BPF_MAP_TYPE_ARRAY_OF_MAPS;
  return {.lookup = supported, .update = supported};
}

CheckReport ReferenceArrayMap::check() const {
  CheckReport report;
  for (uint32_t index = 0; index < max_entries_; ++index) report.elements += word(index) != 0;
  report.free_elements = max_entries_ - report.elements;
  return report;
}

}  // namespace skep
