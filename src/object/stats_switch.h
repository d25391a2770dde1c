// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <memory>

#include "memory/result.h"
#include "memory/segment.h"

namespace skep {

class FileDescriptor;

/// Whether run-time statistics are on: while any process of the instance holds a BPF_ENABLE_STATS descriptor.
///
/// <instance>/bpf-stats holds one word, 1 if statistics may be on; a holder has the file's shared flock. Who finds the
/// word 1 and nobody holding clears it under the exclusive flock, so a holder that was killed turns them off too.
/// Any thread and process.
class StatsSwitch {
 public:
  static Result<std::unique_ptr<StatsSwitch>> open(int directory_fd);
  /// One load. False: surely off. Stale is fine: a run that races with enabling may be counted or not.
  [[nodiscard]] bool maybe_enabled() const;
  /// Exact, at the price of system calls while the answer is yes: ask once per run of a program.
  [[nodiscard]] bool enabled(int directory_fd);
  /// A close-on-exec descriptor that keeps statistics on until its last duplicate is closed.
  Result<FileDescriptor> enable(int directory_fd);

 private:
  StatsSwitch() = default;
  Segment word_;
};

}  // namespace skep
