// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "machine/machine.h"

namespace skep {

/// A read-side critical section that writes nothing shared: what was reachable when it began stays mapped and reserved
/// until it ends. Costs two plain stores to a cache line of this thread. Nests. Whoever waits for readers pays the
/// memory barrier instead (membarrier(2)).
///
/// In a child forked inside a section, the section has ended: the child must not use what it found before. Where all
/// reader records are taken (more than kMaxReaders reading threads), the section is a lease.
class ReaderSection {
 public:
  explicit ReaderSection(Machine& machine);
  ReaderSection(const ReaderSection&) = delete;
  ReaderSection& operator=(const ReaderSection&) = delete;
  ~ReaderSection();

 private:
  Machine* machine_;  // null: nested in another section of this thread
  ThreadState* state_;
};

inline ReaderSection::ReaderSection(Machine& machine) : machine_(&machine), state_(&machine.thread_state()) {
  ThreadState& state = *state_;
  if (state.record->active.load(std::memory_order_relaxed) != 0) {
    machine_ = nullptr;
    return;
  }
  if (state.record == &state.no_record) [[unlikely]] {
    machine.begin_section_slowly(state);
    return;
  }
  announce_section(state);
}

inline ReaderSection::~ReaderSection() {
  if (machine_ == nullptr) return;
  if (state_->record == &state_->no_record) [[unlikely]] {
    machine_->end_section_slowly(*state_);
    return;
  }
  // Pairs with the acquire load of a scan: what the section read happened before what follows the grace period.
  state_->record->active.store(0, std::memory_order_release);
}

}  // namespace skep
