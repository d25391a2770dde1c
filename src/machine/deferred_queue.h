// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <atomic>
#include <cstdint>
#include <deque>
#include <functional>

#include "machine/quiet_mutex.h"

namespace skep {

/// Callbacks of one process that wait for a grace period each, oldest first. Thread-safe; callbacks run outside its
/// lock.
class DeferredQueue {
 public:
  void push(uint32_t epoch, std::function<void()> callback);
  /// Whether there may be something to run; one relaxed load.
  [[nodiscard]] bool empty() const { return pending_.load(std::memory_order_relaxed) == 0; }
  /// The oldest callback if `elapsed` is true of its epoch; none (an empty function) when it is not, when there is
  /// none, or when another thread looks at the same time.
  std::function<void()> take_ready(const std::function<bool(uint32_t)>& elapsed);

  /// Around fork(2), so that the child's copy is whole.
  QuietMutex& mutex() { return mutex_; }

 private:
  struct Entry {
    uint32_t epoch;
    std::function<void()> callback;
  };
  QuietMutex mutex_;
  std::deque<Entry> entries_;
  std::atomic<uint32_t> pending_{0};
};

}  // namespace skep
