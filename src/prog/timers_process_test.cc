// SPDX-License-Identifier: Apache-2.0
// Timers of several processes in the values of one map, and what the dead leave.
#include <atomic>

#include "prog/timers_test_support.h"

namespace skep {
namespace {

using testing::kHour;
using testing::kValueSize;
using testing::Slow;
using testing::TimersTest;

TEST_F(TimersTest, AForkedChildHasTimersOfItsOwn) {
  make_map(BPF_MAP_TYPE_ARRAY, 2);
  prepare_timer(0);
  ASSERT_EQ(start(0, kHour), 0);
  Child child([&] {
    if (timers_->has_thread() || timers_->count() != 0) return false;
    // The parent's is the parent's.
    if (start(0, 0) != -EINVAL || timers_->init(place(0), 1) != -EBUSY) return false;
    prepare_timer(1);
    if (start(1, 0) != 0 || !eventually([&] { return count(1) == 1; })) return false;
    // Setting a callback moves it here.
    if (timers_->set_callback(place(0), program_->code(), callback_) != 0) return false;
    return start(0, 0) == 0 && eventually([&] { return count(0) == 1; });
  });
  EXPECT_EQ(child.wait(), 0);
  EXPECT_EQ(start(0, 0), -EINVAL) << "it moved";
  EXPECT_EQ(timers_->init(place(0), 1), 0) << "to a process that is gone";
  EXPECT_EQ(timers_->set_callback(place(0), program_->code(), callback_), 0);
  EXPECT_EQ(start(0, 0), 0);
  EXPECT_TRUE(eventually([&] { return count(0) == 2; }));
}

TEST_F(TimersTest, CancelByAnotherProcess) {
  make_map(BPF_MAP_TYPE_ARRAY, 1);
  prepare_timer(0);
  ASSERT_EQ(start(0, kHour), 0);
  Child child([&] { return timers_->cancel(place(0)) == 1 && timers_->cancel(place(0)) == 0; });
  EXPECT_EQ(child.wait(), 0);
  EXPECT_EQ(start(0, 0), -EINVAL);
  EXPECT_EQ(count(0), 0u);
}

TEST_F(TimersTest, WhatOneWhoDiedMovingItLeftIsNotArmed) {
  make_map(BPF_MAP_TYPE_ARRAY, 1);
  ASSERT_EQ(timers_->init(place(0), 1), 0);
  static_cast<std::atomic<uint32_t>*>(place(0).value)[2].store(machine().self().value);
  ASSERT_EQ(timers_->set_callback(place(0), program_->code(), callback_), 0);
  EXPECT_FALSE(place(0).field->armed_for(machine().self()));
  Child child([&] { return timers_->cancel(place(0)) == 0; });
  EXPECT_EQ(child.wait(), 0);
}

TEST_F(TimersTest, NothingRunsAfterCancelByAnotherProcess) {
  make_map(BPF_MAP_TYPE_ARRAY, 1);
  ASSERT_EQ(timers_->init(place(0), 1), 0);
  SharedPage<std::atomic<uint32_t>> armed(0u);
  SharedPage<std::atomic<uint32_t>> cancelled(0u);
  constexpr uint32_t kRounds = 3000;
  Child child([&] {
    for (uint32_t round = 1; round <= kRounds; ++round) {
      while (armed->load() != round) sched_yield();
      for (uint32_t i = 0; i < round % 50; ++i) (void)count(0);
      const uint64_t before = count(0);
      const int64_t result = timers_->cancel(place(0));
      const uint64_t after = count(0);
      if (result != 0 && (result != 1 || after != before)) return false;
      for (int i = 0; i < 3; ++i) sched_yield();
      if (count(0) != after) return false;
      cancelled->store(round);
    }
    return true;
  });
  for (uint32_t round = 1; round <= kRounds; ++round) {
    ASSERT_EQ(timers_->set_callback(place(0), program_->code(), callback_), 0);
    ASSERT_EQ(start(0, round % 64 * 500), 0);
    armed->store(round);
    ASSERT_TRUE(eventually([&] { return cancelled->load() == round; })) << round;
  }
  EXPECT_EQ(child.wait(), 0);
}

// The first who cancels takes the timer away, a third process moves it meanwhile, and all others still wait.
TEST_F(TimersTest, EveryProcessThatCancelsWaitsForTheCallback) {
  make_slow_map();
  for (int round = 0; round < 10; ++round) {
    prepare_timer(0);
    ASSERT_EQ(start(0, 0), 0);
    ASSERT_TRUE(eventually([&] { return slow(0) != Slow::kNotYet; }));
    const auto cancels = [&] { return timers_->cancel(place(0)) == 0 && slow(0) == Slow::kHasRun; };
    Child first(cancels);
    Child mover([&] { return timers_->set_callback(place(0), program_->code(), callback_) == 0 && cancels(); });
    Child last(cancels);
    EXPECT_EQ(first.wait(), 0) << round;
    EXPECT_EQ(mover.wait(), 0) << round;
    EXPECT_EQ(last.wait(), 0) << round;
    end_slow(0);
  }
}

TEST_F(TimersTest, ACallbackWaitsForThatOfTheProcessBefore) {
  make_slow_map();
  prepare_timer(0);
  ASSERT_EQ(start(0, 0), 0);
  ASSERT_TRUE(eventually([&] { return slow(0) != Slow::kNotYet; }));
  Child mover([&] {
    if (timers_->set_callback(place(0), program_->code(), callback_) != 0 || start(0, 0) != 0) return false;
    if (!eventually([&] { return place(0).field->runner() == machine().self(); })) return false;
    return eventually([&] { return place(0).field->runner() == ProcessTag{}; });
  });
  EXPECT_EQ(mover.wait(), 0);
  EXPECT_EQ(slow(0), Slow::kHasRun);
  EXPECT_EQ(count(0), 0u) << "two at the same time";
}

// start() here against cancel() there: an armed timer is either cancelled or runs, never neither.
TEST_F(TimersTest, WhatCancelDoesNotCountRuns) {
  make_map(BPF_MAP_TYPE_ARRAY, 1);
  ASSERT_EQ(timers_->init(place(0), 1), 0);
  SharedPage<std::atomic<uint32_t>> round_of_child(0u);
  SharedPage<std::atomic<uint64_t>> cancelled(uint64_t{0});
  constexpr uint32_t kRounds = 3000;
  Child child([&] {
    for (uint32_t round = 1; round <= kRounds; ++round) {
      while (round_of_child->load() != 2 * round - 1) sched_yield();
      for (uint32_t i = 0; i < round % 200; ++i) __builtin_ia32_pause();
      const int64_t result = timers_->cancel(place(0));
      if (result != 0 && result != 1) return false;
      cancelled->fetch_add(static_cast<uint64_t>(result));
      round_of_child->store(2 * round);
    }
    return true;
  });
  uint64_t started = 0;
  for (uint32_t round = 1; round <= kRounds; ++round) {
    ASSERT_EQ(timers_->set_callback(place(0), program_->code(), callback_), 0);
    round_of_child->store(2 * round - 1);
    const int64_t result = start(0, 0);
    ASSERT_TRUE(result == 0 || result == -EINVAL) << result;
    started += result == 0;
    ASSERT_TRUE(eventually([&] { return round_of_child->load() == 2 * round; })) << round;
    ASSERT_EQ(started, cancelled->load() + count(0)) << round;
  }
  EXPECT_EQ(child.wait(), 0);
}

TEST_F(TimersTest, ValuesDeletedByAnotherProcess) {
  make_map(BPF_MAP_TYPE_HASH, 3);
  constexpr uint64_t kSoon = 200'000'000;
  for (uint32_t key = 0; key < 3; ++key) {
    prepare_timer(key);
    ASSERT_EQ(start(key, key == 2 ? 2 * kSoon : kSoon), 0);
  }
  const TimerPlace erased = place(0);
  Child child([&] {
    const std::array<std::byte, kValueSize> zeros{};
    const uint32_t first = 0, second = 1;
    const Lease lease(machine());
    return maps_[0]->erase(lease, &first) && maps_[0]->update(lease, &second, zeros.data(), 0).has_value();
  });
  EXPECT_EQ(child.wait(), 0);
  EXPECT_EQ(erased.field->word(), 0u);
  EXPECT_TRUE(eventually([&] { return count(2) == 1; }));
  EXPECT_EQ(count(1), 0u);
  EXPECT_EQ(timers_->count(), 1u) << "the others were let go when they would have been due";
}

TEST_F(TimersTest, KilledProcessesLeaveIdleTimers) {
  make_map(BPF_MAP_TYPE_HASH, 4);
  for (int round = 0; round < 30; ++round) {
    SharedPage<std::atomic<uint32_t>> turns(0u);
    Child child([&] {
      for (uint32_t i = 0;; ++i) {
        const uint32_t key = i % 4;
        timers_->init(place(key), 1);
        timers_->set_callback(place(key), program_->code(), callback_);
        start(key, i % 3 * 1000);
        if (i % 5 == 0) timers_->cancel(place(key));
        turns->fetch_add(1);
      }
      return true;
    });
    ASSERT_TRUE(eventually([&] { return turns->load() > 50; }));
    child.kill_and_wait();
    for (uint32_t key = 0; key < 4; ++key) {
      const int64_t cancelled = timers_->cancel(place(key));
      EXPECT_TRUE(cancelled == 0 || cancelled == -EINVAL) << cancelled;
      const int64_t again = timers_->init(place(key), 1);
      EXPECT_TRUE(again == 0 || again == -EBUSY) << again;
      ASSERT_EQ(timers_->set_callback(place(key), program_->code(), callback_), 0);
      const uint64_t before = count(key);
      ASSERT_EQ(start(key, 0), 0);
      EXPECT_TRUE(eventually([&] { return count(key) > before; }));
    }
  }
  EXPECT_EQ(maps_[0]->check().problem, "");
}

}  // namespace
}  // namespace skep
