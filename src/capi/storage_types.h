// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "maps/map.h"
#include "object/instance.h"

namespace skep {

/// The types that bpf(2) asks of a map of local storage: a 32-bit key and a value of that many bytes, as numbers as
/// wide as its size allows. A BTF object of the instance, which lives while the descriptor is open or a map holds it.
struct StorageTypes {
  FileDescriptor file;
  uint32_t id = 0;
  uint32_t key = 0;
  uint32_t value = 0;
};
Result<StorageTypes> make_storage_types(Instance& instance, uint32_t value_size);

}  // namespace skep
