// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>

#include "machine/machine_layout.h"

namespace skep {

/// What it is: the 16 bytes of a struct bpf_timer or bpf_wq in a map's value, which all processes of the instance
/// share.
///
/// Layout
///     word 0, who has the timer
///         0                                                        not initialised
///         | 0 (32) | clock (2) | 0 (10) | 1 (20) |                 initialised; nobody has a callback for it
///         | process tag (32) | clock (2) | turn (10) | record (20) | that process has the callback, in a record of its
///                                                                  table that is in its `turn`th use
///     word 1, what it does
///         | tag of the process that runs its callback now, 0: none (32) | tag of whom it is armed for, 0: none (32) |
///
/// Invariants
///   1. A field never holds an address or anything that is used as one: a process looks its own tag's words up in its
///      own table, where record and turn must agree, and asks of other words only whether their process lives. So stale
///      or hostile bytes make a timer idle, or another one of the same process act, and nothing else.
///   2. Word 0 alone decides whose the timer is. Whoever deletes, replaces or evicts the value stores 0 there
///      (FieldGaps::release), in whatever process; the owner finds that the word is not the record's any more and lets
///      the record go.
///   3. Armed means armed for the owner of word 0: what an earlier owner left there counts for nothing. Who takes it
///      away (claim()) decides what becomes of the timer: a canceller, then no callback begins; or the owner's thread,
///      then it does, whatever happens to word 0 from there on.
///   4. A callback begins only where no other one runs, in whatever process, and only its own process says that it has
///      ended; who moves or cancels the timer meanwhile leaves that alone. The dead run nothing.
/// Ordering
///   1. Word 0 is changed by compare-and-swap, or by the plain store of 0; word 1 by compare-and-swap, or by that
///   store.
///   2. A process says that it runs the callback before it claims (begin()); who takes the timer from it changes word
///   0,
///      then tries to claim, then looks who runs: it claims, or sees the other run.
///   3. A process says that the timer is armed (arm()), then looks at word 0 once more; who takes the timer changes
///   word
///      0, then claims: one of the two sees the other.
///   4. The end of a callback is a release; those who wait for it acquire.
class TimerField {
 public:
  static constexpr uint32_t kRecordBits = 20, kTurnBits = 10;
  static constexpr uint32_t kWork = 3;    // the clock of a bpf_wq, which is due at once
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

  [[nodiscard]] bool armed_for(ProcessTag process) const {
    return armed_.load(std::memory_order_relaxed) == process.value;
  }
  enum class Armed { kYes, kClaimed, kMoved };
  /// By the owner, `word` being its own. kClaimed: it was, and somebody has taken that away; kMoved: it never was,
  /// because word 0 is another one.
  Armed arm(uint64_t word) {
    const uint32_t self = owner_of(word).value;
    for (uint32_t seen = armed_.load(std::memory_order_relaxed); seen != self;) {
      if (armed_.compare_exchange_weak(seen, self, std::memory_order_seq_cst)) break;
    }
    if (word_.load(std::memory_order_seq_cst) == word) return Armed::kYes;
    return claim({self}) ? Armed::kMoved : Armed::kClaimed;
  }
  /// True: it was armed for `process`, and is not any more.
  bool claim(ProcessTag process) {
    uint32_t armed = process.value;
    return armed != 0 && armed_.compare_exchange_strong(armed, 0, std::memory_order_seq_cst);
  }

  /// Whose thread runs the callback; no process: nobody's.
  [[nodiscard]] ProcessTag runner() const { return {runner_.load(std::memory_order_seq_cst)}; }
  enum class Begun { kYes, kGone, kBusy };
  /// Before the callback, by the owner. kGone: it was cancelled, moved or ended; kBusy: another process runs one.
  Begun begin(uint64_t word) {
    const uint32_t self = owner_of(word).value;
    uint32_t before = 0;
    if (!runner_.compare_exchange_strong(before, self, std::memory_order_seq_cst) && before != self) {
      return Begun::kBusy;
    }
    if (word_.load(std::memory_order_seq_cst) == word && claim({self})) return Begun::kYes;
    end({self});
    return Begun::kGone;
  }
  /// After the callback; also in the place of a process that died in one.
  void end(ProcessTag process) {
    uint32_t runner = process.value;
    runner_.compare_exchange_strong(runner, 0, std::memory_order_release, std::memory_order_relaxed);
  }

 private:
  std::atomic<uint64_t> word_;
  std::atomic<uint32_t> armed_;
  std::atomic<uint32_t> runner_;
};
static_assert(sizeof(TimerField) == 16 && std::atomic<uint64_t>::is_always_lock_free &&
              std::atomic<uint32_t>::is_always_lock_free);

}  // namespace skep
