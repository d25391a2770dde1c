// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>

#include "machine/machine_layout.h"

namespace skep {

/// What it is: the 16 bytes of a struct bpf_timer or bpf_wq in a map's value, which all processes of the instance share.
///
/// Layout
///     word 0, who has the timer
///         0                                                        not initialised
///         | 0 (32) | clock (2) | 0 (10) | 1 (20) |                 initialised; nobody has a callback for it
///         | process tag (32) | clock (2) | turn (10) | record (20) | that process has the callback, in a record of its
///                                                                  table that is in its `turn`th use
///     word 1, what it does, as the owner says: idle, armed or running; others only read it
///
/// Invariants
///   1. A field never holds an address or anything that is used as one: a process looks its own tag's words up in its
///      own table, where record and turn must agree, and asks of other words only whether their process lives. So stale
///      or hostile bytes make a timer idle, or another one of the same process act, and nothing else.
///   2. Word 0 alone decides. Whoever deletes, replaces or evicts the value stores 0 there (FieldGaps::release), in
///      whatever process; the owner finds that the word is not the record's any more and lets the record go.
/// Ordering
///   1. Word 0 is changed by compare-and-swap, or by the plain store of 0.
///   2. Word 1 is a hint for others except for kRunning. The owner says it before it looks at word 0 for the last time
///      (begin_running()); who takes a timer from another process looks at it after changing word 0 (change(), then
///      state()): one of the two sees the other. The owner takes it back after the callback, with release; those who
///      wait for the end acquire that.
class TimerField {
 public:
  enum State : uint64_t { kIdle = 0, kArmed = 1, kRunning = 2 };
  static constexpr uint32_t kRecordBits = 20, kTurnBits = 10;
  static constexpr uint32_t kWork = 3;  // the clock of a bpf_wq, which is due at once
  static constexpr uint32_t kNobody = 1;  // what an initialised field without an owner has in the place of the record

  static constexpr uint64_t make(ProcessTag owner, uint32_t clock, uint32_t turn, uint32_t record) {
    const uint32_t low = clock << (kRecordBits + kTurnBits) | (turn & ((1U << kTurnBits) - 1)) << kRecordBits | record;
    return uint64_t{owner.value} << 32 | low;
  }
  static constexpr uint64_t unowned(uint32_t clock) { return make({}, clock, 0, kNobody); }
  static constexpr ProcessTag owner_of(uint64_t word) { return {static_cast<uint32_t>(word >> 32)}; }
  static constexpr uint32_t clock_of(uint64_t word) { return static_cast<uint32_t>(word) >> (kRecordBits + kTurnBits); }
  static constexpr uint32_t record_of(uint64_t word) { return static_cast<uint32_t>(word) & ((1U << kRecordBits) - 1); }

  [[nodiscard]] uint64_t word() const { return word_.load(std::memory_order_acquire); }
  bool change(uint64_t from, uint64_t to) { return word_.compare_exchange_strong(from, to, std::memory_order_seq_cst); }
  [[nodiscard]] uint64_t state() const { return state_.load(std::memory_order_seq_cst); }
  void set_state(State state) { state_.store(state, std::memory_order_release); }
  /// Says that the callback runs; false: the field has another word than `own`, it may not. Ordering 2.
  bool begin_running(uint64_t own) {
    state_.store(kRunning, std::memory_order_seq_cst);
    if (word_.load(std::memory_order_seq_cst) == own) return true;
    end_running(kIdle);
    return false;
  }
  void end_running(State state) {
    uint64_t running = kRunning;
    state_.compare_exchange_strong(running, state, std::memory_order_release, std::memory_order_relaxed);
  }

 private:
  std::atomic<uint64_t> word_;
  std::atomic<uint64_t> state_;
};
static_assert(sizeof(TimerField) == 16 && std::atomic<uint64_t>::is_always_lock_free);

}  // namespace skep
