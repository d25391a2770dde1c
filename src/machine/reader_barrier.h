// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <atomic>

#include "machine/machine_layout.h"

namespace skep {

/// The memory barrier that reader sections leave out, issued on their behalf by whoever scans the reader records.
///
/// Normally membarrier(2) GLOBAL_EXPEDITED: it runs a barrier on every CPU that executes a thread of a registered
/// process, and every process of the instance registers. A process that may not use membarrier (an old kernel, a
/// seccomp filter) raises EpochLine::need_fences for good: from then on readers of all processes fence for themselves.
class ReaderBarrier {
 public:
  /// Registers this process, also again after fork(2). Async-signal-safe.
  void start(EpochLine& epochs);
  /// After this, every announcement stored by a reader whose section's loads may have taken effect already is visible.
  void issue(EpochLine& epochs);

 private:
  void demand_fences(EpochLine& epochs);
  std::atomic<bool> membarrier_works_{true};
};

}  // namespace skep
