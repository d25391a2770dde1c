// SPDX-License-Identifier: Apache-2.0
#include "maps/perf_event.h"

#include <unistd.h>

#include <atomic>
#include <thread>

#include "maps/perf_event_test_support.h"

namespace skep {
namespace {

using testing::PerfEventTest;
using testing::PerfReader;
using testing::stamped;

constexpr PerfEventSpec kRaw = {.sample_type = PERF_SAMPLE_RAW, .wakeup = 1};

TEST_F(PerfEventTest, RefusesAsTheKernel) {
  auto without_ring = event(kRaw, 0);
  EXPECT_EQ(output(*without_ring, "12345678", 8), ENOSPC);
  EXPECT_EQ(without_ring->lost(), 0U);
  auto ring = event(kRaw, kPageSize);
  std::vector<std::byte> large(70000);
  EXPECT_EQ(output(*ring, large.data(), 65517), E2BIG);
  EXPECT_EQ(output(*ring, large.data(), 5000), ENOSPC);
  EXPECT_EQ(ring->lost(), 1U);
  ring->enable(false);
  EXPECT_EQ(output(*ring, large.data(), 8), EOPNOTSUPP);
  ring->enable(true);
  ring->pause(true);
  EXPECT_EQ(output(*ring, large.data(), 8), ENOSPC);
  EXPECT_EQ(ring->lost(), 2U);
  if (machine().cpus() > 1) {
    EXPECT_EQ(output(*ring, large.data(), 8, 1), EOPNOTSUPP);
  }
}

TEST_F(PerfEventTest, RecordsGoRoundTheEndAndLossesAreTold) {
  auto ring = event(kRaw, kPageSize);
  PerfReader reader(*ring);
  uint64_t failed = 0;
  for (uint64_t stamp = 1; stamp <= 5000; ++stamp) {
    const auto bytes = stamped(stamp, 12 + stamp % 17 * 8);
    const int error = output(*ring, bytes.data(), bytes.size());
    ASSERT_TRUE(error == 0 || error == ENOSPC);
    failed += error != 0;
    if (stamp % 61 == 0) reader.consume();
  }
  reader.consume();
  const auto last = stamped(5001, 12);
  ASSERT_EQ(output(*ring, last.data(), last.size()), 0);
  reader.consume();
  EXPECT_GT(failed, 0U);
  EXPECT_EQ(reader.lost, failed);
  EXPECT_EQ(reader.samples, 5001 - failed);
  EXPECT_EQ(ring->lost(), 0U);
}

TEST_F(PerfEventTest, FieldsOfASampleStandInPerfsOrder) {
  const uint64_t type = PERF_SAMPLE_IDENTIFIER | PERF_SAMPLE_IP | PERF_SAMPLE_TID | PERF_SAMPLE_TIME |
                        PERF_SAMPLE_ADDR | PERF_SAMPLE_ID | PERF_SAMPLE_STREAM_ID | PERF_SAMPLE_CPU |
                        PERF_SAMPLE_PERIOD | PERF_SAMPLE_RAW;
  auto ring = event({.sample_type = type, .wakeup = 1, .sample_id_all = 1}, kPageSize);
  const uint64_t word = 0x1122334455667788;
  ASSERT_EQ(output(*ring, &word, 4), 0);
  std::vector<std::byte> large(5000);
  ASSERT_EQ(output(*ring, large.data(), large.size()), ENOSPC);
  ASSERT_EQ(output(*ring, &word, 4), 0);
  PerfReader reader(*ring);
  PerfReader::Found found;
  ASSERT_TRUE(reader.next(found));
  ASSERT_EQ(found.body.size(), 80U);
  const uint64_t task = static_cast<uint64_t>(gettid()) << 32 | static_cast<uint32_t>(getpid());
  EXPECT_EQ(found.word(0), 7U);
  EXPECT_EQ(found.word(1), 0U);
  EXPECT_EQ(found.word(2), task);
  EXPECT_NE(found.word(3), 0U);
  EXPECT_EQ(found.word(4), 0U);
  EXPECT_EQ(found.word(5), 7U);
  EXPECT_EQ(found.word(6), 7U);
  EXPECT_EQ(found.word(7), 0U);
  EXPECT_EQ(found.word(8), 0U);
  EXPECT_EQ(found.word(9), 0x5566778800000004U);
  ASSERT_TRUE(reader.next(found));
  EXPECT_EQ(found.type, uint32_t{PERF_RECORD_LOST});
  ASSERT_EQ(found.body.size(), 16U + 48U);
  EXPECT_EQ(found.word(1), 1U);
  EXPECT_EQ(found.word(2), task);
  EXPECT_EQ(found.word(7), 7U);
  ASSERT_TRUE(reader.next(found));
  EXPECT_EQ(found.type, uint32_t{PERF_RECORD_SAMPLE});
  EXPECT_FALSE(PerfEvent::can_sample(PERF_SAMPLE_CALLCHAIN | PERF_SAMPLE_RAW));
}

TEST_F(PerfEventTest, ARingIsGivenAnewWhenNobodyMapsIt) {
  auto ring = event(kRaw, kPageSize);
  ASSERT_EQ(output(*ring, "12345678", 8), 0);
  EXPECT_EQ(map(*ring, 2 * kPageSize, false, true), EINVAL);
  EXPECT_EQ(map(*ring, kPageSize, false, true), 0);
  PerfReader reader(*ring);
  PerfReader::Found found;
  EXPECT_TRUE(reader.next(found)) << "a second mapping changes nothing";
  ASSERT_EQ(output(*ring, "12345678", 8), 0);
  EXPECT_EQ(map(*ring, 2 * kPageSize), 0);
  EXPECT_FALSE(reader.next(found));
  EXPECT_EQ(map(*ring, 2 * PerfEvent::kMostData), ENOMEM);
}

TEST_F(PerfEventTest, OverwritingNeverFails) {
  auto ring = event(kRaw, kPageSize, true);
  for (uint64_t i = 0; i < 1000; ++i) ASSERT_EQ(output(*ring, &i, 8), 0);
  EXPECT_EQ(ring->lost(), 0U);
}

// Whatever a client writes into its page, nothing outside the ring is touched.
TEST_F(PerfEventTest, HostilePositions) {
  auto ring = event(kRaw, kPageSize);
  auto& page = *reinterpret_cast<perf_event_mmap_page*>(ring->user_window());
  const auto bytes = stamped(1, 1000);
  for (const uint64_t head :
       {uint64_t{1}, uint64_t{7}, uint64_t{4095}, UINT64_MAX, UINT64_MAX - 4096, uint64_t{1} << 63}) {
    for (const uint64_t tail : {uint64_t{0}, uint64_t{3}, UINT64_MAX, head, head - 8, head + 8}) {
      page.data_head = head;
      page.data_tail = tail;
      page.data_size = UINT64_MAX;
      page.data_offset = tail;
      (void)output(*ring, bytes.data(), bytes.size());
      (void)ring->readable();
    }
  }
  for (uint64_t i = kPageSize; i < 4 * kPageSize; ++i)
    ASSERT_EQ(ring->user_window()[kPageSize + i], std::byte{0}) << "beyond the ring";
}

TEST_F(PerfEventTest, WakesByCountAndUntilTheRecordIsPassed) {
  auto ring = event({.sample_type = PERF_SAMPLE_RAW, .wakeup = 3}, kPageSize);
  PerfReader reader(*ring);
  for (uint64_t i = 1; i <= 9; ++i) {
    EXPECT_FALSE(ring->readable());
    const auto bytes = stamped(i, 12);
    ASSERT_EQ(output(*ring, bytes.data(), bytes.size()), 0);
    EXPECT_EQ(ring->readable(), i % 3 == 0);
    if (ring->readable()) reader.consume();
  }
  EXPECT_EQ(reader.samples, 9U);
}

TEST_F(PerfEventTest, TamperedFilesAreRefused) {
  const int fd = make_file();
  ASSERT_TRUE(PerfEvent::initialise(fd, {.sample_type = PERF_SAMPLE_RAW, .cpu = machine().cpus()}));
  EXPECT_EQ(testing::error_of(PerfEvent::open(fd, machine())), EINVAL);
  const int other = make_file();
  ASSERT_TRUE(PerfEvent::initialise(other, {.sample_type = PERF_SAMPLE_CALLCHAIN}));
  EXPECT_EQ(testing::error_of(PerfEvent::open(other, machine())), EINVAL);
}

// Threads that take turns on a CPU, one consumer beside them: every record or a count of it arrives.
TEST_F(PerfEventTest, ThreadsAndOneConsumer) {
  constexpr uint64_t kRecords = 40000;
  auto ring = event(kRaw, 4 * kPageSize);
  PerfReader reader(*ring);
  std::atomic<uint64_t> stamps{0}, failed{0};
  std::atomic<int> running{3};
  std::vector<std::jthread> producers;
  for (int i = 0; i < 3; ++i) {
    producers.emplace_back([&] {
      for (;;) {
        const Lease lease(machine(), Lease::Cpu{0});
        const uint64_t stamp = stamps.fetch_add(1) + 1;  // under the lease: in order
        if (stamp > kRecords) break;
        const auto bytes = stamped(stamp, 12 + stamp % 9 * 8);
        const int error = ring->output(lease, bytes, {});
        EXPECT_TRUE(error == 0 || error == ENOSPC);
        failed += error != 0;
      }
      --running;
    });
  }
  while (running > 0) reader.consume();
  reader.consume();
  const auto last = stamped(kRecords + 10, 12);
  ASSERT_EQ(output(*ring, last.data(), last.size()), 0);
  reader.consume();
  EXPECT_EQ(reader.samples, kRecords + 1 - failed);
  EXPECT_EQ(reader.lost, failed);
}

}  // namespace
}  // namespace skep
