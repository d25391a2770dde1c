// SPDX-License-Identifier: Apache-2.0
// Guarantees G1 to G3 of grace_scan.h, in threads.
#include "machine/grace_stress.h"

#include <chrono>
#include <thread>
#include <vector>

#include "machine/machine_test_support.h"

namespace skep {
namespace {

struct CpuLease : Lease {
  explicit CpuLease(Machine& machine) : Lease(machine, AnyCpu{}) {}
};

class GraceStressTest : public testing::TestWithParam<bool> {};

TEST_P(GraceStressTest, NoSectionSeesAReclaimedNode) {
  constexpr auto kDuration = std::chrono::seconds(1);
  constexpr uint64_t kTurns = 50;
  TestDirectory directory;
  const auto machine = open_machine(directory);
  MachineBytes(directory)->epochs.need_fences = GetParam() ? 1 : 0;
  GraceStress stress;
  std::atomic<bool> stop{false};
  std::atomic<uint64_t> reads{0};
  std::atomic<uint64_t> failures{0};
  const auto read_until_stopped = [&](auto read) {
    uint64_t count = 0;
    for (; !stop.load(std::memory_order_relaxed); ++count) {
      if (!read()) failures.fetch_add(1);
    }
    reads.fetch_add(count);
  };
  std::vector<std::thread> threads;
  for (int i = 0; i < 2; ++i) {
    threads.emplace_back([&] { read_until_stopped([&] { return stress.read<ReaderSection>(*machine); }); });
    threads.emplace_back([&] { read_until_stopped([&] { return stress.read<Lease>(*machine); }); });
  }
  threads.emplace_back([&] { read_until_stopped([&] { return stress.read<CpuLease>(*machine); }); });
  const auto end = std::chrono::steady_clock::now() + kDuration;
  uint64_t turns = 1;
  for (; turns <= kTurns || std::chrono::steady_clock::now() < end; ++turns) {
    stress.replace(*machine, turns, [&](Machine::Epoch epoch) {
      while (!machine->elapsed(epoch)) sched_yield();
    });
  }
  stop = true;
  for (auto& thread : threads) thread.join();
  EXPECT_EQ(failures.load(), 0U);
  EXPECT_GT(reads.load(), 0U);
}

INSTANTIATE_TEST_SUITE_P(Fences, GraceStressTest, testing::Bool());

}  // namespace
}  // namespace skep
