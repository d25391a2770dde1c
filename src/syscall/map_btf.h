// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>

#include "maps/map_spec.h"
#include "memory/result.h"

namespace skep {

class Btf;

/// Checks the key and value types of BPF_MAP_CREATE against the sizes and the kind of the map, and finds the special
/// fields of the value. EINVAL: types that do not fit; EACCES: special fields in a map that programs may not read or
/// write; EOPNOTSUPP: special fields that the kind does not have.
Result<ValueFields> check_map_btf(const Btf& btf, uint32_t key_type, uint32_t value_type, const MapSpec& spec);

}  // namespace skep
