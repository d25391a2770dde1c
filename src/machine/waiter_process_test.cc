// SPDX-License-Identifier: Apache-2.0
#include <thread>

#include "machine/lease.h"
#include "machine/machine_test_support.h"
#include "machine/waiter.h"

namespace skep {
namespace {

class WaiterTest : public testing::Test {
 protected:
  Waiter::Verdict wait_out(uint32_t slot, ProcessTag locker) {
    Waiter waiter(*machine_);
    Waiter::Verdict verdict;
    do {
      verdict = waiter.wait(slot, locker);
    } while (verdict == Waiter::Verdict::kTryAgain);
    return verdict;
  }
  static uint64_t milliseconds_since(std::chrono::steady_clock::time_point start) {
    return static_cast<uint64_t>(
        std::chrono::duration_cast<std::chrono::milliseconds>(std::chrono::steady_clock::now() - start).count());
  }

  TestDirectory directory_;
  std::shared_ptr<Machine> machine_ = open_machine(directory_);
};

TEST_F(WaiterTest, OwnThreadIsToldAtOnce) {
  const Lease lease(*machine_);
  Waiter waiter(*machine_);
  EXPECT_EQ(waiter.wait(lease.slot(), machine_->self()), Waiter::Verdict::kOwnThread);
  // Another process locked it, under a lease of the slot that this thread has now.
  EXPECT_EQ(wait_out(lease.slot(), ProcessTag::make(60, 1)), Waiter::Verdict::kHolderGone);
}

TEST_F(WaiterTest, AnotherThreadOfThisProcessIsWaitedFor) {
  const Lease lease(*machine_);
  std::thread([&] {
    Waiter waiter(*machine_);
    for (int i = 0; i < 1000; ++i) {
      EXPECT_EQ(waiter.wait(lease.slot(), machine_->self()), Waiter::Verdict::kTryAgain);
    }
  }).join();
}

TEST_F(WaiterTest, DeathIsNoticedSoon) {
  SharedPage<std::atomic<uint32_t>> tag;
  Child child([&] {
    *tag = machine_->self().value;
    pause();
    return true;
  });
  ASSERT_TRUE(eventually([&] { return tag->load() != 0; }));
  const ProcessTag locker{tag->load()};
  Waiter waiter(*machine_);
  for (int i = 0; i < 400; ++i) EXPECT_EQ(waiter.wait(3, locker), Waiter::Verdict::kTryAgain);
  child.kill_and_wait();
  const auto start = std::chrono::steady_clock::now();
  EXPECT_EQ(wait_out(3, locker), Waiter::Verdict::kHolderGone);
  EXPECT_LT(milliseconds_since(start), 1000U);
}

TEST_F(WaiterTest, StoppedHolderTimesOut) {
  SharedPage<std::atomic<uint32_t>> tag;
  Child child([&] {
    *tag = machine_->self().value;
    pause();
    return true;
  });
  ASSERT_TRUE(eventually([&] { return tag->load() != 0; }));
  child.stop_and_wait();
  const auto start = std::chrono::steady_clock::now();
  EXPECT_EQ(wait_out(3, ProcessTag{tag->load()}), Waiter::Verdict::kTimedOut);
  EXPECT_GE(milliseconds_since(start), 4900U);
}

}  // namespace
}  // namespace skep
