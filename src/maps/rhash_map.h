// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstring>
#include <utility>
#include <vector>

#include "maps/batch_runs.h"
#include "maps/hash_map.h"
#include "maps/hash_map_read.h"
#include "maps/hash_map_walk.h"
#include "maps/hash_map_write.h"

namespace skep {

/// BPF_MAP_TYPE_RHASH: a hash map whose memory follows its content.
///
/// Layout, operations, invariants, ordering, progress, reclamation and locks: those of HashMap without preallocation
/// (hash_table.h, element_pool.h). Elements come chunk by chunk and go back when a chunk is empty; the buckets, 14
/// bytes for each of max_entries, exist from the start, so that nothing is ever moved and no reader meets a table that
/// grows.
///
/// Batches: the cursor is a key, the next one to come. Unlike next_key(), a walk goes on behind a key that is erased
/// while it is the current one, because elements have an order within their chain (hash_table.h, O4).
///   B1 A key that is in the map from the first batch to the last comes exactly once.
///   B2 An element is copied, and in take_batch() removed, as lookup() and take() do: whole, by one store.
///
/// Limits and errno: BPF_F_NO_PREALLOC is a must and BPF_F_ZERO_SEED EINVAL; keys of more than 65,535 bytes E2BIG;
/// map_extra: how many elements are expected, at most 65,535 (E2BIG) and max_entries (EINVAL), upper half 0 (EINVAL).
/// EAGAIN: the key of a batch's cursor is gone; start again. Otherwise as HashMap.
/// Where it differs from the kernel: the expected number is taken note of and needed for nothing; an update puts a new
/// element in the old one's place, so that readers never see half a value, and a pointer found before shows the old
/// one.
template <uint32_t kKeySize, bool kPerCpu>
class RhashMap final : public HashMap<kKeySize, kPerCpu> {
 public:
  using Base = HashMap<kKeySize, kPerCpu>;
  using Base::Base;

  BatchResult lookup_batch(const void* in_cursor, void* out_cursor, uint32_t capacity, uint64_t flags,
                           BatchSink& sink) const override {
    return walk(in_cursor, out_cursor, capacity, flags, sink,
                [&](const void* key, void* value) { return Base::lookup(key, value, flags); });
  }
  BatchResult take_batch(const Lease& lease, const void* in_cursor, void* out_cursor, uint32_t capacity, uint64_t flags,
                         BatchSink& sink) override {
    return walk(in_cursor, out_cursor, capacity, flags, sink,
                [&](const void* key, void* value) { return Base::take(lease, key, value, flags); });
  }
  [[nodiscard]] uint32_t batch_cursor_size() const override { return this->key_size(); }

 private:
  bool advance(std::byte* key) const;
  template <class Copy>
  BatchResult walk(const void* in_cursor, void* out_cursor, uint32_t capacity, uint64_t flags, BatchSink& sink,
                   const Copy& copy) const;
};

/// Makes `key`, padded with zeros, the next one after itself, whether it is in the map or not. False: it was the last,
/// or what comes next belongs before it: no skep wrote that chain, and a walk would not end.
template <uint32_t kKeySize, bool kPerCpu>
bool RhashMap<kKeySize, kPerCpu>::advance(std::byte* key) const {
  const OptionalReaderSection section(this->machine_, this->growing_);
  const auto at = this->probe(key);
  const Bucket& head = this->buckets_[at.bucket];
  const uint32_t key_room = this->table_.layout().key_room;
  Scratch next(key_room);
  std::memset(next.data(), 0, key_room);
  const uint32_t further = this->read_chain(head, [&](uint64_t) {
    const uint32_t element = this->successor(head, at.tag, key);
    if (element != 0) copy_from_shared(next.data(), this->table_.elements().key(element), this->key_size());
    return element;
  });
  if (further == 0 && !this->first_key_from(at.bucket + 1, next.data())) return false;
  const auto to = this->probe(next.data());
  const auto place = std::pair(to.bucket, to.tag), old_place = std::pair(at.bucket, at.tag);
  if (place < old_place) return false;
  if (place == old_place && compare_stored_keys(next.data(), key, this->key_size()) <= 0) return false;
  std::memcpy(key, next.data(), key_room);
  return true;
}

/// Hands over the elements that `copy(key, value)` finds; ENOENT: it went meanwhile.
template <uint32_t kKeySize, bool kPerCpu>
template <class Copy>
BatchResult RhashMap<kKeySize, kPerCpu>::walk(const void* in_cursor, void* out_cursor, uint32_t capacity,
                                              uint64_t flags, BatchSink& sink, const Copy& copy) const {
  if ((flags & ~uint64_t{BPF_F_LOCK}) != 0) return {.error = EINVAL};
  if (flags != 0 && this->spec().fields.spin_lock == ValueFields::kNone) return {.error = EINVAL};
  if (capacity == 0) return {};
  const uint32_t key_size = this->key_size();
  std::vector<std::byte> key(this->table_.layout().key_room);
  BatchRuns runs(*this, capacity, sink);
  if (in_cursor == nullptr) {
    if (!Base::next_key(nullptr, key.data())) return {.error = ENOENT};
  } else {
    std::memcpy(key.data(), in_cursor, key_size);
    const OptionalReaderSection section(this->machine_, this->growing_);
    if (this->read_element(this->probe(key.data()), key.data(), [](uint64_t, uint32_t) {}) == 0)
      return {.error = EAGAIN};
  }
  int error = 0;
  for (uint32_t count = 0; count < capacity;) {
    const Status copied = copy(key.data(), runs.value());
    if (copied) {
      std::memcpy(runs.key(), key.data(), key_size);
      ++count;
      if (!runs.push()) return {.error = EFAULT};
    } else if (copied.error() != Errno{ENOENT}) {
      error = to_int(copied.error());
      break;
    }
    if (!advance(key.data())) {
      error = ENOENT;
      break;
    }
  }
  if (!runs.flush()) return {.error = EFAULT};
  if (error != ENOENT) std::memcpy(out_cursor, key.data(), key_size);
  return {.count = runs.delivered(), .error = error, .cursor_written = error != ENOENT};
}

}  // namespace skep
