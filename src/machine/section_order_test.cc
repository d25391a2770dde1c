// SPDX-License-Identifier: Apache-2.0
// Guarantees G1 and G2 of grace_scan.h as a litmus test: a section begins while a writer unlinks and scans. Either the
// scan sees the section, or the section sees what was unlinked; never neither. The reader first fills its processor's
// store buffer with stores to lines that the other processor owns, so that its announcement stays behind them for long:
// without the barrier on the readers' behalf a few runs of this test find violations.
#include <array>
#include <chrono>
#include <thread>

#include "machine/lease.h"
#include "machine/machine_test_support.h"
#include "machine/reader_section.h"

namespace skep {
namespace {

constexpr auto kDuration = std::chrono::milliseconds(1500);
constexpr uint32_t kSpread = 1024;  // steps by which the two sides are shifted against each other

struct alignas(kCacheLine) Line {
  std::atomic<uint64_t> value{0};
};

void spin_until(const std::atomic<uint64_t>& value, uint64_t wanted) {
  for (uint32_t spins = 0; value.load(std::memory_order_acquire) != wanted; ++spins) {
    if (spins % 1024 == 1023) sched_yield();
  }
}

void delay(uint32_t steps) {
  for (uint32_t i = 0; i < steps; ++i) compiler_barrier();
}

template <class Section>
void run_litmus() {
  TestDirectory directory;
  const auto machine = open_machine(directory);
  Line round;                 // both sides may begin
  Line unlinked;              // the last round whose node was unlinked
  Line seen;                  // what the section saw of `unlinked`
  Line read_done;             // the section has read and is still open
  Line judged;                // the scan is over: the section may end
  std::array<Line, 40> busy;  // written by both
  constexpr uint64_t kStop = UINT64_MAX;

  std::thread reader([&] {
    for (uint64_t turn = 1;; ++turn) {
      while (round.value.load(std::memory_order_acquire) < turn) {
      }
      if (round.value.load(std::memory_order_relaxed) == kStop) return;
      for (Line& line : busy) line.value.store(turn, std::memory_order_relaxed);
      const Section section(*machine);
      seen.value.store(unlinked.value.load(std::memory_order_relaxed), std::memory_order_relaxed);
      read_done.value.store(turn, std::memory_order_release);
      spin_until(judged.value, turn);
    }
  });

  uint64_t violations = 0;
  uint64_t turn = 1;
  const auto end = std::chrono::steady_clock::now() + kDuration;
  for (; turn % 256 != 0 || std::chrono::steady_clock::now() < end; ++turn) {
    round.value.store(turn, std::memory_order_release);
    delay(static_cast<uint32_t>(turn * 13 % kSpread));
    unlinked.value.store(turn, std::memory_order_release);
    const bool over = machine->elapsed(machine->begin_grace_period());
    spin_until(read_done.value, turn);
    if (over && seen.value.load(std::memory_order_relaxed) != turn) ++violations;
    for (Line& line : busy) line.value.store(turn, std::memory_order_relaxed);
    judged.value.store(turn, std::memory_order_release);
  }
  round.value.store(kStop, std::memory_order_release);
  reader.join();
  EXPECT_EQ(violations, 0U) << "in " << turn << " rounds";
}

TEST(SectionOrderTest, ReaderSection) { run_litmus<ReaderSection>(); }

TEST(SectionOrderTest, Lease) { run_litmus<Lease>(); }

}  // namespace
}  // namespace skep
