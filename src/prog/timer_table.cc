// SPDX-License-Identifier: Apache-2.0
#include "prog/timer_table.h"

#include <algorithm>
#include <utility>

namespace skep {

std::optional<uint32_t> TimerTable::take() {
  uint32_t number;
  if (!free_.empty()) {
    number = free_.back();
    free_.pop_back();
  } else if (records_.size() < kMost) {
    number = size();
    records_.emplace_back();
  } else {
    return std::nullopt;
  }
  ++used_;
  return number;
}

TimerTable::Record TimerTable::give_back(uint32_t number) {
  Record fresh;
  fresh.turn = static_cast<uint16_t>(records_[number].turn + 1);
  fresh.queued = records_[number].queued;  // its pair is still there, and serves the next timer
  free_.push_back(number);
  --used_;
  return std::exchange(records_[number], std::move(fresh));
}

bool TimerTable::queue(Record& record, uint32_t number) {
  if (heap_.size() >= 2 * records_.size() + kSlack) drop_stale();
  record.queued = record.due;
  heap_.push_back({record.due, number});
  std::push_heap(heap_.begin(), heap_.end());
  return heap_.front().due == record.due;
}

void TimerTable::drop_stale() {
  std::erase_if(heap_, [this](const Entry& entry) { return records_[entry.number].queued != entry.due; });
  std::make_heap(heap_.begin(), heap_.end());
}

std::optional<uint32_t> TimerTable::pop_due(uint64_t now) {
  while (!heap_.empty() && heap_.front().due <= now) {
    const Entry top = heap_.front();
    std::pop_heap(heap_.begin(), heap_.end());
    heap_.pop_back();
    Record& record = records_[top.number];
    if (record.queued != top.due) continue;
    record.queued = kNever;
    if (record.due == kNever) continue;
    if (record.due <= now) return top.number;
    queue(record, top.number);
  }
  return std::nullopt;
}

}  // namespace skep
