// SPDX-License-Identifier: Apache-2.0
// Guarantees G1 to G3 of grace_scan.h, between processes, some of which are killed inside their sections.
#include <array>
#include <memory>
#include <random>

#include "machine/grace_stress.h"
#include "machine/machine_test_support.h"

namespace skep {
namespace {

struct Shared {
  GraceStress stress;
  std::atomic<uint64_t> reads{0};
  std::atomic<uint64_t> failures{0};
};

TEST(GraceStressProcessTest, NoSectionSeesAReclaimedNode) {
  constexpr uint64_t kTurns = 80;
  constexpr uint64_t kTurnsPerKill = 4;
  TestDirectory directory;
  SharedPage<Shared> shared;
  const auto machine = open_machine(directory);
  const auto start_reader = [&](bool lease) {
    return std::make_unique<Child>([&, lease] {
      while (true) {
        const bool good = lease ? shared->stress.read<Lease>(*machine) : shared->stress.read<ReaderSection>(*machine);
        (good ? shared->reads : shared->failures).fetch_add(1, std::memory_order_relaxed);
      }
      return true;
    });
  };
  std::array<std::unique_ptr<Child>, 4> readers;
  for (size_t i = 0; i < readers.size(); ++i) readers[i] = start_reader(i % 2 == 0);
  std::mt19937 random(1);
  for (uint64_t turn = 1; turn <= kTurns; ++turn) {
    shared->stress.replace(*machine, turn, [&](Machine::Epoch epoch) {
      ASSERT_TRUE(eventually([&] { return machine->elapsed(epoch); }));
    });
    if (turn % kTurnsPerKill == 0) {
      const size_t victim = random() % readers.size();
      readers[victim]->kill_and_wait();
      readers[victim] = start_reader(victim % 2 == 0);
    }
  }
  ASSERT_TRUE(eventually([&] { return shared->reads.load() > 1000; }));
  for (auto& reader : readers) reader.reset();
  EXPECT_EQ(shared->failures.load(), 0U);
}

}  // namespace
}  // namespace skep
