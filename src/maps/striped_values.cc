// SPDX-License-Identifier: Apache-2.0
#include "maps/striped_values.h"

#include <sched.h>

#include <algorithm>
#include <bit>

#include "memory/file_header.h"

namespace skep {

StripedValues::Plan StripedValues::plan(uint32_t max_entries, uint32_t pieces, uint32_t piece_room) {
  const uint64_t stripe_size = sizeof(Stripe) + round_up(RedoLog::staging_size(pieces, piece_room), kCacheLine);
  const uint64_t affordable = std::max<uint64_t>(kStagingBudget / stripe_size, 1);
  const uint64_t wanted = std::min<uint64_t>(std::bit_ceil(uint64_t{max_entries}), kMostStripes);
  return {.stripes = static_cast<uint32_t>(std::bit_floor(std::min(affordable, wanted))), .stripe_size = stripe_size};
}

void StripedValues::read_contended(const ValueRange& range, void* to, uint64_t to_stride) const {
  const RedoLog log = log_of(range.element);
  for (uint32_t attempt = 1;; ++attempt) {
    if (attempt >= kReadAttempts) {
      if (writable_) {
        const Lease lease(machine_);
        const Held held(*this, lease, range.element);
        if (held.error() == 0) {
          log.copy(range, 0, to, to_stride);
          return;
        }
      }
      sched_yield();
    }
    const uint64_t mark = log.begin_read();
    log.copy(range, mark, to, to_stride);
    if (log.validate(mark)) return;
    __builtin_ia32_pause();
  }
}

const char* StripedValues::check() const {
  for (uint32_t i = 0; i < plan_.stripes; ++i) {
    const Stripe& stripe = stripe_of(i);
    const uint64_t word = stripe.lock.load(std::memory_order_acquire);
    const RedoLog log = log_of(i);
    if (word == 0 && (log.begin_read() & 1) != 0) return "an unlocked stripe has a committed write";
    if (word != 0 && static_cast<uint32_t>(word) - 1 >= machine_.slots()) return "a stripe's lock names no slot";
    if (!log.sound()) return "a stripe's redo log points outside the map";
  }
  return nullptr;
}

}  // namespace skep
