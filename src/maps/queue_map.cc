// SPDX-License-Identifier: Apache-2.0
#include "maps/queue_map.h"

#include <memory>

#include "maps/map_kinds.h"
#include "skep/abi.h"

namespace skep {
namespace {

constexpr uint32_t kFlags = BPF_F_NUMA_NODE | BPF_F_RDONLY | BPF_F_WRONLY | BPF_F_RDONLY_PROG | BPF_F_WRONLY_PROG;
constexpr uint32_t kLargestValue = 4U << 20;  // the kernel's largest allocation

Status check_queue(const MapSpec& spec, const MachineShape&) { return check_queue_spec(spec); }

Result<MapLayout> lay_out_queue(MapSpec& spec, const MachineShape&) {
  MapLayout layout;
  layout.private_size = kControlOffset + QueueRing::size_of(spec.max_entries, spec.value_size);
  layout.reserve[0] = {.offset = 0, .length = layout.private_size};
  return layout;
}

/// Zeros are an empty ring.
Status initialise_queue(const MapSegments&, Machine&) { return {}; }

Result<std::unique_ptr<Map>> open_queue(MapSegments segments, Machine& machine) {
  return std::make_unique<QueueMap>(std::move(segments), machine);
}

}  // namespace

const MapKind kQueueKind = {.type = BPF_MAP_TYPE_QUEUE,
                            .name = "queue",
                            .check = check_queue,
                            .layout = lay_out_queue,
                            .initialise = initialise_queue,
                            .open = open_queue,
                            .keyless = true};

Status check_queue_spec(const MapSpec& spec) {
  if (spec.max_entries == 0 || spec.key_size != 0 || spec.value_size == 0 || (spec.flags & ~kFlags) != 0) {
    return fail(EINVAL);
  }
  if (spec.value_size > kLargestValue) return fail(E2BIG);
  return spec.fields.any() ? fail(EOPNOTSUPP) : Status{};
}

Status check_push_flags(uint64_t flags) {
  return flags == BPF_ANY || flags == BPF_EXIST ? Status{} : Status(fail(EINVAL));
}

QueueMap::QueueMap(MapSegments segments, Machine& machine)
    : Map(std::move(segments), machine),
      ring_(segments_.control.data() + kControlOffset, spec().max_entries, spec().value_size,
            segments_.control.writable(), machine) {}

Status QueueMap::lookup(const void*, void* value, uint64_t) const { return ring_.peek(value); }

Status QueueMap::next_key(const void*, void*) const { return fail(EINVAL); }

Status QueueMap::update(const Lease& lease, const void*, const void* value, uint64_t flags) {
  if (const Status allowed = check_push_flags(flags); !allowed) return allowed;
  return ring_.push(lease, value, flags == BPF_EXIST);
}

Status QueueMap::erase(const Lease&, const void*) { return fail(EINVAL); }

Status QueueMap::take(const Lease& lease, const void*, void* value, uint64_t) { return ring_.pop(lease, value); }

CheckReport QueueMap::check() const {
  const QueueRing::Census census = ring_.census();
  CheckReport report = {
      .elements = census.values, .free_elements = spec().max_entries - census.values - census.lost, .problem = {}};
  if (census.problem != nullptr) report.problem = census.problem;
  return report;
}

}  // namespace skep
