// SPDX-License-Identifier: Apache-2.0
#include "maps/map_kinds.h"
#include "maps/reference_array_map.h"
#include "skep/abi.h"

namespace skep {
namespace {

constexpr ReferenceArrayTraits kTraits = {.flags = BPF_F_NUMA_NODE | BPF_F_RDONLY | BPF_F_WRONLY};

}  // namespace

/// ARRAY_OF_MAPS. A word is the id of an inner map.
constinit const MapKind kArrayOfMapsKind =
    ReferenceArrayKind<kTraits>::row(BPF_MAP_TYPE_ARRAY_OF_MAPS, "array_of_maps", ValueMeaning::kMap);

}  // namespace skep
