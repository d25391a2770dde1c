// SPDX-License-Identifier: Apache-2.0
#include "maps/lru_map.h"

#include "maps/map_kinds.h"

namespace skep {

constinit const MapKind kLruHashKind = LruKind<false>::row(BPF_MAP_TYPE_LRU_HASH, "lru_hash");

}  // namespace skep
