// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "maps/map.h"
#include "maps/striped_values.h"

namespace skep {

/// BPF_MAP_TYPE_PERCPU_ARRAY: an array whose every value has one part per possible CPU.
///
/// Layout, private window (there is no user window: the kind cannot be mapped by clients):
///   | MapHeader | kControlOffset: stripes (striped_values.h) | CPU 0: part 0, part 1, ... | CPU 1: ... | ... |
///   A part has round_up(value_size, 8) bytes, padding included: the syscall side stores and reads the padding too.
///   Each CPU's parts start on kCpuAlignment, so that CPUs share no cache line and no prefetched pair of lines.
///
/// Operations: those of Map except erase (EINVAL) and take (524). A program means its own CPU's part; the syscall side
///   all parts at once, or one (BPF_F_CPU), or the same bytes for all (BPF_F_ALL_CPUS).
/// Invariants
///   P1 All pages exist from creation on.
///   P2 Copying operations change parts of more than 8 bytes under RedoLog. A program's update of its own part of at
///      most 8 bytes is one atomic store, done while no other write of that stripe is committed.
/// Ordering guarantees: O1-O4 of redo_log.h and striped_values.h. O1 holds for all parts together: a lookup sees an
///   update of all CPUs completely or not at all.
/// Progress: readers never wait for a writer. A program's update of a word waits only for a syscall update.
/// Reclamation: none. Locks: one stripe; parts have no ValueLock.
/// Limits and errno: round_up(value_size, 8) <= 32768 (E2BIG); index as ArrayMap; BPF_F_CPU beyond the CPUs: ERANGE.
/// Differences from the kernel: untorn lookups, all-or-nothing updates of all CPUs, modify() of the lease's CPU's part.
class PerCpuArrayMap final : public Map {
 public:
  static constexpr uint32_t kLargestPart = 32768;
  static constexpr uint64_t kCpuAlignment = 128;

  PerCpuArrayMap(MapSegments segments, Machine& machine);

  [[nodiscard]] uint64_t user_value_size() const override { return uint64_t{room_} * cpus_; }
  Status lookup(const void* key, void* value, uint64_t flags) const override;
  Status next_key(const void* key, void* next) const override;
  BatchResult lookup_batch(const void* in_cursor, void* out_cursor, uint32_t capacity, uint64_t flags,
                           BatchSink& sink) const override;
  void* find(const Lease& lease, const void* key) const override;
  void* find_percpu(const Lease& lease, const void* key, uint32_t cpu) const override;
  Status update(const Lease& lease, const void* key, const void* value, uint64_t flags) override;
  Status update_from_program(const Lease& lease, const void* key, const void* value, uint64_t flags) override;
  Status erase(const Lease& lease, const void* key) override;
  Result<uint64_t> for_each(const Lease& lease, const std::function<Visit(const void*, void*)>& visit) override;
  Status modify(const Lease& lease, const void* key, const std::function<void(void*)>& change) override;
  [[nodiscard]] BatchSupport batch_support() const override { return {.lookup = true, .update = true}; }
  [[nodiscard]] CheckReport check() const override;

 private:
  [[nodiscard]] std::byte* place(uint64_t index, uint32_t cpu) const { return values_.places().at(index, cpu); }

  const uint32_t value_size_;
  const uint32_t room_;
  const uint32_t max_entries_;
  const uint32_t cpus_;
  StripedValues values_;
};

}  // namespace skep
