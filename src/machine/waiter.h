// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>

#include "machine/machine.h"

namespace skep {

/// How a thread waits for a lock word that names the slot of its holder: spin, then yield, then look whether the holder
/// lives. Bounded: a holder that lives but does not move (SIGSTOP, a debugger) gives kTimedOut after kLimit, which
/// bpf(2) reports as the kernel's queued spin locks do, ETIMEDOUT.
class Waiter {
 public:
  enum class Verdict {
    kTryAgain,    // look at the lock word again
    kHolderGone,  // the process that held the slot when it locked is dead: repair what it left, then try again
    kOwnThread,   // this thread holds it itself (a signal handler, a callback): EDEADLK
    kTimedOut,    // ETIMEDOUT
  };
  static constexpr uint64_t kLimitNanoseconds = 5'000'000'000;

  explicit Waiter(Machine& machine) : machine_(machine) {}

  /// One step of waiting for `slot`, whose journal says that `locker` took the lock. Call in a loop that re-reads the
  /// lock word; start with a fresh Waiter whenever the lock word changed hands.
  Verdict wait(uint32_t slot, ProcessTag locker);

 private:
  Machine& machine_;
  uint32_t steps_ = 0;
  uint64_t started_ = 0;  // CLOCK_MONOTONIC, set when the wait becomes long
  uint64_t next_check_ = 0;
};

}  // namespace skep
