// SPDX-License-Identifier: Apache-2.0
#include "maps/bloom_map.h"

#include <memory>

#include "maps/map_kinds.h"
#include "skep/abi.h"

namespace skep {
namespace {

constexpr uint32_t kFlags =
    BPF_F_NUMA_NODE | BPF_F_RDONLY | BPF_F_WRONLY | BPF_F_ZERO_SEED | BPF_F_RDONLY_PROG | BPF_F_WRONLY_PROG;
constexpr uint32_t kLargestValue = 4U << 20;  // the kernel's largest allocation
constexpr uint32_t kDefaultBits = 5;

struct alignas(kCacheLine) BloomControl {
  uint32_t hash_function;  // KeyHash::Function, constant
};

uint32_t bits_of(const MapSpec& spec) { return spec.extra != 0 ? static_cast<uint32_t>(spec.extra) : kDefaultBits; }

uint64_t blocks_of(const MapSpec& spec) { return BloomFilter::blocks_for(spec.max_entries, bits_of(spec)); }

BloomControl& control_of(const MapSegments& segments) {
  return *reinterpret_cast<BloomControl*>(segments.control.data() + kControlOffset);
}

Status check(const MapSpec& spec, const MachineShape&) {
  return spec.value_size > kLargestValue ? fail(E2BIG) : Status{};
}

Status check_late(const MapSpec& spec, const MachineShape&) {
  constexpr uint32_t kProgramAccess = BPF_F_RDONLY_PROG | BPF_F_WRONLY_PROG;
  if ((spec.flags & kProgramAccess) == kProgramAccess) return fail(EINVAL);
  if (spec.key_size != 0 || spec.value_size == 0 || spec.max_entries == 0 || (spec.flags & ~kFlags) != 0 ||
      spec.extra > BloomFilter::kMostBits) {
    return fail(EINVAL);
  }
  return spec.fields.any() ? fail(EOPNOTSUPP) : Status{};
}

Result<MapLayout> layout(MapSpec& spec, const MachineShape&) {
  MapLayout layout;
  layout.private_size = kControlOffset + sizeof(BloomControl) + blocks_of(spec) * sizeof(BloomFilter::Block);
  layout.reserve[0] = {.offset = 0, .length = layout.private_size};
  return layout;
}

Status initialise(const MapSegments& segments, Machine&) {
  control_of(segments).hash_function = static_cast<uint32_t>(KeyHash::best());
  return {};
}

Result<std::unique_ptr<Map>> open(MapSegments segments, Machine& machine) {
  const auto function = static_cast<KeyHash::Function>(control_of(segments).hash_function);
  if (function != KeyHash::Function::kAes && function != KeyHash::Function::kSipHash) {
    return fail_because(EINVAL, "the map's hash function is unknown");
  }
  if (!KeyHash::supported(function)) {
    return fail_because(EINVAL, "the map was made with AES instructions, which this CPU does not have");
  }
  return std::make_unique<BloomMap>(std::move(segments), machine);
}

}  // namespace

const MapKind kBloomKind = {.type = BPF_MAP_TYPE_BLOOM_FILTER,
                            .name = "bloom_filter",
                            .check = check,
                            .check_late = check_late,
                            .layout = layout,
                            .initialise = initialise,
                            .open = open,
                            .keyless = true};

BloomMap::BloomMap(MapSegments segments, Machine& machine)
    : Map(std::move(segments), machine),
      hash_(static_cast<KeyHash::Function>(control_of(segments_).hash_function), header().hash_seed),
      filter_(reinterpret_cast<BloomFilter::Block*>(&control_of(segments_) + 1), blocks_of(spec()), bits_of(spec())),
      value_size_(spec().value_size) {}

uint64_t BloomMap::hash(const void* value) const {
  if (value_size_ == 8) [[likely]]
    return hash_.of<8>(value, 8);
  switch (value_size_) {
    case 4:
      return hash_.of<4>(value, 4);
    case 16:
      return hash_.of<16>(value, 16);
    default:
      return hash_.of<0>(value, value_size_);
  }
}

Status BloomMap::lookup(const void*, void* value, uint64_t) const {
  return filter_.may_contain(hash(value)) ? Status{} : Status(fail(ENOENT));
}

Status BloomMap::next_key(const void*, void*) const { return fail(EOPNOTSUPP); }

Status BloomMap::update(const Lease&, const void*, const void* value, uint64_t flags) {
  if (flags != BPF_ANY) return fail(EINVAL);
  filter_.push(hash(value));
  return {};
}

Status BloomMap::erase(const Lease&, const void*) { return fail(EOPNOTSUPP); }

CheckReport BloomMap::check() const { return {.elements = filter_.population(), .free_elements = 0, .problem = {}}; }

}  // namespace skep
