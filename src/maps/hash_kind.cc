// SPDX-License-Identifier: Apache-2.0
#include "maps/element_pool.h"
#include "maps/hash_map.h"

// What BPF_MAP_CREATE checks and makes for HASH and PERCPU_HASH.

namespace skep {
namespace {

constexpr uint32_t kFlags = BPF_F_NO_PREALLOC | BPF_F_NUMA_NODE | BPF_F_RDONLY | BPF_F_WRONLY | BPF_F_ZERO_SEED |
                            BPF_F_RDONLY_PROG | BPF_F_WRONLY_PROG;
constexpr uint64_t kLargestElement = (4U << 20) - 48;  // the kernel's largest allocation less its element header
constexpr uint64_t kLargestPart = 32768;               // of a per-CPU value: the kernel's smallest per-CPU unit

/// Stands in for the repair of a map that nobody has used yet.
class NothingToRepair final : public DeadHolderRepair {
 public:
  int repair(const Actor&, uint32_t, uint32_t) override { return 0; }
  Result<bool> repair_all(const Actor&) override { return false; }
};

}  // namespace

uint32_t stored_value_size(const MapSpec& spec) {
  const MapKind* kind = find_map_kind(spec.type);
  return kind == nullptr || kind->values == ValueMeaning::kBytes ? spec.value_size : sizeof(uint64_t);
}

Status check_hash_spec(const MapSpec& spec, bool per_cpu) {
  if ((spec.flags & ~kFlags) != 0) return fail(EINVAL);
  if ((spec.flags & BPF_F_RDONLY) && (spec.flags & BPF_F_WRONLY)) return fail(EINVAL);
  if ((spec.flags & BPF_F_RDONLY_PROG) && (spec.flags & BPF_F_WRONLY_PROG)) return fail(EINVAL);
  if (per_cpu && (spec.flags & BPF_F_NUMA_NODE) && spec.numa_node != UINT32_MAX) return fail(EINVAL);
  return check_hash_sizes(spec, per_cpu);
}

Status check_hash_sizes(const MapSpec& spec, bool per_cpu) {
  if (spec.max_entries == 0 || spec.key_size == 0 || spec.value_size == 0) return fail(EINVAL);
  if (uint64_t{spec.key_size} + spec.value_size >= kLargestElement) return fail(E2BIG);
  if (per_cpu && round_up(spec.value_size, 8) > kLargestPart) return fail(E2BIG);
  const ValueFields& fields = spec.fields;
  if (per_cpu && (fields.any_lock() || fields.any_owner())) return fail(EOPNOTSUPP);
  if (!FieldGaps(fields).fit(spec.value_size)) return fail(EINVAL);
  return {};
}

Result<MapLayout> lay_out_hash(const MapSpec& spec, const MachineShape& shape, bool per_cpu) {
  if (spec.max_entries > HashLayout::kMaxBuckets) return fail(E2BIG);
  const auto hash = HashLayout::of(spec, shape, per_cpu);
  if (!hash) return std::unexpected(hash.error());
  MapLayout layout;
  layout.private_size = hash->size;
  layout.reserve[0] = {.offset = 0, .length = spec.flags & BPF_F_NO_PREALLOC ? hash->keys : hash->size};
  if ((spec.flags & BPF_F_NO_PREALLOC) && per_cpu) layout.reserve[0].length = hash->keys;
  return layout;
}

Status initialise_hash(const MapSegments& segments, Machine& machine, bool per_cpu) {
  const MapSpec& spec = segments.header().spec;
  const auto layout = HashLayout::of(spec, machine.shape(), per_cpu);
  if (!layout) return std::unexpected(layout.error());
  auto* control = reinterpret_cast<HashControl*>(segments.control.data() + kControlOffset);
  control->hash_function = static_cast<uint32_t>(KeyHash::best());
  NothingToRepair nothing;
  ElementPool pool(*layout, segments.control, machine, ElementPool::memory_of(spec), nothing);
  return pool.initialise();
}

Status check_hash_function(const MapSegments& segments) {
  const auto* control = reinterpret_cast<const HashControl*>(segments.control.data() + kControlOffset);
  const auto function = static_cast<KeyHash::Function>(control->hash_function);
  if (function != KeyHash::Function::kAes && function != KeyHash::Function::kSipHash) {
    return fail_because(EINVAL, "the map's hash function is unknown");
  }
  if (!KeyHash::supported(function)) {
    return fail_because(EINVAL, "the map was made with AES instructions, which this CPU does not have");
  }
  return {};
}

}  // namespace skep
