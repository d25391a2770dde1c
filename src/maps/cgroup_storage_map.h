// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "maps/map.h"

namespace skep {

/// BPF_MAP_TYPE_CGROUP_STORAGE and BPF_MAP_TYPE_PERCPU_CGROUP_STORAGE: a value for each cgroup that a program is
/// attached to, which the attachment makes and its end removes.
///
/// What it is: skep attaches no program to a cgroup, so there never is an entry. A program that runs under test_run
/// gets
///   a value of its own for the length of the command (bpf_get_local_storage), as in the kernel, which is not in the
///   map.
/// Layout: the header alone.
/// Operations: all find nothing.
/// Limits and errno: lookup ENOENT; update ENOENT, EINVAL for BPF_NOEXIST and unknown flags; erase EINVAL; next_key
///   ENOENT. key_size 8 (an inode number) or 16 (bpf_cgroup_storage_key); max_entries 0.
/// Differences from the kernel: no attachments.
class CgroupStorageMap final : public Map {
 public:
  CgroupStorageMap(MapSegments segments, Machine& machine) : Map(std::move(segments), machine) {}

  [[nodiscard]] uint64_t user_value_size() const override;
  Status lookup(const void* key, void* value, uint64_t flags) const override;
  Status next_key(const void* key, void* next) const override;
  Status update(const Lease& lease, const void* key, const void* value, uint64_t flags) override;
  Status erase(const Lease& lease, const void* key) override;
  [[nodiscard]] CheckReport check() const override { return {}; }
};

}  // namespace skep
