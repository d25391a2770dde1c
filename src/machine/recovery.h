// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <mutex>

#include "machine/machine.h"

namespace skep {

/// Excludes all other recoverers of one subject, in all processes of the instance, until it is destroyed, in the thread
/// that made it; within one process, recoverers of other subjects too. The operating system releases it when the
/// process dies. Take no other one inside.
class [[nodiscard]] Machine::RecoveryGuard {
 public:
  RecoveryGuard(ProcessSide& side, uint64_t subject);
  RecoveryGuard(const RecoveryGuard&) = delete;
  RecoveryGuard& operator=(const RecoveryGuard&) = delete;
  ~RecoveryGuard();

 private:
  ProcessSide& side_;
  uint64_t subject_;
  std::unique_lock<std::mutex> threads_;
  Segment keeps_lock_;  // should the application close the descriptor, the lock stays as long as this mapping
};

}  // namespace skep
