// SPDX-License-Identifier: Apache-2.0
#include <atomic>
#include <barrier>
#include <thread>

#include "machine/machine_test_support.h"
#include "maps/map_test_support.h"
#include "maps/value_lock.h"

namespace skep {
namespace {

class ResilientLockTest : public testing::MapTest {};

TEST_F(ResilientLockTest, KeepsOthersOut) {
  std::atomic<uint32_t> word{0};
  uint64_t count = 0;
  constexpr uint64_t kRounds = 20'000;
  const auto work = [&] {
    for (uint64_t i = 0; i < kRounds; ++i) {
      while (!ResilientLock::acquire(machine(), word)) {  // the machine may be busy for longer than its patience
      }
      ++count;
      ResilientLock::release(word);
    }
  };
  std::thread other(work);
  work();
  other.join();
  EXPECT_EQ(count, 2 * kRounds);
}

TEST_F(ResilientLockTest, ThreadsThatWaitForEachOtherEnd) {
  std::atomic<uint32_t> words[2] = {0, 0};
  std::atomic<int> timed_out{0};
  std::barrier both(2);
  const auto work = [&](int first) {
    ASSERT_TRUE(ResilientLock::acquire(machine(), words[first]));
    both.arrive_and_wait();
    const Status second = ResilientLock::acquire(machine(), words[1 - first]);
    if (second) {
      ResilientLock::release(words[1 - first]);
    } else {
      timed_out += second.error() == Errno{ETIMEDOUT};
    }
    ResilientLock::release(words[first]);
  };
  std::thread other(work, 1);
  work(0);
  other.join();
  EXPECT_GE(timed_out, 1);
  EXPECT_EQ(words[0] | words[1], 0u);
}

TEST_F(ResilientLockTest, IsTakenOverFromTheDead) {
  SharedPage<std::atomic<uint32_t>> word(0u);
  Child child([&] { return ResilientLock::acquire(machine(), *word).has_value(); });
  ASSERT_EQ(child.wait(), 0);
  EXPECT_NE(word->load(), 0u);
  EXPECT_TRUE(ResilientLock::acquire(machine(), *word));
  EXPECT_EQ(word->load(), machine().self().value);
}

}  // namespace
}  // namespace skep
