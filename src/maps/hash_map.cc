// SPDX-License-Identifier: Apache-2.0
#include "maps/hash_map.h"

#include "maps/hash_map_read.h"
#include "maps/hash_map_walk.h"
#include "maps/hash_map_write.h"
#include "maps/map_kinds.h"

namespace skep {
namespace {

constexpr bool kPerCpu = false;

Status check(const MapSpec& spec, const MachineShape&) { return check_hash_spec(spec, kPerCpu); }
Result<MapLayout> layout(MapSpec& spec, const MachineShape& shape) { return lay_out_hash(spec, shape, kPerCpu); }
Status initialise(const MapSegments& segments, Machine& machine) { return initialise_hash(segments, machine, kPerCpu); }

}  // namespace

template <uint32_t kKeySize, bool kParts>
CheckReport HashMap<kKeySize, kParts>::check() const {
  return table_.check(segments_.control.writable(),
                      [this](const void* key) { return hash_.template of<kKeySize>(key, key_size_); });
}

const MapKind kHashKind = {.type = BPF_MAP_TYPE_HASH,
                    .name = "hash",
                    .check = skep::check,
                    .layout = skep::layout,
                    .initialise = skep::initialise,
                    .open = open_hash<kPerCpu>};

}  // namespace skep
