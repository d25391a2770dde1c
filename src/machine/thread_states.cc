// SPDX-License-Identifier: Apache-2.0
#include "machine/thread_states.h"

#include <pthread.h>
#include <time.h>
#include <unistd.h>

#include <mutex>
#include <utility>

#include "machine/machine_registry.h"
#include "machine/process_side.h"

namespace skep {
namespace {

constinit ThreadState no_thread_state{};  // matches no machine; never written

constexpr long kRetryRegistration = 1'000'000;  // ns
constexpr uint32_t kAttemptsUntilExplained = 4000;

/// The states of the calling thread.
constinit thread_local ThreadState* t_states = nullptr;

void give_back(ThreadState& state) {
  for (Slot* const slot : {state.held, state.outer}) {
    if (slot != nullptr) slot->word.store(0, std::memory_order_release);
  }
  if (state.record != &state.no_record) {
    state.record->active.store(0, std::memory_order_release);
    state.record->owner.store(0, std::memory_order_release);
  }
}

/// At the end of a thread. The registry's mutex keeps the segments mapped meanwhile.
void end_thread(void* first) {
  t_thread_state = &no_thread_state;
  t_states = nullptr;
  MachineRegistry& registry = MachineRegistry::instance();
  const std::lock_guard lock(registry.mutex());
  for (auto* state = static_cast<ThreadState*>(first); state != nullptr;) {
    if (state->ready_serial != 0 && registry.find_serial(state->machine_serial) != nullptr) give_back(*state);
    delete std::exchange(state, state->next);
  }
}

pthread_key_t make_key() {
  pthread_key_t key;
  pthread_key_create(&key, end_thread);
  return key;
}

/// Threads give back what they have by a key's destructor, which runs after those of all thread_local objects.
void keep(ThreadState* first) {
  static const pthread_key_t key = make_key();
  t_states = first;
  pthread_setspecific(key, first);
}

/// Drops states of machines that this process has closed.
void prune() {
  MachineRegistry& registry = MachineRegistry::instance();
  const std::lock_guard lock(registry.mutex());
  ThreadState** link = &t_states;
  while (*link != nullptr) {
    ThreadState* const state = *link;
    if (registry.find_serial(state->machine_serial) != nullptr) {
      link = &state->next;
    } else {
      *link = state->next;
      if (t_thread_state == state) t_thread_state = &no_thread_state;
      delete state;
    }
  }
}

ThreadState* find_own(uint64_t serial) {
  for (ThreadState* state = t_states; state != nullptr; state = state->next) {
    if (state->machine_serial == serial) return state;
  }
  return nullptr;
}

}  // namespace

constinit thread_local ThreadState* t_thread_state = &no_thread_state;

void leave_to_parent(uint64_t machine_serial, ProcessTag child) {
  ThreadState* const state = find_own(machine_serial);
  if (state == nullptr) return;
  state->held = nullptr;
  state->outer = nullptr;
  state->record = &state->no_record;
  state->no_record.active.store(0, std::memory_order_relaxed);
  state->section_slot = ThreadState::kNoSlot;
  state->tag_word = uint64_t{child.value} << 32;
  state->ready_serial = child.value == 0 ? 0 : machine_serial;
}

ThreadState& Machine::find_thread_state() const {
  ThreadState* state = find_own(serial_);
  if (state == nullptr) {
    prune();
    state = new ThreadState;
    MachineSegment& segment = *side_->segment;
    state->machine_serial = serial_;
    state->epochs = &segment.epochs;
    state->slots = segment.slots.data();
    const uint32_t writers = slots() - cpus();
    const uint32_t first = cpus() + segment.counters.next_slot.fetch_add(1, std::memory_order_relaxed) % writers;
    state->hint = ThreadState::make_hint(first, cpus());
    state->next = t_states;
    keep(state);
  }
  if (state->ready_serial == 0) {
    state->tag_word = uint64_t{side_->registered_tag().value} << 32;
    state->ready_serial = serial_;
  }
  t_thread_state = state;
  return *state;
}

ProcessTag Machine::ProcessSide::registered_tag() {
  uint32_t attempts = 0;
  while (tag.load(std::memory_order_acquire) == 0) {
    {
      const std::lock_guard lock(MachineRegistry::instance().mutex());
      if (tag.load(std::memory_order_relaxed) == 0) separate_from_parent();
    }
    if (tag.load(std::memory_order_relaxed) != 0) break;
    if (++attempts == kAttemptsUntilExplained) {
      static constexpr char kLine[] =
          "skep: this forked process cannot register with its instance (no free descriptor, or too many processes) and "
          "tries again until it can\n";
      [[maybe_unused]] const auto written = write(STDERR_FILENO, kLine, sizeof(kLine) - 1);
    }
    const timespec pause = {0, kRetryRegistration};
    nanosleep(&pause, nullptr);
  }
  return {tag.load(std::memory_order_relaxed)};
}

}  // namespace skep
