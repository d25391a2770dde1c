// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>

#if defined(__x86_64__)
#include <x86intrin.h>
#endif

#include "prog/clock.h"

namespace skep {

/// What it is: CLOCK_MONOTONIC from the processor's time stamp counter, for one user at a time. It costs the reading of
///   the counter, half of what the clock itself costs.
///
/// Operations: now: the clock's time or one that is a little later, never an earlier one.
/// Invariants
///   1. What the clock says after the counter was read is not before the clock's time at that stamp. So a time told
///   from
///      such a pair is not early as long as the rate is not too low.
///   2. The rate is that of the last two pairs, a millisecond to a tenth of a second apart, each read within 200 ns,
///   and
///      1/1024 more. The pairs may make it wrong by 1/5000, and adjtimex(2) changes the clock's frequency by at most
///      1/2000 meanwhile. Two rates in a row differ by no more than 1/4096.
///   3. A pair serves for a millisecond.
/// Limits: a time is late by less than 2 us. Where the kernel does not take its own time from the counter, or does not
/// say
///   so, where two rates differ, and for those who ask less often than ten times a second: the clock itself.
class StampClock {
 public:
  uint64_t now() {
#if defined(__x86_64__)
    const uint64_t since = __rdtsc() - stamp_;
    if (since < serves_) [[likely]]
      return time_ + (since * rate_ >> kRateBits);
#endif
    return begin_anew();
  }

  /// Whether the last now() was one of the counter's. For tests.
  [[nodiscard]] bool serves() const { return serves_ != 0; }

 private:
  static constexpr uint32_t kRateBits = 32;

  uint64_t begin_anew();

  uint64_t stamp_ = 0;      // of the counter
  uint64_t time_ = 0;       // not before what the clock said at that stamp, ns
  uint64_t serves_ = 0;     // stamps from then on for which that may be used; 0: not at all
  uint64_t rate_ = 0;       // ns per stamp << kRateBits, the margin included
  uint64_t pure_rate_ = 0;  // without it; 0: not known
};

}  // namespace skep
