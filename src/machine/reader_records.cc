// SPDX-License-Identifier: Apache-2.0
#include <algorithm>

#include "machine/process_side.h"
#include "machine/reader_section.h"

namespace skep {
namespace {

constexpr uint32_t kRecordsToLookAt = 8;

void raise_to(std::atomic<uint32_t>& value, uint32_t least) {
  uint32_t seen = value.load(std::memory_order_relaxed);
  // Sequentially consistent, so that it is a full barrier between claiming a record and reading under it: a scan that
  // does not look at the record yet began before the section, which then sees all that was unlinked before the scan.
  while (seen < least && !value.compare_exchange_weak(seen, least)) {
  }
}

}  // namespace

bool Machine::ProcessSide::reap_record(ReaderRecord& record) {
  uint32_t owner = record.owner.load(std::memory_order_acquire);
  if (owner == 0 || alive(ProcessTag{owner})) return false;
  const uint32_t mine = tag.load(std::memory_order_relaxed);
  if (mine == 0) return false;  // a child that could not register yet has no name to take it under
  // First ours, then clean, then free: whoever dies on the way leaves a record of a dead process again.
  if (!record.owner.compare_exchange_strong(owner, mine)) return false;
  record.active.store(0, std::memory_order_relaxed);
  record.owner.store(0, std::memory_order_release);
  return true;
}

ReaderRecord* Machine::ProcessSide::claim_free_record(uint32_t first, uint32_t last) {
  const uint32_t mine = tag.load(std::memory_order_relaxed);
  for (uint32_t i = first; i < last; ++i) {
    ReaderRecord& record = segment->readers[i];
    uint32_t owner = record.owner.load(std::memory_order_relaxed);
    if (owner != 0 || !record.owner.compare_exchange_strong(owner, mine)) continue;
    raise_to(segment->counters.readers_used, i + 1);
    return &record;
  }
  return nullptr;
}

// Processes that exit leave the records of their threads behind. So that scans stay short, the records in use grow only
// when there is none to be had from the dead among those that are looked at, a few each time, in turn.
ReaderRecord* Machine::ProcessSide::claim_record() {
  const uint32_t used = std::min(segment->counters.readers_used.load(std::memory_order_relaxed), kMaxReaders);
  if (ReaderRecord* const free = claim_free_record(0, used); free != nullptr) return free;
  const bool full = used == kMaxReaders;
  if (used > 0 && (!full || time_to_ask_for_the_living())) {
    const uint32_t looks = full ? used : std::min(used, kRecordsToLookAt);
    const uint32_t start = segment->counters.next_reap.fetch_add(looks, std::memory_order_relaxed);
    uint32_t reaped = 0;
    for (uint32_t i = 0; i < looks; ++i) reaped += reap_record(segment->readers[(start + i) % used]) ? 1 : 0;
    if (reaped > 0) {
      if (ReaderRecord* const free = claim_free_record(0, used); free != nullptr) return free;
    }
  }
  return claim_free_record(used, kMaxReaders);
}

void Machine::ProcessSide::give_back_records() {
  const uint32_t used = std::min(segment->counters.readers_used.load(std::memory_order_acquire), kMaxReaders);
  for (uint32_t i = 0; i < used; ++i) {
    ReaderRecord& record = segment->readers[i];
    if (record.owner.load(std::memory_order_relaxed) != tag.load(std::memory_order_relaxed)) continue;
    record.active.store(0, std::memory_order_release);
    record.owner.store(0, std::memory_order_release);
  }
}

ReaderRecord* Machine::reader_record() {
  ThreadState& state = thread_state();
  if (state.record == &state.no_record) {
    if (ReaderRecord* const claimed = side_->claim_record(); claimed != nullptr) state.record = claimed;
  }
  return state.record == &state.no_record ? nullptr : state.record;
}

void Machine::begin_section_slowly(ThreadState& state) {
  if (reader_record() != nullptr) {
    announce_section(state);
    return;
  }
  state.section_slot = acquire_slot(state);
  state.no_record.active.store(1, std::memory_order_relaxed);  // for nested sections
}

void Machine::end_section_slowly(ThreadState& state) {
  state.no_record.active.store(0, std::memory_order_relaxed);
  if (state.section_slot == ThreadState::kNoSlot) return;  // a child, forked inside its parent's section
  release_slot(state, state.section_slot);
  state.section_slot = ThreadState::kNoSlot;
}

}  // namespace skep
