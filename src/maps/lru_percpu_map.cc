// SPDX-License-Identifier: Apache-2.0
#include "maps/lru_map.h"
#include "maps/map_kinds.h"

namespace skep {

constinit const MapKind kLruPerCpuHashKind = LruKind<true>::row(BPF_MAP_TYPE_LRU_PERCPU_HASH, "lru_percpu_hash");

}  // namespace skep
