// SPDX-License-Identifier: Apache-2.0
#include "maps/stack_trace_map.h"

#include <bit>
#include <cstring>

#include "maps/array_index.h"
#include "maps/hash_map_read.h"
#include "maps/hash_map_walk.h"
#include "maps/hash_map_write.h"
#include "maps/map_kinds.h"
#include "maps/scratch.h"

namespace skep {
namespace {

constexpr uint32_t kFlags = BPF_F_NUMA_NODE | BPF_F_RDONLY | BPF_F_WRONLY | BPF_F_STACK_BUILD_ID;
constexpr uint32_t kMostNumbers = 1U << 31;

uint32_t frame_size_of(const MapSpec& spec) {
  return (spec.flags & BPF_F_STACK_BUILD_ID) != 0 ? StackTraceMap::kBuildIdSize : StackTraceMap::kAddressSize;
}

Status check(const MapSpec& spec, const MachineShape&) {
  if ((spec.flags & ~kFlags) != 0 || spec.max_entries == 0 || spec.key_size != 4) return fail(EINVAL);
  const uint32_t size = frame_size_of(spec);
  if (spec.value_size < size || spec.value_size % size != 0) return fail(EINVAL);
  return spec.value_size / size <= StackTraceMap::kMostFrames ? Status{} : Status(fail(EINVAL));
}

Result<MapLayout> layout(MapSpec& spec, const MachineShape& shape) {
  if (spec.max_entries > kMostNumbers) return fail(E2BIG);
  Result<MapLayout> layout = lay_out_hash(spec, shape, false);
  return !layout && layout.error() == Errno{E2BIG} ? fail(ENOMEM) : layout;
}

Status initialise(const MapSegments& segments, Machine& machine) { return initialise_hash(segments, machine, false); }

Result<std::unique_ptr<Map>> open(MapSegments segments, Machine& machine) {
  const auto layout = HashLayout::of(segments.header().spec, machine.shape(), false);
  if (!layout) return std::unexpected(layout.error());
  if (auto status = check_hash_function(segments); !status) return std::unexpected(status.error());
  return std::make_unique<StackTraceMap>(std::move(segments), machine, *layout);
}

/// Every address changes about half of the bits; which stacks share a number is nobody's secret.
uint32_t hash_of(const uint64_t* addresses, uint32_t count) {
  uint64_t hash = count;
  for (uint32_t i = 0; i < count; ++i) {
    hash = (hash ^ addresses[i]) * 0x9e3779b97f4a7c15;
    hash ^= hash >> 29;
  }
  return static_cast<uint32_t>(hash >> 16);
}

}  // namespace

constinit const MapKind kStackTraceKind = {.type = BPF_MAP_TYPE_STACK_TRACE,
                                           .name = "stack_trace",
                                           .check_late = check,
                                           .layout = layout,
                                           .initialise = initialise,
                                           .open = open};

StackTraceMap::StackTraceMap(MapSegments segments, Machine& machine, const HashLayout& layout)
    : Hash(std::move(segments), machine, layout),
      numbers_(std::bit_ceil(spec().max_entries)),
      frame_size_(frame_size_of(spec())) {}

Result<uint32_t> StackTraceMap::keep(const Lease& lease, const uint64_t* addresses, uint32_t count, const void* value,
                                     uint64_t flags) {
  const uint32_t number = hash_of(addresses, count) & (numbers_ - 1);
  const uint32_t size = spec().value_size;
  Scratch there(size);
  for (;;) {
    const bool taken = present(number, there.data());
    if (taken && std::memcmp(there.data(), value, size) == 0) return number;
    if (taken && (flags & kReuse) == 0) return fail(EEXIST);
    const Status put = Hash::update(lease, &number, value, (flags & kReuse) != 0 ? BPF_ANY : BPF_NOEXIST);
    if (put) return number;
    // Somebody came first: look again whose stack it is. It may be gone by then; each round is somebody's success.
    if (to_int(put.error()) == EEXIST) continue;
    return fail(to_int(put.error()) == E2BIG ? ENOMEM : to_int(put.error()));
  }
}

Status StackTraceMap::next_key(const void* key, void* next) const {
  Scratch scratch(spec().value_size);
  uint32_t number = 0;
  if (key != nullptr) {
    const uint32_t given = load_index(key);
    if (given < numbers_ && present(given, scratch.data())) number = given + 1;
  }
  while (number < numbers_ && !present(number, scratch.data())) ++number;
  if (number >= numbers_) return fail(ENOENT);
  std::memcpy(next, &number, sizeof number);
  return {};
}

Status StackTraceMap::update(const Lease&, const void*, const void*, uint64_t) { return fail(EINVAL); }
Status StackTraceMap::update_from_program(const Lease&, const void*, const void*, uint64_t) { return fail(EINVAL); }

Status StackTraceMap::erase(const Lease& lease, const void* key) {
  return load_index(key) < numbers_ ? Hash::erase(lease, key) : Status(fail(E2BIG));
}

CheckReport StackTraceMap::check() const {
  CheckReport report = Hash::check();
  if (!report.problem.empty()) return report;
  uint32_t number = 0;
  uint64_t found = 0;
  Scratch scratch(spec().value_size);
  for (; number < numbers_; ++number) found += present(number, scratch.data());
  if (found != report.elements) report.problem = "a stack has a number that the map does not have";
  return report;
}

}  // namespace skep
