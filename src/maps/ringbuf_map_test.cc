// SPDX-License-Identifier: Apache-2.0
#include "maps/ringbuf_map.h"

#include <poll.h>

#include <deque>
#include <random>
#include <string>
#include <thread>

#include "maps/ringbuf_test_support.h"
#include "maps/user_ringbuf_map.h"

namespace skep {
namespace {

using testing::RingbufReader;
using testing::RingbufTest;

TEST_F(RingbufTest, Attributes) {
  for (const uint32_t type : {BPF_MAP_TYPE_RINGBUF, BPF_MAP_TYPE_USER_RINGBUF}) {
    for (const uint32_t size : {4096u, 8192u, 1u << 20}) EXPECT_EQ(create_error(spec(type, 0, 0, size)), 0) << size;
    for (const uint32_t size : {0u, 1u, 2048u, 12288u, 4097u}) {
      EXPECT_EQ(create_error(spec(type, 0, 0, size)), EINVAL) << size;
    }
    EXPECT_EQ(create_error(spec(type, 4, 0, 4096)), EINVAL);
    EXPECT_EQ(create_error(spec(type, 0, 8, 4096)), EINVAL);
    EXPECT_EQ(create_error(spec(type, 0, 0, 4096, BPF_F_MMAPABLE)), EINVAL);
    EXPECT_EQ(create_error(spec(type, 0, 0, 4096, BPF_F_RDONLY)), EINVAL);
    EXPECT_EQ(create_error(spec(type, 0, 0, 4096, BPF_F_NUMA_NODE)), 0);
  }
  EXPECT_EQ(create_error(spec(BPF_MAP_TYPE_RINGBUF, 0, 0, 4096, BPF_F_RB_OVERWRITE)), 0);
  EXPECT_EQ(create_error(spec(BPF_MAP_TYPE_USER_RINGBUF, 0, 0, 4096, BPF_F_RB_OVERWRITE)), EINVAL);
}

TEST_F(RingbufTest, ElementsAreNotSupported) {
  auto map = ring(4096);
  const Lease lease(machine());
  EXPECT_EQ(testing::error_of(map->lookup(nullptr, nullptr, 0)), kEnotsupp);
  EXPECT_EQ(testing::error_of(map->update(lease, nullptr, nullptr, 0)), kEnotsupp);
  EXPECT_EQ(testing::error_of(map->erase(lease, nullptr)), kEnotsupp);
  EXPECT_EQ(testing::error_of(map->next_key(nullptr, nullptr)), kEnotsupp);
}

TEST_F(RingbufTest, OneRecord) {
  auto map = ring(4096);
  const Lease lease(machine());
  std::byte* const record = map->reserve(lease, 5);
  ASSERT_NE(record, nullptr);
  EXPECT_EQ(map->area().state(0).load(), ringbuf::kBusy | 5);
  EXPECT_EQ(map->query(BPF_RB_AVAIL_DATA), 16u) << "reserved bytes count";
  EXPECT_EQ(RingbufReader(map->area()).consume(), 0u);
  std::memcpy(record, "hello", 5);
  map->submit(record, 0);
  std::string seen;
  EXPECT_EQ(RingbufReader(map->area()).consume([&](const std::byte* data, uint32_t size) {
    seen.assign(reinterpret_cast<const char*>(data), size);
  }),
            1u);
  EXPECT_EQ(seen, "hello");
  EXPECT_EQ(map->query(BPF_RB_AVAIL_DATA), 0u);
  EXPECT_EQ(map->query(BPF_RB_RING_SIZE), 4096u);
  EXPECT_EQ(map->query(BPF_RB_CONS_POS), 16u);
  EXPECT_EQ(map->query(BPF_RB_PROD_POS), 16u);
  EXPECT_EQ(map->query(77), 0u);
  EXPECT_EQ(map->check().problem, "");
}

TEST_F(RingbufTest, FullLessOneGranule) {
  auto map = ring(4096);
  const Lease lease(machine());
  EXPECT_EQ(map->reserve(lease, 4089), nullptr);
  EXPECT_EQ(map->reserve(lease, 4081), nullptr) << "one byte of the ring stays free";
  std::byte* const most = map->reserve(lease, 4080);
  ASSERT_NE(most, nullptr);
  EXPECT_EQ(map->reserve(lease, 0), nullptr);
  map->discard(most, 0);
  EXPECT_EQ(map->reserve(lease, 0), nullptr) << "not consumed yet";
  EXPECT_EQ(RingbufReader(map->area()).consume(), 0u);
  int records = 0;
  while (map->output(lease, "sixteen bytes...", 8, 0)) ++records;
  EXPECT_EQ(records, 4088 / 16);
  EXPECT_EQ(testing::error_of(map->output(lease, "", 0, 0)), 0) << "eight bytes were left";
  EXPECT_EQ(testing::error_of(map->output(lease, "", 0, 0)), EAGAIN);
  EXPECT_EQ(testing::error_of(map->output(lease, "", 0, 4)), EINVAL);
  EXPECT_EQ(map->check().problem, "");
}

TEST_F(RingbufTest, LongReservationHoldsRoom) {
  auto map = ring(4096);
  const Lease lease(machine());
  std::byte* const first = map->reserve(lease, 8);
  ASSERT_NE(first, nullptr);
  while (map->output(lease, "12345678", 8, 0)) {
  }
  map->area().consumer().store(map->area().producer().load());  // a consumer that goes past it all the same
  EXPECT_EQ(map->reserve(lease, 8), nullptr);
  map->submit(first, 0);
  std::byte* const next = map->reserve(lease, 8);
  EXPECT_NE(next, nullptr);
  map->discard(next, 0);
  EXPECT_EQ(map->check().problem, "");
}

TEST_F(RingbufTest, WrappedRecordIsContiguous) {
  auto map = ring(4096);
  const Lease lease(machine());
  RingbufReader reader(map->area());
  std::string long_record(1000, 'x');
  for (int i = 0; i < 100; ++i) {
    long_record[0] = static_cast<char>('a' + i % 26);
    long_record[999] = long_record[0];
    ASSERT_TRUE(map->output(lease, long_record.data(), 1000, 0)) << i;
    EXPECT_EQ(reader.consume([&](const std::byte* data, uint32_t size) {
      EXPECT_EQ(std::string(reinterpret_cast<const char*>(data), size), long_record);
    }),
              1u);
    ASSERT_EQ(map->check().problem, "");
  }
}

TEST_F(RingbufTest, OldestGiveWay) {
  auto map = ring(4096, BPF_F_RB_OVERWRITE);
  const Lease lease(machine());
  for (uint64_t i = 0; i < 1000; ++i) ASSERT_TRUE(map->output(lease, &i, 8, 0)) << i;
  const uint64_t oldest = map->query(BPF_RB_OVERWRITE_POS);
  EXPECT_EQ(oldest, 1000 * 16 - 255 * 16) << "no more went than had to";
  EXPECT_EQ(map->query(BPF_RB_AVAIL_DATA), 255u * 16);
  for (uint64_t i = 0; i < 255; ++i) {
    uint64_t value;
    std::memcpy(&value, map->area().data(oldest + i * 16), 8);
    EXPECT_EQ(value, 745 + i);
  }
  std::byte* const kept = map->reserve(lease, 8);
  ASSERT_NE(kept, nullptr);
  uint64_t more = 0;
  while (map->output(lease, &more, 8, 0)) ++more;
  EXPECT_EQ(more, 254u) << "a busy record does not give way";
  const uint64_t before = map->query(BPF_RB_OVERWRITE_POS);
  EXPECT_EQ(map->reserve(lease, 8), nullptr);
  EXPECT_EQ(map->query(BPF_RB_OVERWRITE_POS), before);
  map->discard(kept, 0);
  EXPECT_TRUE(map->output(lease, &more, 8, 0));
  EXPECT_EQ(map->check().problem, "");
}

// Against a model that knows only the kernel's rules: what fits, and in which order it comes out.
TEST_F(RingbufTest, RandomAgainstModel) {
  constexpr uint64_t kSize = 8192;
  auto map = ring(kSize);
  const Lease lease(machine());
  RingbufReader reader(map->area());
  struct Expected {
    std::byte* record;
    uint64_t position;
    uint32_t size;
    int state;  // 0 busy, 1 submitted, 2 discarded
    unsigned char content;
  };
  std::deque<Expected> expected;
  uint64_t producer = 0, consumer = 0;
  std::mt19937 random(7);
  for (int step = 0; step < 100'000; ++step) {
    const auto action = static_cast<uint32_t>(random() % 8);
    if (action < 4) {
      const auto size = static_cast<uint32_t>(random() % 16 == 0 ? random() % 8300 : random() % 300);
      const uint64_t length = ringbuf::footprint(size);
      uint64_t pending = producer;
      for (const Expected& e : expected) {
        if (e.state == 0) {
          pending = e.position;
          break;
        }
      }
      const bool fits =
          length <= kSize && producer + length - consumer <= kSize - 1 && producer + length - pending <= kSize - 1;
      std::byte* const record = map->reserve(lease, size);
      ASSERT_EQ(record != nullptr, fits) << "step " << step << " size " << size;
      if (record == nullptr) continue;
      expected.push_back({record, producer, size, 0, static_cast<unsigned char>(step)});
      std::memset(record, static_cast<unsigned char>(step), size);
      producer += length;
    } else if (action < 7 && !expected.empty()) {
      Expected& e = expected[random() % expected.size()];
      if (e.state != 0) continue;
      e.state = random() % 4 == 0 ? 2 : 1;
      e.state == 1 ? map->submit(e.record, 0) : map->discard(e.record, 0);
    } else {
      reader.consume([&](const std::byte* data, uint32_t size) {
        while (!expected.empty() && expected.front().state == 2) expected.pop_front();
        ASSERT_FALSE(expected.empty());
        EXPECT_EQ(expected.front().state, 1);
        EXPECT_EQ(size, expected.front().size);
        for (uint32_t i = 0; i < size; ++i) {
          ASSERT_EQ(static_cast<unsigned char>(data[i]), expected.front().content) << step << " " << i;
        }
        expected.pop_front();
      });
      while (!expected.empty() && expected.front().state == 2) expected.pop_front();
      consumer = map->query(BPF_RB_CONS_POS);
    }
    if (step % 1000 == 0) {
      ASSERT_EQ(map->check().problem, "") << step;
    }
  }
}

// Positions that a client made up lead to refusals and garbage, never outside the ring.
TEST_F(RingbufTest, HostilePositions) {
  for (const uint32_t flags : {0u, uint32_t{BPF_F_RB_OVERWRITE}}) {
    auto map = ring(4096, flags);
    const Lease lease(machine());
    std::mt19937_64 random(11);
    const std::byte* const end = map->area().data(0) - ringbuf::kHeaderSize + 2 * map->area().size();
    for (int i = 0; i < 20'000; ++i) {
      const uint64_t value = random() >> (random() % 64);
      switch (random() % 6) {
        case 0:
          map->area().consumer().store(value);
          break;
        case 1:
          map->area().producer().store(value);
          break;
        case 2:
          map->area().pending().store(value);
          break;
        case 3:
          map->area().header(value).store(random());
          break;
        case 4:
          map->area().overwritten().store(value);
          break;
        default:
          break;
      }
      const uint64_t size = random() % 4 == 0 ? random() % (1 << 20) : random() % 512;
      std::byte* const record = map->reserve(lease, size);
      if (record != nullptr) {
        ASSERT_GE(record, map->area().data(0));
        ASSERT_LE(record + size, end) << "step " << i;
        map->submit(record, 0);
      }
      map->help_consumer();
      (void)map->readable();
      (void)map->check();
    }
  }
}

// What a client of libbpf's can reach by its mapping, at any time: the consumer position.
TEST_F(RingbufTest, HostileConsumer) {
#if defined(SKEP_THREAD_SANITIZER)
  GTEST_SKIP() << "a consumer that lies has producers write where others still do: a race of its own making";
#endif
  for (const uint32_t flags : {0u, uint32_t{BPF_F_RB_OVERWRITE}}) {
    auto map = ring(8192, flags);
    std::atomic<bool> done{false};
    std::jthread hostile([&] {
      std::mt19937_64 random(5);
      while (!done.load()) {
        const uint64_t near = map->area().producer().load() + random() % 32768 - 16384;
        map->area().consumer().store(random() % 2 == 0 ? near : random());
      }
    });
    std::vector<std::jthread> producers;
    for (uint32_t id = 0; id < 2; ++id) {
      producers.emplace_back([&, id] {
        std::mt19937_64 random(id);
        for (int i = 0; i < 50'000; ++i) {
          const Lease lease(machine());
          const uint64_t size = random() % 600;
          if (std::byte* const record = map->reserve(lease, size); record != nullptr) {
            std::memset(record, 0xff, size);
            map->submit(record, 0);
          }
          map->help_consumer();
        }
      });
    }
    producers.clear();
    done = true;
    hostile.join();
    map->area().consumer().store(map->area().producer().load());
    const Lease lease(machine());
    EXPECT_NE(map->reserve(lease, 100), nullptr) << "the ring serves the next client";
  }
}

TEST_F(RingbufTest, BellRingsForASleeperOnly) {
  auto map = ring(4096);
  const Lease lease(machine());
  RingbufBell& bell = map->bell();
  const int fd = bell.open();
  ASSERT_GE(fd, 0);
  const auto readable = [fd] {
    pollfd state = {.fd = fd, .events = POLLIN, .revents = 0};
    return poll(&state, 1, 0) == 1;
  };
  ASSERT_TRUE(map->output(lease, "a", 1, 0));
  EXPECT_FALSE(readable()) << "nobody said that he sleeps";
  RingbufReader(map->area()).consume();
  bell.announce();
  ASSERT_TRUE(map->output(lease, "b", 1, BPF_RB_NO_WAKEUP));
  EXPECT_FALSE(readable());
  ASSERT_TRUE(map->output(lease, "c", 1, 0));
  EXPECT_FALSE(readable()) << "the consumer is behind this record";
  ASSERT_TRUE(map->output(lease, "d", 1, BPF_RB_FORCE_WAKEUP));
  EXPECT_TRUE(readable());
  bell.set(fd, false);
  EXPECT_FALSE(readable());
  RingbufReader(map->area()).consume();
  bell.announce();
  ASSERT_TRUE(map->output(lease, "e", 1, 0));
  EXPECT_TRUE(readable());
  close(fd);
}

// Somebody rings, another consumer takes the record, and the sleeper's silence swallows the ring: he must be announced
// all the same when he sleeps.
TEST_F(RingbufTest, SwallowedRing) {
  auto map = ring(4096);
  RingbufBell& bell = map->bell();
  const int fd = bell.open();
  ASSERT_GE(fd, 0);
  int looks = 0;
  bell.tell(fd, [&] {
    if (++looks == 2) bell.ring();
    return false;
  });
  EXPECT_TRUE(bell.awaited());
  EXPECT_GT(looks, 3);
  bell.ring();
  pollfd state = {.fd = fd, .events = POLLIN, .revents = 0};
  EXPECT_EQ(poll(&state, 1, 0), 1);
  close(fd);
}

class UserRingbufTest : public RingbufTest {
 protected:
  std::unique_ptr<UserRingbufMap> user_ring(uint32_t size) {
    std::unique_ptr<Map> map = make(spec(BPF_MAP_TYPE_USER_RINGBUF, 0, 0, size));
    return std::unique_ptr<UserRingbufMap>(static_cast<UserRingbufMap*>(map.release()));
  }
  /// Writes a sample as libbpf's user_ring_buffer does.
  static void put(const RingbufArea& area, const std::string& text, uint32_t state = 0) {
    const uint64_t position = area.producer().load();
    std::memcpy(area.data(position), text.data(), text.size());
    area.header(position).store(static_cast<uint32_t>(text.size()) | state);
    area.producer().store(position + ringbuf::footprint(text.size()), std::memory_order_release);
  }
};

TEST_F(UserRingbufTest, Drain) {
  auto map = user_ring(4096);
  const Lease lease(machine());
  std::vector<std::string> seen;
  bool more = true;
  const auto drain = [&](uint64_t flags) {
    return map->drain(lease, flags, [&](const UserRingbufMap::Sample& sample) {
      seen.emplace_back(reinterpret_cast<const char*>(sample.data), sample.size);
      return more;
    });
  };
  EXPECT_EQ(drain(0), 0);
  EXPECT_EQ(drain(4), -EINVAL);
  put(map->area(), "one");
  put(map->area(), "gone", ringbuf::kDiscard);
  put(map->area(), "two");
  EXPECT_EQ(drain(3), 2);
  EXPECT_EQ(seen, (std::vector<std::string>{"one", "two"}));
  put(map->area(), "three");
  put(map->area(), "four");
  more = false;
  EXPECT_EQ(drain(0), 1);
  EXPECT_EQ(seen.back(), "three");
  put(map->area(), "busy", ringbuf::kBusy);
  put(map->area(), "five");
  more = true;
  EXPECT_EQ(drain(0), 1) << "stops at the busy one";
  EXPECT_EQ(drain(0), 0);
  EXPECT_TRUE(map->writable());
}

TEST_F(UserRingbufTest, DrainBelievesNothing) {
  auto map = user_ring(4096);
  const RingbufArea& area = map->area();
  const Lease lease(machine());
  const auto drain = [&] { return map->drain(lease, 0, [](const UserRingbufMap::Sample&) { return true; }); };
  area.producer().store(4);
  EXPECT_EQ(drain(), -EINVAL);
  area.producer().store(16);
  area.header(0).store(64);
  EXPECT_EQ(drain(), -EINVAL) << "longer than advertised";
  area.producer().store(16384);
  area.header(0).store(8192);
  EXPECT_EQ(drain(), -E2BIG);
  area.header(0).store(0);
  EXPECT_EQ(map->drain(lease, 0,
                       [&](const UserRingbufMap::Sample&) {
                         EXPECT_EQ(drain(), -EBUSY);
                         return false;
                       }),
            1);
}

}  // namespace
}  // namespace skep
