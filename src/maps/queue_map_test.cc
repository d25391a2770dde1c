// SPDX-License-Identifier: Apache-2.0
// QUEUE and STACK by one thread: against a model, and each errno.
#include <deque>
#include <random>

#include "maps/queue_test_support.h"

namespace skep {
namespace {

using testing::error_of;

class QueueMapTest : public testing::KeylessTest, public ::testing::WithParamInterface<uint32_t> {
 protected:
  [[nodiscard]] bool stack() const { return GetParam() == BPF_MAP_TYPE_STACK; }
  [[nodiscard]] MapSpec good() const { return spec(GetParam(), 0, 8, 4); }
};

INSTANTIATE_TEST_SUITE_P(Kinds, QueueMapTest, ::testing::Values(BPF_MAP_TYPE_QUEUE, BPF_MAP_TYPE_STACK),
                         [](const auto& kind) { return kind.param == BPF_MAP_TYPE_QUEUE ? "Queue" : "Stack"; });

TEST_P(QueueMapTest, CreateChecks) {
  const auto error = [&](auto change) {
    MapSpec changed = good();
    change(changed);
    return create_error(changed);
  };
  EXPECT_EQ(error([](MapSpec&) {}), 0);
  EXPECT_EQ(error([](MapSpec& s) { s.key_size = 4; }), EINVAL);
  EXPECT_EQ(error([](MapSpec& s) { s.value_size = 0; }), EINVAL);
  EXPECT_EQ(error([](MapSpec& s) { s.max_entries = 0; }), EINVAL);
  EXPECT_EQ(error([](MapSpec& s) { s.value_size = (4U << 20) + 1; }), E2BIG);
  EXPECT_EQ(error([](MapSpec& s) { s.max_entries = UINT32_MAX, s.value_size = 4U << 20; }), ENOMEM);
  EXPECT_EQ(error([](MapSpec& s) { s.fields.spin_lock = 0; }), EOPNOTSUPP);
  for (uint32_t bit = 0; bit < 32; ++bit) {
    const bool allowed = bit == 2 || bit == 3 || bit == 4 || bit == 7 || bit == 8;
    EXPECT_EQ(error([&](MapSpec& s) { s.flags = 1U << bit; }), allowed ? 0 : EINVAL) << bit;
  }
}

TEST_P(QueueMapTest, FlagsAndWhatThereIsNot) {
  auto map = make(good());
  const Lease lease(machine());
  for (const uint64_t flags : {1ULL, 3ULL, 4ULL, 6ULL, 8ULL, 1ULL << 32}) {
    EXPECT_EQ(push(*map, lease, 1, flags), EINVAL) << flags;
  }
  uint64_t word = 0;
  EXPECT_EQ(error_of(map->erase(lease, nullptr)), EINVAL);
  EXPECT_EQ(error_of(map->next_key(nullptr, &word)), EINVAL);
  EXPECT_EQ(map->find(lease, nullptr), nullptr);
  EXPECT_FALSE(map->batch_support().lookup || map->batch_support().update || map->batch_support().take);
  EXPECT_EQ(pop(*map, lease), -ENOENT);
  EXPECT_EQ(peek(*map), -ENOENT);
}

TEST_P(QueueMapTest, FullDropsTheOldestIfTold) {
  auto map = make(spec(GetParam(), 0, 8, 3));
  const Lease lease(machine());
  for (uint64_t i = 0; i < 3; ++i) EXPECT_EQ(push(*map, lease, i), 0);
  EXPECT_EQ(push(*map, lease, 99), E2BIG);
  for (uint64_t i = 3; i < 10; ++i) EXPECT_EQ(push(*map, lease, i, BPF_EXIST), 0);
  for (const int64_t expected : stack() ? std::vector<int64_t>{9, 8, 7} : std::vector<int64_t>{7, 8, 9}) {
    EXPECT_EQ(peek(*map), expected);
    EXPECT_EQ(pop(*map, lease), expected);
  }
  EXPECT_EQ(pop(*map, lease), -ENOENT);
  EXPECT_EQ(map->check().problem, "");
}

TEST_P(QueueMapTest, AgreesWithAModel) {
  for (const uint32_t capacity : {1U, 2U, 3U, 5U, 8U, 100U}) {
    for (const uint32_t size : {1U, 3U, 4U, 8U, 13U, 24U, 5000U}) {
      auto map = make_keyless(GetParam(), size, capacity);
      std::mt19937 random(capacity * 31 + size);
      std::deque<uint64_t> model;
      const uint64_t mask = size >= 8 ? ~uint64_t{0} : (uint64_t{1} << (8 * size)) - 1;
      const Lease lease(machine());
      const auto newest = [&] { return static_cast<int64_t>(stack() ? model.back() : model.front()); };
      for (int step = 0; step < 3000; ++step) {
        const bool growing = step / 300 % 2 == 0;  // now mostly full, now mostly empty
        const uint64_t flags = random() % 3 == 0 ? BPF_EXIST : BPF_ANY;
        if (random() % 3 == 0 ? !growing : growing) {
          const uint64_t stamp = random() & mask;
          const bool full = model.size() == capacity;
          ASSERT_EQ(push(*map, lease, stamp, flags), full && flags == BPF_ANY ? E2BIG : 0);
          if (full && flags == BPF_EXIST) model.pop_front();
          if (!full || flags == BPF_EXIST) model.push_back(stamp);
        } else if (model.empty()) {
          ASSERT_EQ(pop(*map, lease), -ENOENT);
        } else {
          ASSERT_EQ(pop(*map, lease), newest());
          stack() ? model.pop_back() : model.pop_front();
        }
        ASSERT_EQ(peek(*map), model.empty() ? -ENOENT : newest());
        if (step % 100 == 0) {
          const CheckReport report = map->check();
          ASSERT_EQ(report.problem, "") << step;
          ASSERT_EQ(report.elements, model.size());
          ASSERT_EQ(report.free_elements, capacity - model.size());
        }
      }
    }
  }
}

TEST_P(QueueMapTest, LargestValues) {
  auto map = make_keyless(GetParam(), 4U << 20, 2);
  const Lease lease(machine());
  for (uint64_t i = 1; i <= 3; ++i) EXPECT_EQ(push(*map, lease, i, BPF_EXIST), 0);
  EXPECT_EQ(peek(*map), stack() ? 3 : 2);
  EXPECT_EQ(pop(*map, lease), stack() ? 3 : 2);
  EXPECT_EQ(pop(*map, lease), stack() ? 2 : 3);
}

TEST_P(QueueMapTest, ReadOnlyWindowsPeek) {
  auto map = make_keyless(GetParam(), 40, 3);
  auto reader = open_map(last_file(), Access::kReadOnly, machine());
  ASSERT_TRUE(reader);
  const Lease lease(machine());
  EXPECT_EQ(peek(**reader), -ENOENT);
  ASSERT_EQ(push(*map, lease, 5), 0);
  EXPECT_EQ(peek(**reader), 5);
}

// Whatever stands in the map, no call runs on for ever or out of the map.
TEST_P(QueueMapTest, NonsenseInTheMapIsSurvived) {
  auto map = make_keyless(GetParam(), 8, 5);
  std::mt19937_64 random(3);
  auto* words = reinterpret_cast<uint64_t*>(map->segments().control.data() + kControlOffset);
  for (int round = 0; round < 200; ++round) {
    for (int i = 0; i < 16 + 10; ++i) {
      const uint64_t state = random() % 2;  // a claim would be waited for
      words[i] = random() % 3 == 0 ? 0 : ((random() >> (random() % 64)) & ~uint64_t{3}) | state;
    }
    if (stack()) words[0] = 0;
    const Lease lease(machine());
    for (int i = 0; i < 5; ++i) {
      (void)push(*map, lease, 1, i % 2 == 0 ? BPF_ANY : BPF_EXIST);
      (void)peek(*map);
      (void)pop(*map, lease);
    }
    (void)map->check();
  }
}

}  // namespace
}  // namespace skep
