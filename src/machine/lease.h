// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cassert>
#include <cstdint>

#include "machine/machine.h"

namespace skep {

/// The right to one slot of the machine, from construction to destruction, and a read-side critical section.
///
/// A program runs under a lease of a CPU; every mutation of a map runs under a lease of any slot. Within one thread
/// leases nest: a second one taken while the first lives is the same slot, with one exception: a CPU that is leased
/// inside a lease of a writer's slot (a program started from a visitor of a map) is leased besides, and is the slot of
/// this lease and of those nested in it, while what the outer lease has begun stays with the outer slot.
/// Leases end in the reverse order of their beginning. Not movable to another thread; in a child forked under a lease,
/// the lease is the parent's alone. Never keep one while waiting for anything but a map's own locks.
class Lease {
 public:
  /// Any slot: for writers.
  explicit Lease(Machine& machine);
  /// Slot `cpu`, a CPU: for programs. If this thread already runs on a CPU, that one is kept.
  struct Cpu {
    uint32_t number;
  };
  Lease(Machine& machine, Cpu cpu);
  /// Some CPU, preferably the one this thread runs on: for programs that nobody bound to one.
  struct AnyCpu {};
  Lease(Machine& machine, AnyCpu);
  Lease(const Lease&) = delete;
  Lease& operator=(const Lease&) = delete;
  ~Lease();

  [[nodiscard]] uint32_t slot() const { return slot_; }
  /// The CPU that per-CPU operations mean: the slot itself where it is a CPU, else slot modulo CPUs.
  [[nodiscard]] uint32_t cpu() const { return cpu_; }
  [[nodiscard]] Machine& machine() const { return *machine_; }
  /// Machine::self(), which a holder knows at once.
  [[nodiscard]] ProcessTag process() const { return {static_cast<uint32_t>(machine_->thread_state().tag_word >> 32)}; }

 private:
  Machine* machine_;
  uint32_t slot_;
  uint32_t cpu_;
};

// The common cases are here, so that they cost the compare-and-swap and little else.

inline Lease::Lease(Machine& machine) : machine_(&machine) {
  ThreadState& state = machine.thread_state();
  const uint32_t hint = state.hint.load(std::memory_order_relaxed);
  Slot& slot = state.slots[ThreadState::slot_of(hint)];
  if (state.held == nullptr && state.try_lease(slot)) [[likely]] {
    state.held = &slot;
    slot_ = ThreadState::slot_of(hint);
    cpu_ = ThreadState::cpu_of(hint);
    return;
  }
  slot_ = machine.acquire_slot(state);
  cpu_ = slot_ < machine.cpus() ? slot_ : slot_ % machine.cpus();
}

inline Lease::Lease(Machine& machine, Cpu cpu) : machine_(&machine) {
  assert(cpu.number < machine.cpus());
  ThreadState& state = machine.thread_state();
  Slot& slot = state.slots[cpu.number];
  if (state.held == nullptr && state.try_lease(slot)) [[likely]] {
    state.held = &slot;
    slot_ = cpu.number;
  } else {
    slot_ = machine.acquire_cpu(state, cpu.number);
  }
  cpu_ = slot_;
}

inline Lease::~Lease() {
  ThreadState& state = machine_->thread_state();
  Slot* const slot = state.held;
  if (slot == state.slots + slot_ && state.outer == nullptr && slot->nesting.load(std::memory_order_relaxed) == 1)
      [[likely]] {
    state.held = nullptr;
    compiler_barrier();
    // Pairs with the acquire loads of scans and of the next tenant.
    slot->word.store(0, std::memory_order_release);
    return;
  }
  machine_->release_slot(state, slot_);
}

}  // namespace skep
