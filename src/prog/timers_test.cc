// SPDX-License-Identifier: Apache-2.0
#include <atomic>
#include <thread>

#include "prog/program_references.h"
#include "prog/timers_test_support.h"

namespace skep {
namespace {

using namespace assembler;
using testing::kHour;
using testing::kValueSize;
using testing::Slow;
using testing::TimersTest;

/// Maps have users until somebody says that they have none.
class NoUsersLater : public ProgramReferences {
 public:
  using ProgramReferences::ProgramReferences;
  [[nodiscard]] bool has_users(uint32_t) const override { return used; }
  bool entry_ended(const MapBinding&, const ReadyEvent&, uint64_t) override { return false; }
  std::atomic<bool> used{true};

 protected:
  const MapBinding* open_map(uint32_t) override { return nullptr; }
  const ReadyProgram* open_program(uint32_t) override { return nullptr; }
  const ReadyEvent* open_event(uint32_t) override { return nullptr; }
};

TEST_F(TimersTest, NoThreadUntilATimerHasACallback) {
  make_map(BPF_MAP_TYPE_ARRAY, 1);
  ASSERT_EQ(timers_->init(place(0), 1), 0);
  EXPECT_FALSE(timers_->has_thread());
  ASSERT_EQ(timers_->set_callback(place(0), program_->code(), callback_), 0);
  EXPECT_TRUE(timers_->has_thread());
  EXPECT_EQ(start(0, 0), 0);
  EXPECT_TRUE(eventually([&] { return count(0) == 1; }));
}

TEST_F(TimersTest, NeverEarly) {
  make_map(BPF_MAP_TYPE_ARRAY, 1);
  prepare_timer(0);
  for (uint64_t i = 1; i <= 20; ++i) {
    const uint64_t due = TimerClock::now() + 300'000;
    EXPECT_EQ(start(0, due, BPF_F_TIMER_ABS), 0);
    ASSERT_TRUE(eventually([&] { return count(0) == i; }));
    EXPECT_GE(TimerClock::now(), due);
  }
}

TEST_F(TimersTest, AnEarlierTimeWakesTheThread) {
  make_map(BPF_MAP_TYPE_ARRAY, 2);
  prepare_timer(0);
  prepare_timer(1);
  EXPECT_EQ(start(0, kHour), 0);
  EXPECT_EQ(start(1, 1000), 0);
  EXPECT_TRUE(eventually([&] { return count(1) == 1; }));
  EXPECT_EQ(start(0, 1000), 0);
  EXPECT_TRUE(eventually([&] { return count(0) == 1; }));
}

TEST_F(TimersTest, AHundredThousand) {
  constexpr uint32_t kTimers = 100'000;
  make_map(BPF_MAP_TYPE_ARRAY, kTimers);
  for (uint32_t key = 0; key < kTimers; ++key) {
    prepare_timer(key);
    ASSERT_EQ(start(key, key % 2 == 0 ? kHour + key : 1'000'000 + key % 1000 * 1000), 0);
  }
  EXPECT_EQ(timers_->count(), kTimers);
  EXPECT_TRUE(eventually([&] {
    for (uint32_t key = 1; key < kTimers; key += 2) {
      if (count(key) != 1) return false;
    }
    return true;
  }));
  for (uint32_t key = 0; key < kTimers; key += 2) ASSERT_EQ(timers_->cancel(place(key)), 1) << key;
  for (uint32_t key = 0; key < kTimers; ++key) ASSERT_EQ(count(key), key % 2) << key;
}

TEST_F(TimersTest, RecordsOfDeletedValuesAreLetGo) {
  make_map(BPF_MAP_TYPE_HASH, 8);
  const std::array<std::byte, kValueSize> zeros{};
  for (int round = 0; round < 20'000; ++round) {
    const uint32_t key = 3;
    prepare_timer(key);
    ASSERT_EQ(start(key, kHour), 0);
    const Lease lease(machine());
    if (round % 2 == 0) {
      ASSERT_TRUE(maps_[0]->erase(lease, &key));
    }
    ASSERT_TRUE(maps_[0]->update(lease, &key, zeros.data(), 0));
    ASSERT_EQ(timers_->cancel(place(key)), -EINVAL);
  }
  EXPECT_LE(timers_->count(), 3000u);
}

TEST_F(TimersTest, IdleTimersOfDeletedValuesAreLetGoInTime) {
  make_map(BPF_MAP_TYPE_HASH, 4);
  for (uint32_t key = 0; key < 4; ++key) prepare_timer(key);
  ASSERT_EQ(start(3, kHour), 0);
  for (const uint32_t key : {0U, 1U, 3U}) {
    const Lease lease(machine());
    ASSERT_TRUE(maps_[0]->erase(lease, &key));
  }
  EXPECT_TRUE(eventually([&] { return timers_->count() == 1; }));
  const uint32_t last = 2;
  {
    const Lease lease(machine());
    ASSERT_TRUE(maps_[0]->erase(lease, &last));
  }
  EXPECT_TRUE(eventually([&] { return timers_->count() == 0; }));
  // Again, once the thread has nothing to do but to wait for the time of the one that was armed.
  EXPECT_TRUE(eventually([&] { return !timers_->looks_after_records(); }));
  const std::array<std::byte, kValueSize> zeros{};
  {
    const Lease lease(machine());
    ASSERT_TRUE(maps_[0]->update(lease, &last, zeros.data(), 0));
  }
  prepare_timer(last);
  {
    const Lease lease(machine());
    ASSERT_TRUE(maps_[0]->erase(lease, &last));
  }
  EXPECT_TRUE(eventually([&] { return timers_->count() == 0; }));
}

TEST_F(TimersTest, TimersOfMapsWithoutUsersAreLetGoInTime) {
  NoUsersLater references(machine());
  timers_environment_.references = &references;
  make_map(BPF_MAP_TYPE_ARRAY, 2);
  prepare_timer(0);
  prepare_timer(1);
  ASSERT_EQ(start(1, kHour), 0);
  EXPECT_EQ(timers_->count(), 2u);
  references.used = false;
  EXPECT_TRUE(eventually([&] { return timers_->count() == 0; }));
  EXPECT_EQ(place(0).field->word(), 0u);
  EXPECT_EQ(place(1).field->word(), 0u);
}

TEST_F(TimersTest, EveryoneWhoCancelsWaitsForTheCallback) {
  make_slow_map();
  for (int round = 0; round < 20; ++round) {
    prepare_timer(0);
    ASSERT_EQ(start(0, 0), 0);
    ASSERT_TRUE(eventually([&] { return slow(0) != Slow::kNotYet; }));
    std::atomic<int> early{0};
    std::vector<std::thread> threads;
    for (int thread = 0; thread < 3; ++thread) {
      threads.emplace_back([&] {
        early += timers_->cancel(place(0)) != 0;
        early += slow(0) == Slow::kRuns;
      });
    }
    for (std::thread& thread : threads) thread.join();
    EXPECT_EQ(early, 0) << round;
    end_slow(0);
  }
}

// Restarts that pass the lock by are never early, and end with whatever else happens to the timer.
TEST_F(TimersTest, PushingBackADeadline) {
  make_map(BPF_MAP_TYPE_ARRAY, 2);
  prepare_timer(0);
  ASSERT_EQ(start(0, kHour), 0);
  const TimerPlace pushed = place(0);
  constexpr uint64_t kSoon = 5'000'000;
  int measured = 0;
  for (int i = 1; i <= 20; ++i) {
    uint64_t last = 0, start_before = 0, before = 0;
    {
      const Lease lease(machine(), Lease::Cpu{0});
      const uint64_t end = TimerClock::now() + 5'000'000;
      while (TimerClock::now() < end || !timers_->gate_is_open()) {
        last = TimerClock::now();
        ASSERT_LT(last, end + 10'000'000'000) << "the gate does not open: is membarrier(2) forbidden?";
        ASSERT_EQ(timers_->start(pushed, kHour, 0, lease), 0);
      }
      ASSERT_EQ(timers_->start(pushed, 2'000'000'000, 0, lease), 0) << "an earlier time";
      ASSERT_FALSE(timers_->gate_is_open());
      for (int burst = 0; burst < 20'000; ++burst) {
        start_before = last;
        last = TimerClock::now();
        ASSERT_EQ(timers_->start(pushed, kSoon, 0, lease), 0);
      }
      before = count(0);
    }
    const bool undisturbed = TimerClock::now() < start_before + kSoon / 2;  // else an earlier start may have run out
    ASSERT_TRUE(eventually([&] { return count(0) > before || !undisturbed; }));
    if (undisturbed) {
      EXPECT_GE(TimerClock::now(), last + kSoon);
      ++measured;
    }
    ASSERT_EQ(start(0, kHour), 0);
    if (i % 2 == 0) {
      EXPECT_EQ(timers_->cancel(place(0)), 1);
      EXPECT_EQ(start(0, kHour), -EINVAL);
      ASSERT_EQ(timers_->set_callback(place(0), program_->code(), callback_), 0);
      ASSERT_EQ(start(0, kHour), 0);
    }
  }
  EXPECT_GT(measured, 0);
}

// Every start() that succeeds is followed by one run or one cancellation, or moves an earlier one.
TEST_F(TimersTest, RestartsPassTheLockWhileOthersCancel) {
  make_map(BPF_MAP_TYPE_ARRAY, 2);
  ASSERT_EQ(timers_->init(place(0), 1), 0);
  std::atomic<bool> ready{false}, done{false};
  std::atomic<uint64_t> opened{0}, strange{0};
  std::thread restarts([&] {
    const TimerPlace pushed = place(0);
    uint64_t before = 0;
    while (!done) {
      const Lease lease(machine(), Lease::Cpu{0});
      const int64_t result = timers_->start(pushed, kHour, 0, lease);
      strange += result != 0 && result != -EINVAL;
      before = result == 0 ? before + 1 : 0;
      opened += before == 2000 && timers_->gate_is_open();
      ready = before > 3000;
    }
  });
  for (int round = 0; round < 300; ++round) {
    ASSERT_EQ(timers_->set_callback(place(0), program_->code(), callback_), 0);
    ASSERT_TRUE(eventually([&] { return ready.load(); }));
    ASSERT_EQ(timers_->cancel(place(0)), 1);
    ASSERT_TRUE(eventually([&] { return !ready.load(); }));
    ASSERT_EQ(timers_->cancel(place(0)), 0);
  }
  done = true;
  restarts.join();
  EXPECT_EQ(strange, 0u);
  EXPECT_GT(opened, 0u);
  EXPECT_EQ(timers_->count(), 0u);
  EXPECT_EQ(count(0), 0u);
}

TEST_F(TimersTest, HostileFieldsDoNothing) {
  make_map(BPF_MAP_TYPE_ARRAY, 2);
  prepare_timer(0);
  const uint64_t self = uint64_t{machine().self().value} << 32;
  for (const uint64_t word :
       {uint64_t{1}, uint64_t{0xffffffff}, self | 5, self | 0xffffffff, UINT64_MAX, uint64_t{77} << 32}) {
    std::memcpy(place(1).value, &word, sizeof word);
    EXPECT_EQ(start(1, 0), -EINVAL) << word;
    EXPECT_EQ(timers_->cancel(place(1)), 0) << word;
    std::memcpy(place(1).value, &word, sizeof word);
    EXPECT_EQ(timers_->set_callback(place(1), program_->code(), callback_), 0) << word;
    EXPECT_EQ(timers_->cancel(place(1)), 0);
  }
}

TEST_F(TimersTest, NothingRunsAfterCancel) {
  make_map(BPF_MAP_TYPE_ARRAY, 1);
  ASSERT_EQ(timers_->init(place(0), 1), 0);
  for (int round = 0; round < 2000; ++round) {
    ASSERT_EQ(timers_->set_callback(place(0), program_->code(), callback_), 0);
    ASSERT_EQ(start(0, static_cast<uint64_t>(round % 64) * 500), 0);
    for (int i = 0; i < round % 100; ++i) sched_yield();
    const uint64_t before = count(0);
    const int64_t cancelled = timers_->cancel(place(0));
    const uint64_t after = count(0);
    ASSERT_TRUE(cancelled == 1 ? after == before : cancelled == 0);
    for (int i = 0; i < 10; ++i) sched_yield();
    ASSERT_EQ(count(0), after);
  }
}

TEST_F(TimersTest, ThreadsOnTheSameTimers) {
  constexpr uint32_t kTimers = 16;
  make_map(BPF_MAP_TYPE_HASH, kTimers);
  std::atomic<uint64_t> strange{0};
  std::vector<std::thread> threads;
  for (uint32_t thread = 0; thread < 4; ++thread) {
    threads.emplace_back([&, thread] {
      uint32_t random = thread + 1;
      for (int i = 0; i < 20'000; ++i) {
        random = random * 1664525 + 1013904223;
        const uint32_t key = (random >> 8) % kTimers;
        const std::array<std::byte, kValueSize> zeros{};
        const Lease lease(machine());
        void* const value = maps_[0]->find(lease, &key);
        if (value == nullptr) continue;
        const TimerPlace at{.field = static_cast<TimerField*>(value), .value = value, .map = &program_->code().maps[0]};
        int64_t result = 0;
        switch (random >> 20 & 7) {
          case 0:
            result = timers_->init(at, 1);
            strange += result != 0 && result != -EBUSY;
            break;
          case 1:
          case 2:
            result = timers_->set_callback(at, program_->code(), callback_);
            strange += result != 0 && result != -EINVAL;
            break;
          case 3:
            result = timers_->cancel(at);
            strange += result != 0 && result != 1 && result != -EINVAL;
            break;
          case 4:
            strange += !maps_[0]->update(lease, &key, zeros.data(), 0);
            break;
          default:
            result = timers_->start(at, (random >> 4) % 20'000, 0, lease);
            strange += result != 0 && result != -EINVAL;
        }
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(strange, 0u);
  for (uint32_t key = 0; key < kTimers; ++key) timers_->cancel(place(key));
  EXPECT_EQ(maps_[0]->check().problem, "");
}

TEST_F(TimersTest, AnArgumentThatIsNoTimerStopsTheProgram) {
  make_map(BPF_MAP_TYPE_ARRAY, 1);
  environment_.timers = timers_.get();
  const uint32_t other = add_array(8, 1);
  const auto with_value = [](int32_t offset, uint32_t map) {
    return assemble({store(kW, r10, -4, 0), mov(r2, r10), add(r2, -4), load_map(r1, 0), call(1),
                     jump_if(kJne, r0, 0, 2), mov(r0, 1), exit_(), mov(r1, r0), add(r1, offset), load_map(r2, map),
                     mov(r3, 1), call(169), exit_()});
  };
  EXPECT_EQ(run(with_value(8, 0)).error, EINVAL);
  EXPECT_EQ(run(with_value(0, other)).error, EINVAL);
  EXPECT_EQ(run(assemble({mov(r1, r10), add(r1, -16), call(172), exit_()})).error, EINVAL);
  EXPECT_EQ(run(with_value(0, 0)).error, 0);
  EXPECT_EQ(static_cast<int64_t>(run(with_value(0, 0)).value), -EBUSY);
}

}  // namespace
}  // namespace skep
