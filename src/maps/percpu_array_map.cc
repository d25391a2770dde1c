// SPDX-License-Identifier: Apache-2.0
#include "maps/percpu_array_map.h"

#include "maps/array_index.h"
#include "maps/generic_batch.h"
#include "maps/map_kinds.h"
#include "maps/scratch.h"
#include "maps/shared_word.h"

namespace skep {
namespace {

constexpr uint32_t kFlags = BPF_F_NUMA_NODE | BPF_F_RDONLY | BPF_F_WRONLY | BPF_F_RDONLY_PROG | BPF_F_WRONLY_PROG;

uint32_t room_of(const MapSpec& spec) { return static_cast<uint32_t>(round_up(spec.value_size, 8)); }

/// Where the parts of CPU 0 begin in the private window, and how far apart the CPUs' parts are.
struct Regions {
  StripedValues::Plan plan;
  uint64_t begin;
  uint64_t distance;
};

Regions regions_of(const MapSpec& spec, const MachineShape& shape) {
  const auto plan = StripedValues::plan(spec.max_entries, shape.cpus, room_of(spec));
  return {.plan = plan,
          .begin = round_up(kControlOffset + plan.bytes(), PerCpuArrayMap::kCpuAlignment),
          .distance = round_up(uint64_t{spec.max_entries} * room_of(spec), PerCpuArrayMap::kCpuAlignment)};
}

Status check(const MapSpec& spec, const MachineShape&) {
  if (spec.max_entries == 0 || spec.key_size != 4 || spec.value_size == 0 || (spec.flags & ~kFlags) != 0) {
    return fail(EINVAL);
  }
  if ((spec.flags & BPF_F_NUMA_NODE) != 0 && spec.numa_node != UINT32_MAX) return fail(EINVAL);
  if (round_up(spec.value_size, 8) > PerCpuArrayMap::kLargestPart) return fail(E2BIG);
  if (spec.fields.any_lock() || spec.fields.any_owner()) return fail(EOPNOTSUPP);
  if (!FieldGaps(spec.fields).fit(spec.value_size)) return fail(EINVAL);
  return {};
}

Result<MapLayout> layout(MapSpec& spec, const MachineShape& shape) {
  const Regions regions = regions_of(spec, shape);
  MapLayout layout;
  layout.private_size = regions.begin + regions.distance * shape.cpus;
  layout.reserve[0] = {.offset = 0, .length = layout.private_size};
  return layout;
}

/// Zeros are a valid empty array.
Status initialise(const MapSegments&, Machine&) { return {}; }

Result<std::unique_ptr<Map>> open(MapSegments segments, Machine& machine) {
  return std::make_unique<PerCpuArrayMap>(std::move(segments), machine);
}

ValuePlaces places_of(const MapSegments& segments, const MachineShape& shape) {
  const MapSpec& spec = segments.header().spec;
  const Regions regions = regions_of(spec, shape);
  return {.base = segments.control.data() + regions.begin,
          .elements = spec.max_entries,
          .element_stride = room_of(spec),
          .piece_stride = regions.distance,
          .pieces = shape.cpus,
          .piece_room = room_of(spec)};
}

/// The flags that name CPUs: EINVAL for bits that do not belong together, ERANGE for a CPU that is none.
Status check_cpu_flags(uint64_t flags, uint32_t cpus) {
  if ((flags & BPF_F_CPU) == 0) return flags >> 32 != 0 ? Status(fail(EINVAL)) : Status();
  if ((flags & BPF_F_ALL_CPUS) != 0) return fail(EINVAL);
  return flags >> 32 >= cpus ? Status(fail(ERANGE)) : Status();
}

}  // namespace

const MapKind kPerCpuArrayKind = {.type = BPF_MAP_TYPE_PERCPU_ARRAY,
                                  .name = "percpu_array",
                                  .check = check,
                                  .layout = layout,
                                  .initialise = initialise,
                                  .open = open};

PerCpuArrayMap::PerCpuArrayMap(MapSegments segments, Machine& machine)
    : Map(std::move(segments), machine),
      value_size_(spec().value_size),
      room_(room_of(spec())),
      max_entries_(spec().max_entries),
      cpus_(machine.cpus()),
      values_(segments_.control.data() + kControlOffset, regions_of(spec(), machine.shape()).plan,
              places_of(segments_, machine.shape()), FieldGaps(spec().fields), segments_.control.writable(), machine) {}

Status PerCpuArrayMap::lookup(const void* key, void* value, uint64_t flags) const {
  const uint32_t index = load_index(key);
  if ((flags & 0xffffffff & ~uint64_t{BPF_F_CPU}) != 0) return fail(EINVAL);
  if (auto status = check_cpu_flags(flags, cpus_); !status) return status;
  if (index >= max_entries_) return fail(ENOENT);
  if ((flags & BPF_F_CPU) != 0) {
    values_.read({index, static_cast<uint32_t>(flags >> 32), 1, value_size_}, value, 0);
    values_.gaps().clear(value);
  } else {
    values_.read({index, 0, cpus_, room_}, value, room_);
    values_.gaps().clear(value, cpus_, room_);
  }
  return {};
}

Status PerCpuArrayMap::next_key(const void* key, void* next) const { return next_index(max_entries_, key, next); }

BatchResult PerCpuArrayMap::lookup_batch(const void* in_cursor, void* out_cursor, uint32_t capacity, uint64_t flags,
                                         BatchSink& sink) const {
  return generic_lookup_batch(*this, in_cursor, out_cursor, capacity, flags, sink);
}

void* PerCpuArrayMap::find(const Lease& lease, const void* key) const {
  const uint32_t index = load_index(key);
  return index < max_entries_ ? place(index, lease.cpu()) : nullptr;
}

void* PerCpuArrayMap::find_percpu(const Lease&, const void* key, uint32_t cpu) const {
  const uint32_t index = load_index(key);
  return index < max_entries_ && cpu < cpus_ ? place(index, cpu) : nullptr;
}

Status PerCpuArrayMap::update(const Lease& lease, const void* key, const void* value, uint64_t flags) {
  const uint32_t index = load_index(key);
  constexpr uint64_t kAllowed = BPF_NOEXIST | BPF_EXIST | BPF_F_CPU | BPF_F_ALL_CPUS;
  if ((flags & 0xffffffff & ~kAllowed) != 0) return fail(EINVAL);
  if (auto status = check_cpu_flags(flags, cpus_); !status) return status;
  if (auto status = check_index_update(max_entries_, index, flags); !status) return status;
  if ((flags & BPF_F_CPU) != 0) {
    return values_.write(lease, {index, static_cast<uint32_t>(flags >> 32), 1, value_size_}, value, 0);
  }
  if ((flags & BPF_F_ALL_CPUS) != 0) return values_.write(lease, {index, 0, cpus_, value_size_}, value, 0);
  return values_.write(lease, {index, 0, cpus_, room_}, value, room_);
}

Status PerCpuArrayMap::update_from_program(const Lease& lease, const void* key, const void* value, uint64_t flags) {
  const uint32_t index = load_index(key);
  if ((flags & ~uint64_t{BPF_F_LOCK}) > BPF_EXIST) return fail(EINVAL);
  if (auto status = check_index_update(max_entries_, index, flags); !status) return status;
  if ((flags & BPF_F_LOCK) != 0) return fail(EINVAL);
  // A word goes straight to its place: a write of all CPUs that commits after quiet() counts as the later one.
  if (value_size_ <= 8 && !values_.gaps().any() && values_.quiet(index)) {
    store_word(place(index, lease.cpu()), value, value_size_);  // COMMIT
    return {};
  }
  return values_.write(lease, {index, lease.cpu(), 1, value_size_}, value, 0);
}

Status PerCpuArrayMap::erase(const Lease&, const void*) { return fail(EINVAL); }

Result<uint64_t> PerCpuArrayMap::for_each(const Lease& lease, const std::function<Visit(const void*, void*)>& visit) {
  for (uint32_t index = 0; index < max_entries_; ++index) {
    if (visit(&index, place(index, lease.cpu())) == Visit::kStop) return uint64_t{index} + 1;
  }
  return max_entries_;
}

Status PerCpuArrayMap::modify(const Lease& lease, const void* key, const std::function<void(void*)>& change) {
  const uint32_t index = load_index(key);
  if (index >= max_entries_) return fail(ENOENT);
  Scratch scratch(value_size_);
  return values_.modify(lease, {index, lease.cpu(), 1, value_size_}, scratch.data(), change);
}

CheckReport PerCpuArrayMap::check() const {
  CheckReport report = {.elements = max_entries_, .free_elements = 0, .problem = {}};
  if (const char* problem = values_.check(); problem != nullptr) report.problem = problem;
  return report;
}

}  // namespace skep
