// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "maps/map.h"
#include "maps/queue_ring.h"

namespace skep {

/// BPF_MAP_TYPE_QUEUE: a bounded first-in-first-out queue without keys.
///
/// Layout: | MapHeader | kControlOffset: QueueRing (queue_ring.h, where the structure's page stands) |
/// Operations: update pushes (BPF_EXIST: drops the oldest when full), lookup peeks, take pops; keys are null.
/// Invariants, ordering guarantees, progress, reclamation, locks: those of QueueRing; every page exists from the start.
/// Limits and errno: value_size 1 to 4 MiB (E2BIG); what does not fit into a file ENOMEM; BPF_NOEXIST, erase and
///   next_key EINVAL; E2BIG full, ENOENT empty.
class QueueMap final : public Map {
 public:
  QueueMap(MapSegments segments, Machine& machine);

  Status lookup(const void* key, void* value, uint64_t flags) const override;
  Status next_key(const void* key, void* next) const override;
  Status update(const Lease& lease, const void* key, const void* value, uint64_t flags) override;
  Status erase(const Lease& lease, const void* key) override;
  Status take(const Lease& lease, const void* key, void* value, uint64_t flags) override;
  [[nodiscard]] CheckReport check() const override;

 private:
  QueueRing ring_;
};

/// The alloc_check of QUEUE and STACK.
Status check_queue_spec(const MapSpec& spec);
/// What their pushes may be told: BPF_ANY or BPF_EXIST, else EINVAL.
Status check_push_flags(uint64_t flags);

}  // namespace skep
