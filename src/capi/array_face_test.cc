// SPDX-License-Identifier: Apache-2.0
#include <numeric>
#include <thread>

#include "capi/instance_fixture.h"

namespace skep {
namespace {

struct Sample {
  uint64_t time;
  double value;
  uint32_t source;
  friend bool operator==(const Sample&, const Sample&) = default;
};

using ArrayFaceTest = testing::InstanceTest;
using PerCpuFaceTest = testing::InstanceTest;

TEST_F(ArrayFaceTest, ReadAndWrite) {
  auto array = Array<Sample>::create(instance(), {.name = "samples", .max_entries = 4, .flags = BPF_F_MMAPABLE});
  ASSERT_TRUE(array) << array.error().message;
  EXPECT_EQ(array->size(), 4U);
  EXPECT_EQ(array->get(3), Sample{});
  EXPECT_EQ(array->get(4), std::nullopt);
  EXPECT_TRUE(array->assign(3, {1, 2.5, 3}));
  EXPECT_EQ(array->assign(4, {}).error().code, E2BIG);
  EXPECT_TRUE(array->update(3, [](Sample& sample) { sample.value *= 2; }));
  EXPECT_EQ(array->update(4, [](Sample&) { FAIL(); }).error().code, ENOENT);
  EXPECT_EQ(array->get(3), (Sample{1, 5.0, 3}));

  {
    const Guard guard(*array);
    array->find(guard, 2)->source = 9;
    EXPECT_FALSE(array->find(guard, 4));
  }
  EXPECT_TRUE(array->visit(2, [](const Sample& sample) { EXPECT_EQ(sample.source, 9U); }));

  uint32_t expected = 0;
  for (const auto& [index, sample] : array->entries()) {
    EXPECT_EQ(index, expected++);
    EXPECT_EQ(sample, array->get(index));
  }
  EXPECT_EQ(expected, 4U);

  const uint32_t indices[] = {3, 7, 2};
  Sample values[3];
  uint8_t found[3];
  EXPECT_EQ(array->get_many(indices, values, found), 2U);
  EXPECT_EQ(values[0].time, 1U);
  EXPECT_EQ(found[1], 0);
  EXPECT_EQ(values[2].source, 9U);
}

TEST_F(ArrayFaceTest, ConcurrentUpdates) {
  auto array = Array<uint32_t>::create(instance(), {.max_entries = 1});
  ASSERT_TRUE(array);
  {
    std::vector<std::jthread> threads;
    for (int n = 0; n < 3; ++n) {
      threads.emplace_back([&] {
        for (int i = 0; i < 5000; ++i) ASSERT_TRUE(array->update(0, [](uint32_t& value) { ++value; }));
      });
    }
  }
  EXPECT_EQ(array->get(0), 15000U);
}

TEST_F(PerCpuFaceTest, ArrayParts) {
  auto array = PerCpuArray<uint32_t>::create(instance(), {.name = "counts", .max_entries = 2});
  ASSERT_TRUE(array) << array.error().message;
  const uint32_t cpus = instance().cpus();
  ASSERT_EQ(array->cpus(), cpus);
  EXPECT_TRUE(array->assign_all(1, 5));
  EXPECT_EQ(array->get(1), std::vector<uint32_t>(cpus, 5));
  EXPECT_TRUE(array->assign_one(1, cpus - 1, 6));
  EXPECT_EQ(array->get(1, cpus - 1), 6U);
  EXPECT_EQ(array->get(1, cpus), std::nullopt);
  EXPECT_EQ(array->assign_one(1, cpus, 6).error().code, ERANGE);
  std::vector<uint32_t> parts(cpus);
  std::iota(parts.begin(), parts.end(), 100U);
  EXPECT_TRUE(array->assign(0, parts));
  EXPECT_EQ(array->get(0), parts);
  EXPECT_EQ(array->get(2), std::nullopt);
  size_t walked = 0;
  for (const auto& [index, values] : array->entries()) walked += values.size();
  EXPECT_EQ(walked, 2 * cpus);
}

// Counters that threads bump in place, whatever CPU each runs on, add up exactly.
TEST_F(PerCpuFaceTest, PartsBelongToTheirGuard) {
  auto array = PerCpuArray<uint64_t>::create(instance(), {.max_entries = 1});
  ASSERT_TRUE(array);
  constexpr uint64_t kRounds = 3000;
  {
    std::vector<std::jthread> threads;
    for (int n = 0; n < 4; ++n) {
      threads.emplace_back([&, n] {
        for (uint64_t i = 0; i < kRounds; ++i) {
          if (n % 2 == 0) {
            ASSERT_TRUE(array->visit(0, [](uint64_t& part) { ++part; }));
          } else {
            ASSERT_TRUE(array->update(0, [](uint64_t& part) { ++part; }));
          }
        }
      });
    }
  }
  const auto parts = array->get(0);
  EXPECT_EQ(std::accumulate(parts->begin(), parts->end(), uint64_t{0}), 4 * kRounds);
}

TEST_F(PerCpuFaceTest, HashParts) {
  auto map = PerCpuHashMap<uint64_t, uint64_t>::create(instance(), {.name = "by_user", .max_entries = 3});
  ASSERT_TRUE(map) << map.error().message;
  const uint32_t cpus = map->cpus();
  std::vector<uint64_t> parts(cpus);
  std::iota(parts.begin(), parts.end(), 1U);
  EXPECT_FALSE(*map->assign(7, parts));
  EXPECT_TRUE(*map->insert(7, parts));
  EXPECT_FALSE(*map->insert(7, parts));
  EXPECT_EQ(map->get(7), parts);
  EXPECT_EQ(map->get(7, 0), 1U);
  EXPECT_EQ(map->get(8), std::nullopt);
  EXPECT_TRUE(*map->insert_all(8, 4));
  EXPECT_EQ(map->get(8), std::vector<uint64_t>(cpus, 4));
  EXPECT_TRUE(*map->assign_one(8, 0, 5));
  EXPECT_EQ(map->get(8, 0), 5U);
  EXPECT_TRUE(*map->update(8, [](uint64_t& part) { part += 100; }));
  EXPECT_FALSE(*map->update(9, [](uint64_t&) { FAIL(); }));
  uint64_t sum = 0;
  for (const auto& [key, values] : map->entries()) {
    if (key == 8) sum = std::accumulate(values.begin(), values.end(), uint64_t{0});
  }
  EXPECT_EQ(sum, 4U * (cpus - 1) + 5 + 100);
  EXPECT_TRUE(map->visit(7, [](uint64_t& part) { part = 0; }));
  EXPECT_TRUE(map->insert_or_assign(7, parts));
  EXPECT_EQ(map->get(7), parts);
  EXPECT_TRUE(*map->erase(7));
  EXPECT_FALSE(map->contains(7));
}

}  // namespace
}  // namespace skep
