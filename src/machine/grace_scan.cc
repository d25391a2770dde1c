// SPDX-License-Identifier: Apache-2.0
#include "machine/grace_scan.h"

#include <algorithm>

namespace skep {
namespace {

/// Moves a shared epoch forward to `epoch`, never back.
void advance_to(std::atomic<uint32_t>& shared, uint32_t epoch) {
  uint32_t seen = shared.load(std::memory_order_relaxed);
  while (epoch_before(seen, epoch) &&
         !shared.compare_exchange_weak(seen, epoch, std::memory_order_acq_rel, std::memory_order_relaxed)) {
  }
}

}  // namespace

bool GraceScan::run(uint32_t wanted) {
  wanted_ = wanted;
  oldest_ = fence(wanted);
  consider_slots();
  consider_readers();
  if (wrapped_) return false;
  advance_to(segment_.grace.completed, oldest_);  // release: pairs with the acquire load in Machine::elapsed()
  return !epoch_before(oldest_, wanted_);
}

/// Makes all announcements of epochs before the returned one visible; that one is not before `wanted`.
uint32_t GraceScan::fence(uint32_t wanted) {
  const uint32_t fenced = segment_.grace.fenced.load(std::memory_order_acquire);
  if (!epoch_before(fenced, wanted)) return fenced;
  const uint32_t now = segment_.epochs.epoch.load(std::memory_order_seq_cst);
  side_.barrier.issue(segment_.epochs);
  advance_to(segment_.grace.fenced, now);
  return now;
}

void GraceScan::consider_slots() {
  for (uint32_t i = 0; i < segment_.shape.slots; ++i) {
    Slot& slot = segment_.slots[i];
    const uint64_t word = slot.word.load(std::memory_order_seq_cst);
    if (word == 0) continue;
    const auto epoch = static_cast<uint32_t>(word);
    if (holds_back(epoch)) {
      ask_for_the_living_ = ask_for_the_living_ || side_.time_to_ask_for_the_living();
      if (ask_for_the_living_ && side_.reap_slot(slot, word)) continue;
    }
    consider(epoch);
  }
}

void GraceScan::consider_readers() {
  const uint32_t used = std::min(segment_.counters.readers_used.load(std::memory_order_seq_cst), kMaxReaders);
  for (uint32_t i = 0; i < used; ++i) {
    ReaderRecord& record = segment_.readers[i];
    const uint32_t active = record.active.load(std::memory_order_acquire);
    if (active == 0) continue;
    const uint32_t epoch = active & ~1U;
    if (holds_back(epoch)) {
      ask_for_the_living_ = ask_for_the_living_ || side_.time_to_ask_for_the_living();
      // If the record changed hands since `active` was read, then the section that stored it is over.
      if (ask_for_the_living_ && side_.reap_record(record)) continue;
    }
    consider(epoch);
  }
}

bool GraceScan::holds_back(uint32_t epoch) const {
  return epoch_before(epoch, wanted_) || epoch_before(segment_.epochs.epoch.load(std::memory_order_acquire), epoch);
}

void GraceScan::consider(uint32_t epoch) {
  // Loaded after the announcement, so that only an epoch of long ago can seem to lie ahead of it.
  const uint32_t now = segment_.epochs.epoch.load(std::memory_order_acquire);
  if (epoch_before(now, epoch)) wrapped_ = true;
  if (epoch_before(epoch, oldest_)) oldest_ = epoch;
}

}  // namespace skep
