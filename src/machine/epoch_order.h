// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <atomic>
#include <cstdint>

namespace skep {

/// Epochs are 32 bits wide and come round: of two that are less than 2^31 apart, the one before which the other lies.
[[nodiscard]] constexpr bool epoch_before(uint32_t a, uint32_t b) { return static_cast<int32_t>(a - b) < 0; }

/// Moves a shared epoch forward to `epoch`, never back.
inline void advance_epoch_to(std::atomic<uint32_t>& shared, uint32_t epoch) {
  uint32_t seen = shared.load(std::memory_order_relaxed);
  while (epoch_before(seen, epoch) &&
         !shared.compare_exchange_weak(seen, epoch, std::memory_order_acq_rel, std::memory_order_relaxed)) {
  }
}

}  // namespace skep
