// SPDX-License-Identifier: Apache-2.0
// Threads on one QUEUE or STACK: every value is counted, none is torn, and a queue keeps each producer's order.
#include <atomic>
#include <chrono>
#include <map>
#include <thread>

#include "maps/queue_test_support.h"

namespace skep {
namespace {

struct Shape {
  uint32_t type, value_size, capacity;
};

class QueueThreadsTest : public testing::KeylessTest, public ::testing::WithParamInterface<Shape> {
 protected:
  static constexpr uint64_t kProducers = 2;
  static constexpr uint64_t kConsumers = 2;
  [[nodiscard]] bool queue() const { return GetParam().type == BPF_MAP_TYPE_QUEUE; }
  /// Producer and number of a value; never 0, so that zeros are no value.
  static uint64_t stamp(uint64_t producer, uint64_t number) { return (number + 1) * kProducers + producer; }
  std::unique_ptr<Map> make_map() { return make_keyless(GetParam().type, GetParam().value_size, GetParam().capacity); }
  [[nodiscard]] uint64_t values_each() const { return GetParam().value_size > 1000 ? 5'000 : 40'000; }
};

INSTANTIATE_TEST_SUITE_P(Shapes, QueueThreadsTest,
                         ::testing::Values(Shape{BPF_MAP_TYPE_QUEUE, 8, 1}, Shape{BPF_MAP_TYPE_QUEUE, 8, 2},
                                           Shape{BPF_MAP_TYPE_QUEUE, 8, 3}, Shape{BPF_MAP_TYPE_QUEUE, 40, 16},
                                           Shape{BPF_MAP_TYPE_QUEUE, 8, 1000}, Shape{BPF_MAP_TYPE_QUEUE, 5000, 3},
                                           Shape{BPF_MAP_TYPE_STACK, 8, 1}, Shape{BPF_MAP_TYPE_STACK, 40, 16},
                                           Shape{BPF_MAP_TYPE_STACK, 5000, 3}),
                         [](const auto& tested) {
                           return std::string(tested.param.type == BPF_MAP_TYPE_QUEUE ? "Queue" : "Stack") +
                                  std::to_string(tested.param.value_size) + "x" + std::to_string(tested.param.capacity);
                         });

// O1, O2, O3: each value comes out once; the values of one producer come out of a queue in their order, as every
// consumer sees it.
TEST_P(QueueThreadsTest, NothingIsLostOrTwice) {
  auto map = make_map();
  const uint64_t each = values_each();
  std::vector<std::vector<uint64_t>> popped(kConsumers);
  std::atomic<uint64_t> left = kProducers * each;
  {
    std::vector<std::jthread> threads;
    for (uint64_t producer = 0; producer < kProducers; ++producer) {
      threads.emplace_back([&, producer] {
        for (uint64_t i = 0; i < each;) {
          const Lease lease(machine());
          const int error = push(*map, lease, stamp(producer, i));
          ASSERT_TRUE(error == 0 || error == E2BIG) << error;
          i += error == 0;
          if (error != 0) std::this_thread::yield();
        }
      });
    }
    for (auto& mine : popped) {
      threads.emplace_back([&] {
        while (left.load() > 0) {
          const Lease lease(machine());
          const int64_t got = pop(*map, lease);
          if (got > 0) {
            mine.push_back(static_cast<uint64_t>(got));
            --left;
          } else {
            ASSERT_EQ(got, -ENOENT);
            std::this_thread::yield();
          }
        }
      });
    }
  }
  std::vector<uint8_t> seen(kProducers * (each + 2));
  for (const auto& mine : popped) {
    uint64_t last[kProducers] = {};
    for (const uint64_t value : mine) {
      ASSERT_LT(value, seen.size()) << "torn or invented";
      ASSERT_EQ(seen[value]++, 0) << "twice";
      if (queue()) {
        ASSERT_GT(value, last[value % kProducers]) << "out of order";
        last[value % kProducers] = value;
      }
    }
  }
  const CheckReport report = map->check();
  EXPECT_EQ(report.problem, "");
  EXPECT_EQ(report.elements, 0U);
  EXPECT_EQ(report.free_elements, GetParam().capacity);
}

// O4 and the starving reader: producers that drop the oldest, consumers and peekers that copy under their feet.
TEST_P(QueueThreadsTest, DroppingProducersTearNothing) {
  auto map = make_map();
  const auto deadline = std::chrono::steady_clock::now() + std::chrono::milliseconds(200);
  const auto running = [&] { return std::chrono::steady_clock::now() < deadline; };
  std::atomic<uint64_t> pushed = 0, popped = 0;
  {
    std::vector<std::jthread> threads;
    for (uint64_t producer = 0; producer < kProducers; ++producer) {
      threads.emplace_back([&, producer] {
        for (uint64_t i = 0; running(); ++i) {
          const Lease lease(machine());
          ASSERT_EQ(push(*map, lease, stamp(producer, i), BPF_EXIST), 0);
          ++pushed;
        }
      });
    }
    threads.emplace_back([&] {
      uint64_t last[kProducers] = {};
      while (running()) {
        const Lease lease(machine());
        const int64_t got = pop(*map, lease);
        if (got == -ENOENT) continue;
        ASSERT_GT(got, 0);
        const auto value = static_cast<uint64_t>(got);
        ASSERT_NE(value, kTorn);
        ++popped;
        if (!queue()) continue;
        ASSERT_GT(value, last[value % kProducers]) << "out of order";
        last[value % kProducers] = value;
      }
    });
    threads.emplace_back([&] {
      uint64_t last[kProducers] = {};
      while (running()) {
        const int64_t got = peek(*map);
        if (got == -ENOENT) continue;
        ASSERT_GT(got, 0);
        const auto value = static_cast<uint64_t>(got);
        ASSERT_NE(value, kTorn);
        if (!queue()) continue;
        ASSERT_GE(value, last[value % kProducers]) << "out of order";
        last[value % kProducers] = value;
      }
    });
  }
  EXPECT_GT(pushed, 0U);
  const CheckReport report = map->check();
  EXPECT_EQ(report.problem, "");
  EXPECT_EQ(report.elements + report.free_elements, GetParam().capacity);
}

// O2: what a thread has pushed it can pop at once, whatever others have in hand: ENOENT would be a lie.
TEST_P(QueueThreadsTest, PushThenPopAlwaysFindsSomething) {
  if (GetParam().capacity < 2) GTEST_SKIP() << "two threads need room for two";
  auto map = make_map();
  std::vector<std::jthread> threads;
  for (uint64_t thread = 0; thread < 2; ++thread) {
    threads.emplace_back([&, thread] {
      for (uint64_t i = 0; i < values_each(); ++i) {
        const Lease lease(machine());
        ASSERT_EQ(push(*map, lease, stamp(thread, i)), 0) << "there was room";
        ASSERT_GT(pop(*map, lease), 0) << "there was a value";
      }
    });
  }
}

}  // namespace
}  // namespace skep
