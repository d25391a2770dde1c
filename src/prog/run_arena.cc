// SPDX-License-Identifier: Apache-2.0
// Accesses to an arena. The value of a pointer that a program may follow is the low half of a user address, whatever
// arithmetic made of the half above: no memory of this process lies where such values point, so what is no region of
// the run and near them is the arena.
#include "maps/arena_map.h"
#include "prog/run.h"

namespace skep {

bool Run::in_arena(uint64_t pointer, uint64_t address, uint32_t size, std::byte*& place) const {
  constexpr uint64_t kReach = uint64_t{1} << 36;  // of sums that the kernel cuts to 32 bits
  if (code_->arena == nullptr || pointer + kReach >= 2 * kReach) return false;
  place = code_->arena->reach(*lease_,
                              int64_t{static_cast<uint32_t>(pointer)} + static_cast<int64_t>(address - pointer), size);
  return true;
}

}  // namespace skep
