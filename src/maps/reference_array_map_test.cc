// SPDX-License-Identifier: Apache-2.0
#include "maps/reference_array_map.h"

#include <atomic>
#include <set>
#include <thread>

#include "maps/map_test_support.h"

namespace skep {
namespace {

using testing::error_of;

class ReferenceArrayTest : public testing::MapTest {
 protected:
  static uint64_t word(const Map& map, uint32_t index) {
    uint64_t found = 0;
    return map.lookup(&index, &found, 0) ? found : 0;
  }
};

TEST_F(ReferenceArrayTest, AnEntryIsEmptyUntilItIsExchanged) {
  const auto map = make(spec(BPF_MAP_TYPE_PROG_ARRAY, 4, 4, 3));
  const Lease lease(machine());
  const uint32_t key = 1;
  uint64_t found = 0;
  EXPECT_EQ(error_of(map->lookup(&key, &found, 0)), ENOENT);
  EXPECT_EQ(error_of(map->take(lease, &key, &found, 0)), ENOENT);
  EXPECT_EQ(map->exchange(lease, &key, 7, 0).value(), 0U);
  EXPECT_EQ(map->exchange(lease, &key, 8, 0).value(), 7U);
  EXPECT_EQ(word(*map, 1), 8U);
  EXPECT_EQ(word(*map, 0), 0U);
  EXPECT_EQ(map->check().elements, 1U);
  EXPECT_EQ(map->check().free_elements, 2U);
  EXPECT_EQ(error_of(map->take(lease, &key, &found, 0)), 0);
  EXPECT_EQ(found, 8U);
  EXPECT_EQ(map->check().elements, 0U);
}

TEST_F(ReferenceArrayTest, FlagsAndIndicesAreCheckedInThisOrder) {
  const auto map = make(spec(BPF_MAP_TYPE_ARRAY_OF_MAPS, 4, 4, 3));
  const Lease lease(machine());
  for (const uint32_t key : {2U, 3U}) {
    EXPECT_EQ(error_of(map->exchange(lease, &key, 1, BPF_ANY)), key < 3 ? 0 : E2BIG);
    EXPECT_EQ(error_of(map->exchange(lease, &key, 1, BPF_NOEXIST)), EINVAL);
    EXPECT_EQ(error_of(map->exchange(lease, &key, 1, BPF_EXIST)), EINVAL);
    EXPECT_EQ(error_of(map->exchange(lease, &key, 1, uint64_t{1} << 32)), EINVAL);
    EXPECT_EQ(error_of(map->update(lease, &key, &key, 0)), kEnotsupp);
    uint64_t found = 0;
    EXPECT_EQ(error_of(map->lookup(&key, &found, 0)), key < 3 ? 0 : ENOENT);
    EXPECT_EQ(error_of(map->take(lease, &key, &found, 0)), key < 3 ? 0 : E2BIG);
  }
}

TEST_F(ReferenceArrayTest, AWalkMeetsTheEntriesThatAreNotEmpty) {
  const auto map = make(spec(BPF_MAP_TYPE_ARRAY_OF_MAPS, 4, 4, 100));
  const Lease lease(machine());
  for (uint32_t key = 0; key < 100; key += 7) ASSERT_TRUE(map->exchange(lease, &key, key + 1, 0));
  std::set<uint64_t> seen;
  EXPECT_EQ(map->for_each(lease,
                          [&](const void* key, const void* value) {
                            EXPECT_EQ(*static_cast<const uint32_t*>(key) + 1, *static_cast<const uint64_t*>(value));
                            seen.insert(*static_cast<const uint64_t*>(value));
                            return Visit::kContinue;
                          })
                .value(),
            15U);
  EXPECT_EQ(seen.size(), 15U);
  testing::CollectingSink sink(4, 8);
  uint32_t cursor = 0;
  const BatchResult batch = map->lookup_batch(nullptr, &cursor, 100, 0, sink);
  EXPECT_EQ(batch.count, 15U);
  EXPECT_EQ(batch.error, ENOENT);
}

/// What is put in once comes out once, whoever exchanges and takes at the same time.
TEST_F(ReferenceArrayTest, EveryWordLeavesOnce) {
  for (const uint32_t type : {BPF_MAP_TYPE_ARRAY_OF_MAPS, BPF_MAP_TYPE_HASH_OF_MAPS}) {
    const auto map = make(spec(type, 4, 4, 4));
    constexpr uint32_t kThreads = 4, kRounds = 20'000;
    std::vector<std::atomic<uint8_t>> out(uint64_t{kThreads} * kRounds + 1);
    std::atomic<bool> wrong{false};
    {
      std::vector<std::jthread> threads;
      for (uint32_t t = 0; t < kThreads; ++t) {
        threads.emplace_back([&, t] {
          for (uint32_t i = 0; i < kRounds; ++i) {
            const uint32_t key = (i * 7 + t) % 4;
            const uint64_t mine = uint64_t{t} * kRounds + i + 1;
            const Lease lease(machine());
            uint64_t gone = 0;
            if (i % 3 == 2) {
              (void)map->take(lease, &key, &gone, 0);
              out[mine].fetch_add(1);  // never put in
            } else {
              const auto replaced = map->exchange(lease, &key, mine, 0);
              if (!replaced) wrong = true;
              gone = replaced.value_or(0);
            }
            if (gone >= out.size()) wrong = true;
            if (gone != 0) out[gone].fetch_add(1);
          }
        });
      }
    }
    const Lease lease(machine());
    for (uint32_t key = 0; key < 4; ++key) {
      uint64_t gone = 0;
      if (map->take(lease, &key, &gone, 0)) out[gone].fetch_add(1);
    }
    EXPECT_FALSE(wrong);
    for (size_t i = 1; i < out.size(); ++i) ASSERT_EQ(out[i].load(), 1) << type << " word " << i;
    EXPECT_EQ(map->check().problem, "");
  }
}

}  // namespace
}  // namespace skep
