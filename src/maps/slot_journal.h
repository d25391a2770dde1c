// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <atomic>
#include <cstdint>

#include "memory/result.h"

namespace skep {

/// What the holder of one machine slot is doing to one hash map; read by whoever repairs the map after its death.
///
/// Written by the slot's holder only (by the repairer after its death). Every field is set before the fact and cleared
/// before the lock that protects the fact is released, so that a repairer, who finds the dead holder's locks still
/// held, can decide by looking at the structure whether the fact happened:
///
///     field     set                             cleared                    the fact
///     bucket    before the bucket is locked     after it is unlocked       its word names this slot
///     in_hand   before the element is taken     after it is linked         a chain contains it
///     to_free   before the element is unlinked  when it stands in a magazine
///     replaced  before the spare takes its place  when it is the spare     a chain contains the spare
///     in_place  when the spare holds the whole new value                   (redo: copy it again)
///     overflow  before the bucket is taken or unlinked                     a chain contains it
///     chunk     while elements move between it and a magazine              (recount)
///
/// What an operation has left over stays here with kKept, where it needs no lock and so cannot be waited for: an
/// overflow bucket, which only the slot's next operations use or return, and a spare of a large element, which whoever
/// has the pool lock may take.
struct alignas(64) SlotJournal {
  static constexpr uint32_t kKept = 0x80000000;  // in `spare` and `overflow`: no operation has it in its hands

  std::atomic<uint32_t> process;       // ProcessTag of the last holder that wrote; 0: repaired or never used
  std::atomic<uint32_t> bucket;        // number + 1; 0: idle
  std::atomic<uint32_t> in_hand;       // element
  std::atomic<uint32_t> to_free;       // element
  std::atomic<uint32_t> spare;         // element that replaces the next value; 0: none
  std::atomic<uint32_t> replaced;      // element
  std::atomic<uint32_t> in_place;      // element
  std::atomic<uint32_t> in_place_cpu;  // CPU + 1 whose value is written in place; 0: all of them
  std::atomic<uint32_t> overflow;      // bucket number; 0: none
  std::atomic<uint32_t> chunk;         // number + 1
};
static_assert(sizeof(SlotJournal) == 64);

/// In whose name a structure is changed: the holder of a slot, or the repairer of a dead one's.
struct Actor {
  uint32_t slot;
  bool repairing = false;  // holds the map's recovery guard
};

/// How a lock that a dead process holds is repaired.
class DeadHolderRepair {
 public:
  /// Repairs what `process` left in `slot`, if it has not been done yet. The process is dead. 0, or why not:
  /// ETIMEDOUT (another repairer does not move), EDEADLK (this thread is one, interrupted by a signal).
  virtual int repair(const Actor& actor, uint32_t slot, uint32_t process) = 0;
  /// Repairs what every dead process left; whether there was anything. Errors as repair().
  virtual Result<bool> repair_all(const Actor& actor) = 0;

 protected:
  ~DeadHolderRepair() = default;
};

}  // namespace skep
