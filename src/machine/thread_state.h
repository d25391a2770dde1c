// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <atomic>
#include <cstdint>

#include "machine/machine_layout.h"

#if defined(__SANITIZE_THREAD__)
#define SKEP_THREAD_SANITIZER 1
#elif defined(__has_feature)
#if __has_feature(thread_sanitizer)
#define SKEP_THREAD_SANITIZER 1
#endif
#endif

namespace skep {

/// Keeps the compiler from moving accesses across; the processor is kept by what comes before (a locked instruction) or
/// by the other side (membarrier).
inline void compiler_barrier() { std::atomic_signal_fence(std::memory_order_seq_cst); }

/// Orders an atomic read-modify-write that came before against all loads that follow.
inline void full_barrier_after_rmw() {
#if defined(__x86_64__)
  compiler_barrier();  // a locked instruction is one already
#else
  std::atomic_thread_fence(std::memory_order_seq_cst);
#endif
}

/// What one thread knows of one machine: where it leases, what it holds, where it announces its reader sections.
///
/// Every field belongs to the thread and its signal handlers, which leave all but the hint as they found it (the first
/// use of a machine in a thread allocates, and does not belong in a signal handler). The addresses point into the
/// machine's segment. The states of a thread form a list whose most recently used one is `t_thread_state`. A fork
/// handler takes from the child's state whatever belonged to the parent.
struct ThreadState {
  static constexpr uint32_t kNoSlot = UINT32_MAX;

  uint64_t ready_serial = 0;    // Machine::serial_ when the fields below are right, else 0: see find_thread_state()
  uint64_t machine_serial = 0;  // Machine::serial_ of the machine this state belongs to
  uint64_t tag_word = 0;        // the process's tag, in place for Slot::word
  const EpochLine* epochs = nullptr;
  Slot* slots = nullptr;

  std::atomic<uint32_t> hint{0};  // the slot to try first: make_hint(), one word so that signal handlers may change it

  Slot* held = nullptr;   // the innermost leased slot; null: this thread holds none
  Slot* outer = nullptr;  // the writer's slot beneath, where `held` is a CPU that was leased inside its lease

  ReaderRecord* record = &no_record;
  uint32_t section_slot = kNoSlot;  // leased in place of a record, because all of them were taken
  ReaderRecord no_record{};

  ThreadState* next = nullptr;

  static constexpr uint32_t make_hint(uint32_t slot, uint32_t cpus) { return (slot % cpus) << 16 | slot; }
  static constexpr uint32_t slot_of(uint32_t hint) { return hint & 0xffff; }
  static constexpr uint32_t cpu_of(uint32_t hint) { return hint >> 16; }

  /// Takes the slot if it is free; the caller makes it `held` then.
  bool try_lease(Slot& slot) const {
    uint64_t expected = 0;
    // Pairs with the fetch_add of begin_grace_period() and the scan that follows it: either the scan sees this word, or
    // what follows here sees everything that was unlinked before that fetch_add.
    if (!slot.word.compare_exchange_strong(expected, tag_word | epochs->epoch.load(std::memory_order_acquire),
                                           std::memory_order_seq_cst)) {
      return false;
    }
    full_barrier_after_rmw();
    slot.nesting.store(1, std::memory_order_relaxed);
    return true;
  }
};

extern constinit thread_local ThreadState* t_thread_state [[gnu::tls_model("initial-exec")]];

/// Announces that the thread reads, on its own record. The store becomes visible before the section's loads take effect
/// because whoever scans issues membarrier(2) first (GraceScan), or because of the fence where that is not possible.
inline void announce_section(ThreadState& state) {
  const uint32_t active = state.epochs->epoch.load(std::memory_order_acquire) | 1;
#ifdef SKEP_THREAD_SANITIZER  // it knows nothing of membarrier(2)
  state.record->active.store(active, std::memory_order_seq_cst);
#else
  // Release, so that a scan that sees this store has also seen the end of the section before.
  state.record->active.store(active, std::memory_order_release);
  compiler_barrier();
  if (state.epochs->need_fences.load(std::memory_order_relaxed) != 0) [[unlikely]] {
    std::atomic_thread_fence(std::memory_order_seq_cst);
  }
#endif
}

}  // namespace skep
