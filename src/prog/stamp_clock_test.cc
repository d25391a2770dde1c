// SPDX-License-Identifier: Apache-2.0
#include "prog/stamp_clock.h"

#include <gtest/gtest.h>

#include <thread>

namespace skep {
namespace {

TEST(StampClockTest, NeverEarlyAndHardlyLate) {
  StampClock clock;
  uint64_t served = 0, late = 0;
  for (const uint64_t end = TimerClock::now() + 300'000'000; TimerClock::now() < end;) {
    const uint64_t before = TimerClock::now();
    const uint64_t told = clock.now();
    const uint64_t after = TimerClock::now();
    ASSERT_GE(told, before);
    served += clock.serves();
    late += told > after + 2000;
  }
  EXPECT_EQ(late, 0u);
  RecordProperty("served", std::to_string(served));
}

TEST(StampClockTest, AfterAPauseItAsksTheClock) {
  StampClock clock;
  for (const uint64_t end = TimerClock::now() + 20'000'000; TimerClock::now() < end;) (void)clock.now();
  const uint64_t start = TimerClock::now();
  while (TimerClock::now() < start + 150'000'000) std::this_thread::yield();
  const uint64_t before = TimerClock::now();
  EXPECT_GE(clock.now(), before);
  EXPECT_FALSE(clock.serves());
  EXPECT_GE(clock.now(), before);
}

}  // namespace
}  // namespace skep
