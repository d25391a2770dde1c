// SPDX-License-Identifier: Apache-2.0
#include "maps/hash_map.h"

#include "maps/hash_map_read.h"
#include "maps/hash_map_walk.h"
#include "maps/hash_map_write.h"
#include "maps/map_kinds.h"

namespace skep {
namespace {

Status check(const MapSpec& spec, const MachineShape& shape) {
  if (spec.value_size != sizeof(uint32_t)) return fail(EINVAL);
  return HashKind<false>::check(spec, shape);
}

constexpr MapKind row() {
  MapKind kind = HashKind<false>::row(BPF_MAP_TYPE_HASH_OF_MAPS, "hash_of_maps");
  kind.check = check;
  kind.values = ValueMeaning::kMap;
  return kind;
}

}  // namespace

/// HASH_OF_MAPS: a HASH whose stored values are words, each the id of an inner map.
constinit const MapKind kHashOfMapsKind = row();

}  // namespace skep
