// SPDX-License-Identifier: Apache-2.0
// Writers that die: at every store of an output, which are compiled into this test with points that kill, and at random
// moments, with every record and every lost one counted.
#include <signal.h>
#include <unistd.h>

#include "machine/crash_countdown.h"

#include <chrono>
#include <random>

#include "machine/machine_test_support.h"
#include "maps/perf_event_test_support.h"

// Behind the headers above, so that it is compiled with the definition there.
#include "maps/perf_event.cc"  // NOLINT

namespace skep {
namespace {

using testing::PerfEventTest;
using testing::PerfReader;
using testing::stamped;

constexpr PerfEventSpec kRaw = {.sample_type = PERF_SAMPLE_RAW, .wakeup = 1};
constexpr int kKilled = 128 + SIGKILL;

struct Progress {
  std::atomic<uint64_t> written, failed;
};

TEST_F(PerfEventTest, DeathAtEveryStore) {
  const std::vector<std::byte> large(5000);
  bool died = true;
  for (int point = 1; died; ++point) {
    SCOPED_TRACE(point);
    ASSERT_LT(point, 100);
    auto ring = event(kRaw, kPageSize);
    PerfReader reader(*ring);
    ASSERT_EQ(output(*ring, large.data(), large.size()), ENOSPC);
    const SharedPage<Progress> progress;
    Child child([&] {
      const Lease lease(machine(), Lease::Cpu{0});
      testing::crash_countdown = point;
      for (uint64_t stamp = 1; stamp <= 4; ++stamp) {  // with a LOST record, without, fails, with
        const bool fails = stamp == 3;
        const auto bytes = fails ? large : stamped(stamp, 28);
        if (ring->output(lease, bytes, {}) != (fails ? ENOSPC : 0)) return false;
        ++(fails ? progress->failed : progress->written);
      }
      return true;
    });
    const int end = child.wait();
    died = end == kKilled;
    ASSERT_TRUE(died || end == 0);
    ring->help_consumer();
    const auto& page = *reinterpret_cast<perf_event_mmap_page*>(ring->user_window());
    EXPECT_EQ(ring->readable(), page.data_head != 0) << "what was written is announced";
    reader.consume();
    const uint64_t written = progress->written, failed = progress->failed;
    EXPECT_GE(reader.samples, written);
    EXPECT_LE(reader.samples, written + 1);
    const auto after = stamped(100, 12);
    ASSERT_EQ(output(*ring, after.data(), after.size()), 0);
    reader.consume();
    EXPECT_GE(reader.lost, 1 + failed);
    EXPECT_LE(reader.lost, 1 + failed + (died && failed == 0 && written == 2 ? 1 : 0));
    EXPECT_EQ(ring->lost(), 0U);
    EXPECT_EQ(reader.last, 100U);
  }
}

// Whoever holds the CPU, and does not move, keeps no consumer from the records of the dead.
TEST_F(PerfEventTest, AConsumerDoesNotWaitForTheCpu) {
  int unannounced = 0;
  bool died = true;
  for (int point = 1; died; ++point) {
    SCOPED_TRACE(point);
    auto ring = event(kRaw, kPageSize);
    PerfReader reader(*ring);
    Child writer([&] {
      const Lease lease(machine(), Lease::Cpu{0});
      testing::crash_countdown = point;
      return ring->output(lease, stamped(1, 28), {}) == 0;
    });
    died = writer.wait() == kKilled;
    const SharedPage<std::atomic<bool>> holds(false);
    Child holder([&] {
      const Lease lease(machine(), Lease::Cpu{0});
      holds->store(true);
      for (;;) ::pause();
      return true;
    });
    ASSERT_TRUE(eventually([&] { return holds->load(); }));
    holder.stop_and_wait();
    const auto& page = *reinterpret_cast<perf_event_mmap_page*>(ring->user_window());
    unannounced += page.data_head != 0 && !ring->readable();
    ring->help_consumer();
    EXPECT_EQ(ring->readable(), page.data_head != 0);
  }
  EXPECT_GT(unannounced, 0);
}

TEST_F(PerfEventTest, EveryRecordAndLossCountedThroughKills) {
  constexpr int kKills = 60;
  auto ring = event(kRaw, 2 * kPageSize);
  PerfReader reader(*ring);
  const SharedPage<Progress> progress;
  const SharedPage<std::atomic<uint64_t>> stamps;
  const auto produce = [&] {
    for (;;) {
      const Lease lease(machine(), Lease::Cpu{0});
      const uint64_t stamp = stamps->fetch_add(1) + 1;
      const auto bytes = stamped(stamp, 12 + stamp % 40 * 8);
      const int error = ring->output(lease, bytes, {});
      if (error != 0 && error != ENOSPC) return false;
      ++(error == 0 ? progress->written : progress->failed);
    }
  };
  std::mt19937 random(5);
  std::vector<std::unique_ptr<Child>> children;
  for (int i = 0; i < 3; ++i) children.push_back(std::make_unique<Child>(produce));
  for (int round = 0; round < kKills; ++round) {
    const auto until = std::chrono::steady_clock::now() + std::chrono::microseconds(500 + random() % 3000);
    while (std::chrono::steady_clock::now() < until) reader.consume();
    auto& victim = children[random() % children.size()];
    victim->signal(SIGKILL);
    ASSERT_EQ(victim->wait(), kKilled) << "a producer ended by itself";
    victim = std::make_unique<Child>(produce);
  }
  for (auto& child : children) {
    child->signal(SIGKILL);
    ASSERT_EQ(child->wait(), kKilled);
  }
  reader.consume();
  const auto last = stamped(stamps->load() + 10, 12);
  ASSERT_EQ(output(*ring, last.data(), last.size()), 0);
  reader.consume();
  constexpr uint64_t kUncounted = kKills + 3;  // at most one output of each killed process
  EXPECT_GT(reader.samples, 1U);
  EXPECT_GE(reader.samples, progress->written + 1);
  EXPECT_GE(reader.lost, progress->failed.load());
  EXPECT_LE(reader.samples + reader.lost, progress->written + progress->failed + 1 + kUncounted);
}

}  // namespace
}  // namespace skep
