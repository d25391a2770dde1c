// SPDX-License-Identifier: Apache-2.0
#include "maps/rhash_map.h"

#include "maps/map_kinds.h"

namespace skep {
namespace {

/// What BPF_MAP_CREATE checks, in the kernel's order.
Status check(const MapSpec& spec, const MachineShape& shape) {
  constexpr uint32_t kMost = UINT16_MAX;  // bytes of a key, and elements expected
  const auto expected = static_cast<uint32_t>(spec.extra);
  if ((spec.flags & BPF_F_NO_PREALLOC) == 0 || (spec.flags & BPF_F_ZERO_SEED) != 0) return fail(EINVAL);
  if (spec.key_size > kMost) return fail(E2BIG);
  if (spec.extra >> 32 != 0) return fail(EINVAL);
  if (expected > kMost) return fail(E2BIG);
  if (expected > spec.max_entries) return fail(EINVAL);
  return HashKind<false>::check(spec, shape);
}

constexpr MapKind row() {
  MapKind kind = HashKind<false>::row(BPF_MAP_TYPE_RHASH, "rhash");
  kind.check = check;
  kind.open = open_hash<RhashMap, false>;
  return kind;
}

}  // namespace

constinit const MapKind kRhashKind = row();

}  // namespace skep
