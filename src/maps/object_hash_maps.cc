// SPDX-License-Identifier: Apache-2.0
// The hashes whose values are objects of the kernel: DEVMAP_HASH and SOCKHASH, each a HASH of words.
#include "maps/hash_map.h"

#include "maps/hash_map_read.h"
#include "maps/hash_map_walk.h"
#include "maps/hash_map_write.h"
#include "maps/map_kinds.h"

namespace skep {
namespace {

constexpr uint32_t kFlags = BPF_F_NUMA_NODE | BPF_F_RDONLY | BPF_F_WRONLY;
constexpr uint32_t kLongestSocketKey = 512;  // bytes: what is left of a program's stack
constexpr uint32_t kMostEntries = 1U << 31;

/// Without the batches of a HASH, and, for devices, without BPF_EXIST: that is as good as BPF_ANY there.
template <uint32_t kKeySize, bool kExistMatters>
class ObjectHashMap final : public HashMap<kKeySize, false> {
 public:
  using Hash = HashMap<kKeySize, false>;
  using Hash::Hash;
  Result<uint64_t> exchange(const Lease& lease, const void* key, uint64_t word, uint64_t flags) override {
    return Hash::exchange(lease, key, word, !kExistMatters && flags == BPF_EXIST ? uint64_t{BPF_ANY} : flags);
  }
  [[nodiscard]] Map::BatchSupport batch_support() const override { return {}; }
};

template <class Kind>
Result<std::unique_ptr<Map>> open(MapSegments segments, Machine& machine) {
  const auto layout = HashLayout::of(segments.header().spec, machine.shape(), false);
  if (!layout) return std::unexpected(layout.error());
  if (auto status = check_hash_function(segments); !status) return std::unexpected(status.error());
  return std::make_unique<Kind>(std::move(segments), machine, *layout);
}

bool wrong_value_or_flags(const MapSpec& spec) {
  return (spec.value_size != 4 && spec.value_size != 8) || (spec.flags & ~kFlags) != 0 || spec.max_entries == 0;
}

Status check_devices(const MapSpec& spec, const MachineShape&) {
  if (wrong_value_or_flags(spec) || spec.key_size != 4 || spec.max_entries > kMostEntries) return fail(EINVAL);
  return {};
}

Status check_sockets(const MapSpec& spec, const MachineShape&) {
  if (wrong_value_or_flags(spec) || spec.key_size == 0) return fail(EINVAL);
  return spec.key_size > kLongestSocketKey || spec.max_entries <= kMostEntries ? Status{} : Status(fail(EINVAL));
}

Result<MapLayout> lay_out_sockets(MapSpec& spec, const MachineShape& shape) {
  if (spec.key_size > kLongestSocketKey) return fail(E2BIG);
  return lay_out_hash(spec, shape, false);
}

/// Flags and key, in the kernel's order, before the device is looked for.
Status check_device_update(const Map& map, const void* key, uint64_t flags) {
  if (flags > BPF_EXIST) return fail(EINVAL);
  uint64_t word = 0;
  return flags == BPF_NOEXIST && map.lookup(key, &word, 0) ? Status(fail(EEXIST)) : Status{};
}

constexpr MapKind devmap_hash_row() {
  MapKind row = HashKind<false>::row(BPF_MAP_TYPE_DEVMAP_HASH, "devmap_hash");
  row.check = check_devices;
  row.open = open<ObjectHashMap<4, false>>;
  row.values = ValueMeaning::kDevice;
  row.check_update = check_device_update;
  return row;
}

constexpr MapKind sockhash_row() {
  MapKind row = HashKind<false>::row(BPF_MAP_TYPE_SOCKHASH, "sockhash");
  row.check = nullptr;
  row.check_late = check_sockets;
  row.layout = lay_out_sockets;
  row.open = open<ObjectHashMap<0, true>>;
  row.values = ValueMeaning::kSocket;
  return row;
}

}  // namespace

constinit const MapKind kDevmapHashKind = devmap_hash_row();
constinit const MapKind kSockhashKind = sockhash_row();

}  // namespace skep
