// SPDX-License-Identifier: Apache-2.0
#include "machine/lease.h"

#include <atomic>
#include <memory>
#include <set>
#include <thread>
#include <vector>

#include "machine/machine_test_support.h"

namespace skep {
namespace {

class LeaseTest : public testing::Test {
 protected:
  TestDirectory directory_;
  std::shared_ptr<Machine> machine_ = open_machine(directory_);
  MachineBytes bytes_{directory_};
};

TEST_F(LeaseTest, HoldsASlotWhileItLives) {
  uint32_t slot = 0;
  {
    const Lease lease(*machine_);
    slot = lease.slot();
    EXPECT_GE(slot, machine_->cpus());
    EXPECT_LT(slot, machine_->slots());
    EXPECT_EQ(lease.cpu(), slot % machine_->cpus());
    EXPECT_EQ(machine_->holder(slot), machine_->self());
    EXPECT_TRUE(machine_->held_by_this_thread(slot));
    bool other_thread_holds_it = true;
    std::thread([&] { other_thread_holds_it = machine_->held_by_this_thread(slot); }).join();
    EXPECT_FALSE(other_thread_holds_it);
  }
  EXPECT_EQ(machine_->holder(slot), ProcessTag{});
  EXPECT_FALSE(machine_->held_by_this_thread(slot));
}

TEST_F(LeaseTest, NestsOnOneSlot) {
  const Lease outer(*machine_);
  {
    const Lease inner(*machine_);
    EXPECT_EQ(inner.slot(), outer.slot());
    EXPECT_EQ(inner.cpu(), outer.cpu());
    EXPECT_EQ(bytes_->slots[outer.slot()].nesting.load(), 2U);
  }
  EXPECT_EQ(bytes_->slots[outer.slot()].nesting.load(), 1U);
  EXPECT_TRUE(machine_->held_by_this_thread(outer.slot()));
}

TEST_F(LeaseTest, CpuIsKeptByWhatNestsInIt) {
  const uint32_t last = machine_->cpus() - 1;
  const Lease cpu(*machine_, Lease::Cpu{last});
  EXPECT_EQ(cpu.slot(), last);
  EXPECT_EQ(cpu.cpu(), last);
  const Lease writer(*machine_);
  const Lease other_cpu(*machine_, Lease::Cpu{0});
  const Lease any_cpu(*machine_, Lease::AnyCpu{});
  EXPECT_EQ(writer.slot(), last);
  EXPECT_EQ(other_cpu.slot(), last);
  EXPECT_EQ(any_cpu.slot(), last);
  EXPECT_EQ(bytes_->slots[last].nesting.load(), 4U);
}

TEST_F(LeaseTest, CpuInsideAWriterIsLeasedBesides) {
  uint32_t writers_slot = 0;
  {
    const Lease writer(*machine_);
    writers_slot = writer.slot();
    {
      const Lease program(*machine_, Lease::Cpu{0});
      EXPECT_EQ(program.slot(), 0U);
      const Lease in_program(*machine_);
      EXPECT_EQ(in_program.slot(), 0U);
      EXPECT_TRUE(machine_->held_by_this_thread(0));
      EXPECT_TRUE(machine_->held_by_this_thread(writers_slot));
    }
    EXPECT_EQ(machine_->holder(0), ProcessTag{});
    EXPECT_EQ(machine_->holder(writers_slot), machine_->self());
    const Lease again(*machine_);
    EXPECT_EQ(again.slot(), writers_slot);
    EXPECT_EQ(bytes_->slots[writers_slot].nesting.load(), 2U);
  }
  EXPECT_EQ(machine_->holder(writers_slot), ProcessTag{});
}

TEST_F(LeaseTest, ThreadsTakeDifferentSlots) {
  constexpr int kThreads = 16;
  std::atomic<int> ready{0};
  std::vector<uint32_t> slots(kThreads);
  std::vector<std::thread> threads;
  for (int i = 0; i < kThreads; ++i) {
    threads.emplace_back([&, i] {
      const Lease lease(*machine_);
      slots[static_cast<size_t>(i)] = lease.slot();
      ready.fetch_add(1);
      eventually([&] { return ready.load() == kThreads; });
    });
  }
  for (auto& thread : threads) thread.join();
  EXPECT_EQ(std::set(slots.begin(), slots.end()).size(), static_cast<size_t>(kThreads));
}

TEST_F(LeaseTest, WritersFallBackToCpusAndThenWait) {
  // Take every writer's slot and every CPU on behalf of this living process.
  const uint64_t taken = uint64_t{machine_->self().value} << 32 | bytes_->epochs.epoch.load();
  for (uint32_t i = 1; i < machine_->slots(); ++i) bytes_->slots[i].word = taken;
  {
    const Lease lease(*machine_);
    EXPECT_EQ(lease.slot(), 0U);
  }
  bytes_->slots[0].word = taken;
  std::atomic<uint32_t> got{UINT32_MAX};
  std::thread waiter([&] { got = Lease(*machine_).slot(); });
  const uint32_t freed = machine_->slots() - 1;
  bytes_->slots[freed].word = 0;
  waiter.join();
  EXPECT_EQ(got.load(), freed);
}

TEST_F(LeaseTest, TakesOverFromDeadProcesses) {
  const uint64_t dead = uint64_t{ProcessTag::make(99, 5).value} << 32 | bytes_->epochs.epoch.load();
  for (uint32_t i = 0; i < machine_->slots(); ++i) bytes_->slots[i].word = dead;
  const Lease lease(*machine_);
  EXPECT_EQ(machine_->holder(lease.slot()), machine_->self());
  std::thread([&] { EXPECT_EQ(Lease(*machine_, Lease::Cpu{0}).slot(), 0U); }).join();
}

// Many more threads than slots: one holder per slot at every moment, and nobody starves.
TEST_F(LeaseTest, MoreThreadsThanSlotsExcludeEachOther) {
  constexpr int kThreads = 100;
  constexpr int kRounds = 300;
  std::vector<uint64_t> unguarded(machine_->slots(), 0);  // plain memory: whoever leases a slot may change its word
  std::vector<std::thread> threads;
  for (int i = 0; i < kThreads; ++i) {
    threads.emplace_back([&, i] {
      for (int round = 0; round < kRounds; ++round) {
        const auto change = [&](uint32_t slot) {
          const uint64_t before = unguarded[slot];
          if (round % 16 == 0) sched_yield();
          unguarded[slot] = before + 1;
        };
        if (i % 4 == 0) {
          change(Lease(*machine_, Lease::Cpu{static_cast<uint32_t>(round) % machine_->cpus()}).slot());
        } else if (i % 4 == 1) {
          change(Lease(*machine_, Lease::AnyCpu{}).slot());
        } else {
          const Lease lease(*machine_);
          change(lease.slot());
        }
      }
    });
  }
  for (auto& thread : threads) thread.join();
  uint64_t sum = 0;
  for (const uint64_t count : unguarded) sum += count;
  EXPECT_EQ(sum, uint64_t{kThreads} * kRounds);
  for (uint32_t i = 0; i < machine_->slots(); ++i) EXPECT_EQ(machine_->holder(i), ProcessTag{}) << i;
}

}  // namespace
}  // namespace skep
