// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <atomic>
#include <cstdint>
#include <deque>
#include <memory>
#include <optional>
#include <vector>

#include "prog/decode.h"
#include "prog/timer_field.h"

namespace skep {

/// What it is: the timers that one process has callbacks for, and when they are due. No locks, no clocks: Timers
///   (timers.h) guards it and asks it.
///
/// Layout: records, and a heap of (due, record) pairs. A record has at most one pair that counts, the one with the
///   time in `queued`; it is never later than `due`. Moving a timer to a later time, or cancelling it, leaves the pair
///   alone: when its time has come the timer is queued anew for the time that it has by then, or not at all. So what
///   programs do most, pushing a deadline back, is two loads and a store.
/// Operations: take, give_back, arm, push_back, disarm, pop_due.
/// Invariants
///   1. Every record with due != kNever has queued <= due, and one pair (queued, record) in the heap.
///   2. The heap has fewer than 2 * records + kSlack pairs: then those that do not count are removed.
/// Limits: kMost records.
class TimerTable {
 public:
  static constexpr uint64_t kNever = UINT64_MAX;
  static constexpr uint32_t kMost = (1U << TimerField::kRecordBits) - 1;

  struct Record {
    uint64_t word = 0;  // what the field holds while this is its record; 0: free
    uint64_t due = kNever;
    uint64_t queued = kNever;
    TimerField* field = nullptr;
    void* value = nullptr;
    const MapBinding* map = nullptr;  // of `code`, or `inner`
    std::shared_ptr<const DecodedCode> code;
    std::shared_ptr<const MapBinding> inner;  // where the map is not one that the code names
    uint32_t function = 0;                    // index of the callback's first instruction
    uint32_t pinned_cpu = UINT32_MAX;         // UINT32_MAX: any
    uint16_t turn = 0;
  };

  /// A free record, by number; none: kMost are in use.
  std::optional<uint32_t> take();
  /// Forgets a timer. What comes back keeps its program and map alive, and is to be destroyed outside locks.
  [[nodiscard]] Record give_back(uint32_t number);

  [[nodiscard]] Record& record(uint32_t number) { return records_[number]; }
  /// The record that a word of this process's own means; null: none.
  [[nodiscard]] Record* find(uint64_t word) {
    const uint32_t number = TimerField::record_of(word);
    if (number >= records_.size() || records_[number].word != word) return nullptr;
    return &records_[number];
  }

  /// Arms a timer for `due`; true: nothing else is due earlier, so that whoever waits has to know.
  bool arm(Record& record, uint32_t number, uint64_t due) {
    record.due = due;
    if (record.queued <= due) return false;
    return queue(record, number);
  }
  /// The same for one that is armed, without a CPU, and queued for an earlier time; false: it is not. Any number of
  /// threads at once, while nobody changes the table.
  static bool push_back(Record& record, uint64_t due) {
    const std::atomic_ref<uint64_t> time(record.due);
    if (record.queued > due || record.pinned_cpu != UINT32_MAX ||
        TimerField::clock_of(record.word) == TimerField::kWork || time.load(std::memory_order_relaxed) == kNever) {
      return false;
    }
    time.store(due, std::memory_order_relaxed);
    return true;
  }
  static void disarm(Record& record) { record.due = kNever; }

  /// The number of the earliest timer that is due at `now`, which stays armed but is not queued any more.
  std::optional<uint32_t> pop_due(uint64_t now);
  /// When to look again at the latest; kNever: there is nothing to wait for.
  [[nodiscard]] uint64_t next_look() const { return heap_.empty() ? kNever : heap_.front().due; }

  [[nodiscard]] uint32_t used() const { return used_; }
  [[nodiscard]] uint32_t size() const { return static_cast<uint32_t>(records_.size()); }
  [[nodiscard]] size_t queued() const { return heap_.size(); }

 private:
  static constexpr size_t kSlack = 64;
  struct Entry {
    uint64_t due;
    uint32_t number;
    friend bool operator<(const Entry& a, const Entry& b) { return a.due > b.due; }  // the earliest on top
  };
  bool queue(Record& record, uint32_t number);
  void drop_stale();

  std::deque<Record> records_;
  std::vector<uint32_t> free_;
  std::vector<Entry> heap_;
  uint32_t used_ = 0;
};

}  // namespace skep
