// SPDX-License-Identifier: Apache-2.0
// Many producers, one consumer: every record comes out once, whole, and in the order of its producer (O1-O3).
#include <atomic>
#include <random>
#include <thread>

#include "maps/ringbuf_test_support.h"

namespace skep {
namespace {

using testing::RingbufReader;
using testing::RingbufTest;
using testing::StampedRecord;

void produce_and_count(RingbufTest&, RingbufMap& map, Machine& machine, uint32_t producers, uint64_t records) {
  std::atomic<uint32_t> running{producers};
  std::vector<std::jthread> threads;
  for (uint32_t id = 0; id < producers; ++id) {
    threads.emplace_back([&, id] {
      std::mt19937 random(id);
      for (uint64_t stamp = 0; stamp < records;) {
        const auto length = static_cast<uint32_t>(sizeof(StampedRecord) + random() % 100);
        const Lease lease(machine);
        std::byte* const record = map.reserve(lease, length);
        if (record == nullptr) {
          std::this_thread::yield();
          continue;
        }
        if (random() % 8 == 0) {
          std::memset(record, 0xee, length);
          map.discard(record, 0);
          continue;
        }
        StampedRecord::write(record, id, stamp++, length);
        map.submit(record, 0);
      }
      running.fetch_sub(1);
    });
  }
  std::vector<uint64_t> next(producers);
  RingbufReader reader(map.area());
  for (bool last = false; !last;) {
    last = running.load() == 0;
    const uint64_t found = reader.consume([&](const std::byte* data, uint32_t size) {
      StampedRecord head;
      ASSERT_TRUE(StampedRecord::read(data, size, head));
      ASSERT_LT(head.producer, producers);
      ASSERT_EQ(head.stamp, next[head.producer]++);
    });
    if (found == 0) std::this_thread::yield();
  }
  for (const uint64_t count : next) EXPECT_EQ(count, records);
  EXPECT_EQ(map.check().problem, "");
  EXPECT_EQ(map.query(BPF_RB_AVAIL_DATA), 0u);
}

TEST_F(RingbufTest, EveryRecordOnceSmallRing) { produce_and_count(*this, *ring(4096), machine(), 4, 50'000); }
TEST_F(RingbufTest, EveryRecordOnceLargeRing) { produce_and_count(*this, *ring(1 << 18), machine(), 3, 100'000); }

TEST_F(RingbufTest, OverwritingProducersNeverStop) {
  auto map = ring(4096, BPF_F_RB_OVERWRITE);
  std::vector<std::jthread> threads;
  for (uint32_t id = 0; id < 3; ++id) {
    threads.emplace_back([&, id] {
      for (uint64_t stamp = 0; stamp < 50'000; ++stamp) {
        const Lease lease(machine());
        std::byte* record;
        // Only a busy record of another producer, whose thread does not run, stands in the way.
        while ((record = map->reserve(lease, 40)) == nullptr) std::this_thread::yield();
        StampedRecord::write(record, id, stamp, 40);
        map->submit(record, 0);
      }
    });
  }
  threads.clear();
  EXPECT_EQ(map->check().problem, "");
  std::vector<uint64_t> last(3);
  uint64_t position = map->query(BPF_RB_OVERWRITE_POS);
  for (; position != map->query(BPF_RB_PROD_POS); position += ringbuf::footprint(40)) {
    StampedRecord head;
    ASSERT_TRUE(StampedRecord::read(map->area().data(position), 40, head));
    EXPECT_GE(head.stamp, last[head.producer]);
    last[head.producer] = head.stamp;
  }
}

}  // namespace
}  // namespace skep
