// SPDX-License-Identifier: Apache-2.0
#include "maps/hash_map.h"

#include "maps/hash_map_read.h"
#include "maps/hash_map_walk.h"
#include "maps/hash_map_write.h"
#include "maps/map_kinds.h"

namespace skep {

constinit const MapKind kHashKind = HashKind<false>::row(BPF_MAP_TYPE_HASH, "hash");

}  // namespace skep
