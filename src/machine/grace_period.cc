// SPDX-License-Identifier: Apache-2.0
#include <sched.h>
#include <time.h>

#include <utility>

#include "machine/grace_scan.h"

namespace skep {
namespace {

/// How far the epoch may run ahead of what has elapsed: a quarter of what 32 bits can tell apart.
constexpr uint32_t kMaxLag = 1U << 30;
constexpr uint32_t kStep = 2;  // epochs are even, so that ReaderRecord::active is never 0 inside a section

constexpr int kYields = 20;
constexpr long kFirstSleep = 50'000;         // ns
constexpr long kLongestSleep = 1'000'000;    // ns
constexpr uint64_t kLastWait = 500'000'000;  // ns

/// Waits a little longer each time, for what other threads have to do first.
class Backoff {
 public:
  void pause() {
    if (++pauses_ <= kYields) {
      sched_yield();
      return;
    }
    const timespec wait = {0, sleep_};
    nanosleep(&wait, nullptr);
    if (sleep_ < kLongestSleep) sleep_ *= 2;
  }

 private:
  int pauses_ = 0;
  long sleep_ = kFirstSleep;
};

}  // namespace

Machine::Epoch Machine::begin_grace_period() {
  MachineSegment& segment = *side_->segment;
  auto& epoch = segment.epochs.epoch;
  const auto lag = [&] {
    return epoch.load(std::memory_order_relaxed) - segment.grace.completed.load(std::memory_order_relaxed);
  };
  if (lag() >= kMaxLag) [[unlikely]] {
    GraceScan(*side_).run(epoch.load(std::memory_order_acquire));
    // Somebody has been in a section for half a billion grace periods. The next one is promised, and begins when that
    // section ends; adding nothing still puts this call's unlinking before the addition that begins it.
    if (lag() >= kMaxLag) return epoch.fetch_add(0, std::memory_order_seq_cst) + kStep;
  }
  // Pairs with the loads of the epoch in Lease and ReaderSection.
  const Epoch begun = epoch.fetch_add(kStep, std::memory_order_seq_cst) + kStep;
  full_barrier_after_rmw();
  return begun;
}

bool Machine::elapsed(Epoch epoch) {
  MachineSegment& segment = *side_->segment;
  // Pairs with the release in GraceScan::run().
  if (!epoch_before(segment.grace.completed.load(std::memory_order_acquire), epoch)) return true;
  const auto& latest = segment.epochs.epoch;
  if (const uint32_t now = latest.load(std::memory_order_seq_cst); epoch_before(now, epoch)) {
    if (epoch != now + kStep) return true;  // not of the future, but of more than 2^31 epochs ago
    begin_grace_period();                   // the promised one, if it can begin by now
    if (epoch_before(latest.load(std::memory_order_seq_cst), epoch)) return false;
  }
  return GraceScan(*side_).run(epoch);
}

Machine::Epoch Machine::next_grace_period() const {
  // Pairs with the fetch_add of begin_grace_period(): where that one is not seen here yet, it comes after what the
  // caller made unreachable, since that is globally visible by now.
  return side_->segment->epochs.epoch.load(std::memory_order_seq_cst) + kStep;
}

bool Machine::known_elapsed(Epoch epoch) const {
  // Pairs with the release in GraceScan::run().
  return !epoch_before(side_->segment->grace.completed.load(std::memory_order_acquire), epoch);
}

void Machine::synchronize() {
  const Epoch epoch = begin_grace_period();
  Backoff backoff;
  while (!elapsed(epoch)) backoff.pause();
}

void Machine::defer(std::function<void()> callback) { side_->deferred.push(begin_grace_period(), std::move(callback)); }

void Machine::run_deferred() {
  while (!side_->deferred.empty()) {
    const auto callback = side_->deferred.take_ready([this](uint32_t epoch) { return elapsed(epoch); });
    if (!callback) return;
    callback();
  }
}

void Machine::finish_deferred() {
  Backoff backoff;
  const uint64_t end = monotonic_nanoseconds() + kLastWait;
  while (!side_->deferred.empty()) {
    run_deferred();
    if (side_->deferred.empty() || monotonic_nanoseconds() >= end) return;
    backoff.pause();
  }
}

}  // namespace skep
