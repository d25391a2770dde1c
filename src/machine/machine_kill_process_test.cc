// SPDX-License-Identifier: Apache-2.0
// Processes that lease, read, reclaim and recover are killed at random moments, also while they register.
// Afterwards nothing is held by the dead, and at no time did two living processes hold the same thing.
#include <array>
#include <chrono>
#include <cstdlib>
#include <memory>
#include <random>
#include <thread>

#include "machine/lease.h"
#include "machine/machine_test_support.h"
#include "machine/reader_section.h"
#include "machine/recovery.h"

namespace skep {
namespace {

constexpr size_t kProcesses = 8;
constexpr uint64_t kSubject = 42;

struct Shared {
  /// Who is inside what only one may hold: ProcessTag::value, left behind by those who are killed inside.
  std::array<std::atomic<uint32_t>, kMaxSlots> in_slot{};
  std::atomic<uint32_t> in_recovery{0};
  std::array<std::atomic<uint64_t>, kProcesses> progress{};
  std::atomic<uint32_t> violations{0};
};

class Worker {
 public:
  Worker(Machine& machine, Shared& shared, uint32_t seed) : machine_(machine), shared_(shared), random_(seed) {}

  void step() {
    switch (random_() % 8) {
      case 0:
        return inside(Lease(machine_, Lease::Cpu{static_cast<uint32_t>(random_()) % machine_.cpus()}));
      case 1:
        return inside(Lease(machine_, Lease::AnyCpu{}));
      case 2: {
        const ReaderSection section(machine_);
        return inside(Lease(machine_));
      }
      case 3:
        machine_.elapsed(machine_.begin_grace_period());
        return;
      case 4:
        machine_.defer([] {});
        return machine_.run_deferred();
      case 5:
        if (random_() % 16 == 0) {
          const auto guard = machine_.lock_recovery(kSubject);
          alone_in(shared_.in_recovery, [] {});
        }
        return;
      default:
        return inside(Lease(machine_));
    }
  }

 private:
  void inside(const Lease& lease) {
    alone_in(shared_.in_slot[lease.slot()], [&] {
      if (lease.slot() >= machine_.cpus() && random_() % 4 == 0) inside(Lease(machine_, Lease::AnyCpu{}));
    });
  }
  template <class Body>
  void alone_in(std::atomic<uint32_t>& place, Body body) {
    const uint32_t before = place.exchange(machine_.self().value);
    if (before != 0 && machine_.alive(ProcessTag{before})) shared_.violations.fetch_add(1);
    body();
    if (place.exchange(0) != machine_.self().value) shared_.violations.fetch_add(1);
  }

  Machine& machine_;
  Shared& shared_;
  std::minstd_rand random_;
};

uint32_t kills() {
  const char* const wanted = std::getenv("SKEP_KILLS");
  return wanted != nullptr ? static_cast<uint32_t>(std::atoi(wanted)) : 400;
}

TEST(MachineKillTest, NothingStaysWithTheDead) {
  TestDirectory directory;
  SharedPage<Shared> shared;
  const auto machine = open_machine(directory);
  uint32_t seed = 1;
  const auto start_worker = [&](size_t number) {
    ++seed;
    return std::make_unique<Child>([&, number] {
      Worker worker(*machine, *shared, seed);
      while (true) {
        worker.step();
        shared->progress[number].fetch_add(1, std::memory_order_relaxed);
      }
      return true;
    });
  };
  std::array<std::unique_ptr<Child>, kProcesses> workers;
  for (size_t i = 0; i < kProcesses; ++i) workers[i] = start_worker(i);

  std::minstd_rand random(7);
  for (uint32_t i = 0; i < kills(); ++i) {
    std::this_thread::sleep_for(std::chrono::microseconds(random() % 2000));  // the random moment, not a wait
    const size_t victim = random() % kProcesses;
    workers[victim]->kill_and_wait();
    workers[victim] = start_worker(victim);
    if (i % 50 != 0) continue;
    for (size_t w = 0; w < kProcesses; ++w) {
      const uint64_t before = shared->progress[w].load();
      ASSERT_TRUE(eventually([&] { return shared->progress[w].load() != before; })) << "worker " << w << " is stuck";
    }
  }
  for (auto& worker : workers) worker.reset();
  EXPECT_EQ(shared->violations.load(), 0U);

  const auto epoch = machine->begin_grace_period();
  EXPECT_TRUE(eventually([&] { return machine->elapsed(epoch); }));
  for (uint32_t i = 0; i < machine->slots(); ++i) EXPECT_EQ(machine->holder(i), ProcessTag{}) << i;
  MachineBytes bytes(directory);
  for (uint32_t i = 0; i < bytes->counters.readers_used; ++i) {
    const ReaderRecord& record = bytes->readers[i];
    EXPECT_TRUE(record.active.load() == 0 || record.owner.load() != 0) << i;
  }
  EXPECT_LT(bytes->counters.readers_used.load(), 4 * kProcesses);  // the dead leave room for the living
  const auto guard = machine->lock_recovery(kSubject);
}

}  // namespace
}  // namespace skep
