// SPDX-License-Identifier: Apache-2.0
#include "maps/cgroup_storage_map.h"

#include "maps/map_kinds.h"
#include "skep/abi.h"

namespace skep {
namespace {

constexpr uint32_t kFlags = BPF_F_NUMA_NODE | BPF_F_RDONLY | BPF_F_WRONLY | BPF_F_RDONLY_PROG | BPF_F_WRONLY_PROG;
constexpr uint32_t kLargestValue = 65407;
constexpr uint32_t kLargestPart = 32768;
constexpr uint32_t kInodeKey = 8, kWholeKey = 16;

bool is_per_cpu(const MapSpec& spec) { return spec.type == BPF_MAP_TYPE_PERCPU_CGROUP_STORAGE; }

constexpr uint32_t kProgramAccess = BPF_F_RDONLY_PROG | BPF_F_WRONLY_PROG;

Status check(const MapSpec& spec, const MachineShape&) {
  if (spec.key_size != kInodeKey && spec.key_size != kWholeKey) return fail(EINVAL);
  if (spec.value_size == 0) return fail(EINVAL);
  if (spec.value_size > (is_per_cpu(spec) ? kLargestPart : kLargestValue)) return fail(E2BIG);
  const bool both_ways = (spec.flags & kProgramAccess) == kProgramAccess;
  if ((spec.flags & ~kFlags) != 0 || both_ways || spec.max_entries != 0) return fail(EINVAL);
  return {};
}

Result<MapLayout> layout(MapSpec&, const MachineShape&) {
  MapLayout layout;
  layout.private_size = kControlOffset;
  return layout;
}

Status initialise(const MapSegments&, Machine&) { return {}; }

Result<std::unique_ptr<Map>> open(MapSegments segments, Machine& machine) {
  return std::make_unique<CgroupStorageMap>(std::move(segments), machine);
}

constexpr MapKind row(uint32_t type, const char* name) {
  return {.type = type, .name = name, .check_late = check, .layout = layout, .initialise = initialise, .open = open};
}

}  // namespace

constinit const MapKind kCgroupStorageKind = row(BPF_MAP_TYPE_CGROUP_STORAGE, "cgroup_storage");
constinit const MapKind kPerCpuCgroupStorageKind = row(BPF_MAP_TYPE_PERCPU_CGROUP_STORAGE, "percpu_cgroup_storage");

uint64_t CgroupStorageMap::user_value_size() const {
  return is_per_cpu(spec()) ? round_up(spec().value_size, 8) * machine_.cpus() : spec().value_size;
}

Status CgroupStorageMap::lookup(const void*, void*, uint64_t) const { return fail(ENOENT); }
Status CgroupStorageMap::next_key(const void*, void*) const { return fail(ENOENT); }

Status CgroupStorageMap::update(const Lease&, const void*, const void*, uint64_t flags) {
  const uint64_t known = is_per_cpu(spec()) ? BPF_EXIST : BPF_EXIST | BPF_F_LOCK;
  return fail((flags & ~known) != 0 ? EINVAL : ENOENT);
}

Status CgroupStorageMap::erase(const Lease&, const void*) { return fail(EINVAL); }

}  // namespace skep
