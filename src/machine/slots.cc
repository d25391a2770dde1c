// SPDX-License-Identifier: Apache-2.0
#include <sched.h>
#include <time.h>
#include <unistd.h>

#include <array>
#include <cstdio>

#include "machine/process_side.h"

namespace skep {
namespace {

constexpr uint64_t kExplainAfter = 5'000'000'000;  // ns
constexpr uint64_t kSleepAfter = 200'000;          // ns
constexpr uint64_t kLookInterval = 1'000'000;      // ns
constexpr long kSleep = 100'000;                   // ns

std::atomic<bool> explained{false};

/// How a thread waits for a slot: yields, then short sleeps, and one line on stderr when it takes long.
class SlotWait {
 public:
  explicit SlotWait(Machine::ProcessSide& side) : side_(side) {}

  /// One step. True: it is time to look which holders still live.
  bool step(const char* what, uint32_t slot) {
    const uint64_t now = monotonic_nanoseconds();
    if (started_ == 0) {
      started_ = now;
      next_look_ = now + kSleepAfter;
    }
    if (now - started_ < kSleepAfter) {
      sched_yield();
    } else {
      const timespec pause = {0, kSleep};
      nanosleep(&pause, nullptr);
    }
    if (now - started_ >= kExplainAfter && !explained.exchange(true)) explain(what, slot);
    if (now < next_look_) return false;
    next_look_ = now + kLookInterval;
    return true;
  }

 private:
  void explain(const char* what, uint32_t slot) const {
    const uint64_t word = side_.segment->slots[slot].word.load(std::memory_order_relaxed);
    std::array<char, 256> line;
    const int length = std::snprintf(
        line.data(), line.size(),
        "skep: process %d has waited 5 s for %s; slot %u is held by process index %u of the instance, which lives but "
        "does not go on (stopped, or in a debugger?)\n",
        static_cast<int>(getpid()), what, slot, ProcessTag{static_cast<uint32_t>(word >> 32)}.index());
    if (length > 0) [[maybe_unused]]
      const auto written = write(STDERR_FILENO, line.data(), static_cast<size_t>(length));
  }

  Machine::ProcessSide& side_;
  uint64_t started_ = 0;
  uint64_t next_look_ = 0;
};

void nest(Slot& slot) {
  slot.nesting.store(slot.nesting.load(std::memory_order_relaxed) + 1, std::memory_order_relaxed);
}

/// Leases the first free slot of [first, last), beginning with `begin`. kNoSlot when all are taken.
uint32_t try_range(ThreadState& state, uint32_t first, uint32_t last, uint32_t begin) {
  const uint32_t count = last - first;
  for (uint32_t i = 0; i < count; ++i) {
    const uint32_t number = first + (begin - first + i) % count;
    Slot& slot = state.slots[number];
    if (slot.word.load(std::memory_order_relaxed) == 0 && state.try_lease(slot)) return number;
  }
  return ThreadState::kNoSlot;
}

}  // namespace

bool Machine::ProcessSide::reap_slot(Slot& slot, uint64_t word) {
  if (word == 0 || alive(ProcessTag{static_cast<uint32_t>(word >> 32)})) return false;
  return slot.word.compare_exchange_strong(word, 0);
}

void Machine::ProcessSide::reap_slots(uint32_t first, uint32_t last) {
  for (uint32_t i = first; i < last; ++i) {
    reap_slot(segment->slots[i], segment->slots[i].word.load(std::memory_order_acquire));
  }
}

uint32_t Machine::acquire_slot(ThreadState& state) {
  if (state.held != nullptr) {
    nest(*state.held);
    return static_cast<uint32_t>(state.held - state.slots);
  }
  SlotWait wait(*side_);
  const uint32_t hint = state.hint.load(std::memory_order_relaxed);
  while (true) {
    uint32_t number = try_range(state, cpus(), slots(), ThreadState::slot_of(hint));
    if (number != ThreadState::kNoSlot) {
      state.hint.store(ThreadState::make_hint(number, cpus()), std::memory_order_relaxed);
    } else {
      number = try_range(state, 0, cpus(), ThreadState::cpu_of(hint));  // no hint: programs need the CPUs more
    }
    if (number != ThreadState::kNoSlot) {
      state.held = state.slots + number;
      return number;
    }
    if (wait.step("one of the writers' slots", ThreadState::slot_of(hint))) side_->reap_slots(0, slots());
  }
}

uint32_t Machine::acquire_cpu(ThreadState& state, uint32_t cpu) {
  if (state.held != nullptr && state.held < state.slots + cpus()) {
    nest(*state.held);
    return static_cast<uint32_t>(state.held - state.slots);
  }
  SlotWait wait(*side_);
  while (try_range(state, cpu, cpu + 1, cpu) != cpu) {
    if (wait.step("a CPU", cpu)) side_->reap_slots(cpu, cpu + 1);
  }
  state.outer = state.held;
  state.held = state.slots + cpu;
  return cpu;
}

uint32_t Machine::acquire_any_cpu(ThreadState& state, uint32_t preferred) {
  if (state.held != nullptr && state.held < state.slots + cpus()) return acquire_cpu(state, 0);
  SlotWait wait(*side_);
  while (true) {
    const uint32_t number = try_range(state, 0, cpus(), preferred % cpus());
    if (number != ThreadState::kNoSlot) {
      state.outer = state.held;
      state.held = state.slots + number;
      return number;
    }
    if (wait.step("any CPU", preferred % cpus())) side_->reap_slots(0, cpus());
  }
}

void Machine::release_slot(ThreadState& state, uint32_t number) {
  Slot* const slot = state.slots + number;
  if (slot != state.held && slot != state.outer) return;  // a child, forked under its parent's lease
  const uint32_t nesting = slot->nesting.load(std::memory_order_relaxed);
  if (nesting > 1) {
    slot->nesting.store(nesting - 1, std::memory_order_relaxed);
    return;
  }
  if (slot == state.held) state.held = state.outer;
  state.outer = nullptr;
  compiler_barrier();
  slot->word.store(0, std::memory_order_release);  // pairs as in Lease::~Lease
}

uint32_t Machine::acquire_slot() { return acquire_slot(thread_state()); }

uint32_t Machine::acquire_cpu(uint32_t cpu) { return acquire_cpu(thread_state(), cpu); }

void Machine::release_slot(uint32_t slot) { release_slot(thread_state(), slot); }

ProcessTag Machine::holder(uint32_t slot) const {
  return {static_cast<uint32_t>(side_->segment->slots[slot].word.load(std::memory_order_acquire) >> 32)};
}

bool Machine::held_by_this_thread(uint32_t slot) const {
  const ThreadState& state = thread_state();
  return state.held == state.slots + slot || (state.outer != nullptr && state.outer == state.slots + slot);
}

}  // namespace skep
