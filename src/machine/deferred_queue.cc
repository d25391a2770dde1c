// SPDX-License-Identifier: Apache-2.0
#include "machine/deferred_queue.h"

#include <utility>

namespace skep {

void DeferredQueue::push(uint32_t epoch, std::function<void()> callback) {
  const std::lock_guard lock(mutex_);
  entries_.push_back({epoch, std::move(callback)});
  pending_.fetch_add(1, std::memory_order_relaxed);
}

std::function<void()> DeferredQueue::take_ready(const std::function<bool(uint32_t)>& elapsed) {
  const std::unique_lock lock(mutex_, std::try_to_lock);
  if (!lock.owns_lock() || entries_.empty() || !elapsed(entries_.front().epoch)) return {};
  auto callback = std::move(entries_.front().callback);
  entries_.pop_front();
  pending_.fetch_sub(1, std::memory_order_relaxed);
  return callback;
}

}  // namespace skep
