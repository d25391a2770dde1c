// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <optional>

#include "maps/map.h"
#include "maps/striped_values.h"

namespace skep {

/// BPF_MAP_TYPE_ARRAY: max_entries values of value_size bytes, indexed by a u32; every index always exists.
///
/// Layout
///   user window (what a plain mmap of the file sees; the kernel's own layout):
///     | value 0, padded to 8 | value 1 | ... | value max_entries - 1 | 0 up to the page |
///   private window:
///     | MapHeader | kControlOffset: stripes (striped_values.h), only if values are not words |
///   A value is a *word* if it has at most 8 bytes and no special field: it is read and written whole.
///
/// Operations: those of Map except erase (EINVAL) and take (524).
/// Invariants
///   A1 All pages of both windows exist from creation on: no access can fail.
///   A2 Values of at most 8 bytes are changed by copying operations in one atomic step; larger ones under RedoLog.
/// Ordering guarantees: O1-O4 of redo_log.h and striped_values.h; for words every operation is one atomic access
///   (COMMIT = the store), so all of them are linearizable.
/// Progress: words wait-free (modify lock-free); larger values as StripedValues: readers never wait for a writer.
/// Reclamation: none, nothing is ever freed.
/// Locks and their order: the value's ValueLock (BPF_F_LOCK), then its stripe.
/// Limits and errno: value_size <= INT_MAX (E2BIG), the values below 1 TiB (ENOMEM); index >= max_entries: ENOENT on
///   lookup, E2BIG on update; BPF_NOEXIST: EEXIST.
/// Differences from the kernel: copying lookups are never torn by copying updates; an update that is killed half-way is
///   completed or never happened; modify().
class ArrayMap final : public Map {
 public:
  ArrayMap(MapSegments segments, Machine& machine);

  Status lookup(const void* key, void* value, uint64_t flags) const override;
  Status next_key(const void* key, void* next) const override;
  BatchResult lookup_batch(const void* in_cursor, void* out_cursor, uint32_t capacity, uint64_t flags,
                           BatchSink& sink) const override;
  uint32_t lookup_many(const void* keys, void* values, uint8_t* found, uint32_t count) const override;
  void* find(const Lease& lease, const void* key) const override;
  Status update(const Lease& lease, const void* key, const void* value, uint64_t flags) override;
  Status erase(const Lease& lease, const void* key) override;
  Result<uint64_t> for_each(const Lease& lease, const std::function<Visit(const void*, void*)>& visit) override;
  Status modify(const Lease& lease, const void* key, const std::function<void(void*)>& change) override;
  void settle(const Lease& lease, void* value) override;
  void settle_dead(const Lease& lease, void* value) override;
  bool copy_key(const void* value, void* key) const override;
  [[nodiscard]] BatchSupport batch_support() const override { return {.lookup = true, .update = true}; }
  [[nodiscard]] CheckReport check() const override;

 private:
  [[nodiscard]] std::byte* place(uint64_t index) const { return values_ + index * stride_; }
  [[nodiscard]] ValueRange range(uint64_t index) const { return {index, 0, 1, value_size_}; }
  void read(uint64_t index, void* value) const;
  Status read_locked(uint64_t index, void* value) const;
  Status write(const Lease& lease, uint64_t index, const void* value);
  Status modify_word(void* place, const std::function<void(void*)>& change) const;

  std::byte* const values_;
  const uint64_t stride_;
  const uint32_t value_size_;
  const uint32_t max_entries_;
  const ValueFields fields_;
  std::optional<StripedValues> striped_;  // none: values are words
};

}  // namespace skep
