// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <atomic>
#include <cstdint>

#include "machine/machine.h"

namespace skep {

/// Excludes all other recoverers of one subject, in all threads and processes of the instance, until it is destroyed,
/// in the thread that made it. The operating system releases it when the process dies. Take no other one inside.
///
/// The lock of the file tells processes apart, a word of the process's own its threads. Both are tried together and
/// neither is kept while the other is waited for, so that a stopped recoverer of one subject delays no other subject.
class [[nodiscard]] Machine::RecoveryGuard {
 public:
  RecoveryGuard(ProcessSide& side, uint64_t subject);
  RecoveryGuard(const RecoveryGuard&) = delete;
  RecoveryGuard& operator=(const RecoveryGuard&) = delete;
  ~RecoveryGuard();

  /// 0, or why it is not held. EDEADLK: this thread holds it (a signal handler interrupted the recovery); ETIMEDOUT: a
  /// live holder did not let go for Waiter::kLimitNanoseconds.
  [[nodiscard]] int error() const { return error_; }

 private:
  int try_lock();

  ProcessSide& side_;
  const uint64_t subject_;
  std::atomic<const void*>& thread_;  // who recovers in this process
  Segment keeps_lock_;  // should the application close the descriptor, the lock stays as long as this mapping
  int error_ = 0;
};

}  // namespace skep
