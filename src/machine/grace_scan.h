// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <atomic>
#include <cstdint>

#include "machine/process_side.h"

namespace skep {

/// Whether epoch `a` lies before `b`. Epochs are 32 bits wide and come round: true of two that are less than 2^31
/// apart.
[[nodiscard]] constexpr bool epoch_before(uint32_t a, uint32_t b) { return static_cast<int32_t>(a - b) < 0; }

/// One look at all leases and reader sections of the instance: which grace periods are over?
///
/// Invariants
/// 1. GraceLine::completed <= GraceLine::fenced <= EpochLine::epoch, and the epoch is never more than kMaxLag ahead of
///    `completed` (see begin_grace_period()), so that comparing recent epochs cannot go wrong.
/// 2. A section that announced epoch e holds back every grace period after e.
///
/// Ordering guarantees
/// G1. A lease whose word the scan reads as free, or with an epoch not before E, sees all that was unlinked before
///     begin_grace_period() returned E: its compare-and-swap comes after that call's fetch_add, or it loaded the epoch
///     that the fetch_add stored.
/// G2. The same for a reader section, whose plain store ReaderBarrier::issue() makes visible before the scan.
/// G3. All that a section read happened before elapsed(E) returns true, for every E after the section's epoch: the
///     section's closing store is a release, the scan's loads are acquires, and `completed` hands that on.
class GraceScan {
 public:
  explicit GraceScan(Machine::ProcessSide& side) : side_(side), segment_(*side.segment) {}

  /// Publishes in `completed` how far grace periods are over. Whether that includes `wanted`.
  bool run(uint32_t wanted);

 private:
  uint32_t fence(uint32_t wanted);
  void consider_slots();
  void consider_readers();
  [[nodiscard]] bool holds_back(uint32_t epoch) const;
  void consider(uint32_t epoch);

  Machine::ProcessSide& side_;
  MachineSegment& segment_;
  uint32_t wanted_ = 0;
  uint32_t oldest_ = 0;   // the oldest epoch seen: grace periods up to it are over
  bool wrapped_ = false;  // a section announced an epoch of more than 2^31 ago: nothing is over
  bool ask_for_the_living_ = false;
};

}  // namespace skep
