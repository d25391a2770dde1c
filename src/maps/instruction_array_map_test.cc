// SPDX-License-Identifier: Apache-2.0
#include "maps/instruction_array_map.h"

#include <gtest/gtest.h>

#include <thread>

#include "maps/map_test_support.h"

namespace skep {
namespace {

using testing::error_of;

struct Entry {
  uint32_t original = 0, translated = 0, compiled = 0, padding = 0;
};

class InstructionArrayTest : public testing::MapTest {
 protected:
  static MapSpec table(uint32_t entries, uint32_t flags = 0, uint32_t key_size = 4, uint32_t value_size = 16) {
    return spec(BPF_MAP_TYPE_INSN_ARRAY, key_size, value_size, entries, flags);
  }
  int put(Map& map, uint32_t index, const Entry& entry, uint64_t flags = 0) {
    const Lease lease(machine());
    return error_of(map.update(lease, &index, &entry, flags));
  }
  static Entry get(const Map& map, uint32_t index) {
    Entry entry;
    EXPECT_EQ(error_of(map.lookup(&index, &entry, 0)), 0);
    return entry;
  }
};

TEST_F(InstructionArrayTest, CreationChecksLinuxDoes) {
  EXPECT_EQ(create_error(table(1)), 0);
  EXPECT_EQ(create_error(table(0)), EINVAL);
  EXPECT_EQ(create_error(table(1, 0, 8)), EINVAL);
  EXPECT_EQ(create_error(table(1, 0, 4, 8)), EINVAL);
  for (uint32_t bit = 0; bit < 32; ++bit) EXPECT_EQ(create_error(table(1, 1U << bit)), EINVAL) << bit;
}

TEST_F(InstructionArrayTest, OffsetsAreTheClientsAndTheRestIsNot) {
  auto map = make(table(3));
  EXPECT_EQ(put(*map, 1, {.original = 7, .padding = 9}), 0);
  EXPECT_EQ(get(*map, 1).original, 7U);
  EXPECT_EQ(get(*map, 1).padding, 0U);
  EXPECT_EQ(put(*map, 1, {.original = 8, .translated = 1}), EINVAL);
  EXPECT_EQ(put(*map, 1, {.original = 8, .compiled = 1}), EINVAL);
  EXPECT_EQ(put(*map, 1, {.original = 8}, BPF_NOEXIST), EEXIST);
  EXPECT_EQ(put(*map, 3, {.original = 8}, BPF_NOEXIST), E2BIG);
  EXPECT_EQ(put(*map, 1, {.original = 8}, BPF_F_LOCK), EINVAL);
  EXPECT_EQ(get(*map, 1).original, 7U);
  EXPECT_EQ(put(*map, 1, {.original = 8}, BPF_EXIST), 0);
  EXPECT_EQ(get(*map, 1).original, 8U);

  uint32_t key = 3, next = 99;
  Entry entry;
  EXPECT_EQ(error_of(map->lookup(&key, &entry, 0)), ENOENT);
  EXPECT_EQ(error_of(map->next_key(&key, &next)), 0);
  EXPECT_EQ(next, 0U);
  key = 2;
  EXPECT_EQ(error_of(map->next_key(&key, &next)), ENOENT);
  const Lease lease(machine());
  EXPECT_EQ(error_of(map->erase(lease, &key)), EINVAL);
  EXPECT_EQ(error_of(map->take(lease, &key, &entry, 0)), SKEP_ENOTSUPP);
  EXPECT_FALSE(map->batch_support().lookup);
}

TEST_F(InstructionArrayTest, OneProgramHasIt) {
  auto map = make(table(4));
  auto& array = static_cast<InstructionArrayMap&>(*map);
  for (uint32_t i = 0; i < 4; ++i) ASSERT_EQ(put(*map, i, {.original = 10 + i}), 0);
  EXPECT_EQ(error_of(array.claim(5, 0)), EINVAL) << "not frozen";
  map->header().frozen = 1;
  EXPECT_EQ(error_of(array.claim(5, 0)), 0);
  EXPECT_EQ(array.user(), 5U);
  for (uint32_t i = 0; i < 4; ++i) {
    EXPECT_EQ(get(*map, i).translated, 10 + i);
    EXPECT_EQ(get(*map, i).compiled, 0U);
  }
  EXPECT_EQ(error_of(array.claim(6, 0)), EBUSY);
  EXPECT_EQ(error_of(array.claim(6, 5)), 0);  // 5 is known to be gone
  EXPECT_EQ(map->check().problem, "");
}

TEST_F(InstructionArrayTest, OneOfManyClaimsWins) {
  for (uint32_t round = 0; round < 50; ++round) {
    auto map = make(table(16));
    map->header().frozen = 1;
    auto& array = static_cast<InstructionArrayMap&>(*map);
    std::atomic<uint32_t> winners = 0, winner = 0;
    {
      std::vector<std::jthread> threads;
      for (uint32_t id = 1; id <= 4; ++id) {
        threads.emplace_back([&, id] {
          const int error = error_of(array.claim(id, 0));
          if (error == 0) {
            ++winners;
            winner = id;
          } else {
            EXPECT_EQ(error, EBUSY);
          }
        });
      }
    }
    EXPECT_EQ(winners, 1U);
    EXPECT_EQ(array.user(), winner);
  }
}

TEST_F(InstructionArrayTest, CheckFindsWhatNoLoadWrote) {
  auto map = make(table(4));
  ASSERT_EQ(put(*map, 2, {.original = 3}), 0);
  auto* values = reinterpret_cast<uint32_t*>(map->segments().control.data() + kControlOffset +
                                             sizeof(InstructionArrayMap::Control));
  values[2 * 4 + 1] = 4;
  EXPECT_NE(map->check().problem, "");
}

}  // namespace
}  // namespace skep
