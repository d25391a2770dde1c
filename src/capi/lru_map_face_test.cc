// SPDX-License-Identifier: Apache-2.0
#include <vector>

#include "capi/instance_fixture.h"

namespace skep {
namespace {

class LruMapFaceTest : public testing::InstanceTest {};

TEST_F(LruMapFaceTest, AFullCacheMakesRoom) {
  auto cache = LruHashMap<uint32_t, uint64_t>::create(instance(), {.name = "cache", .max_entries = 64});
  ASSERT_TRUE(cache) << cache.error().message;
  for (uint32_t key = 0; key < 64; ++key) ASSERT_TRUE(*cache->insert(key, key));
  {
    const Guard guard(*cache);
    for (uint32_t key = 0; key < 16; ++key) ASSERT_TRUE(cache->find(guard, key));  // used
  }
  for (uint32_t key = 64; key < 80; ++key) ASSERT_TRUE(cache->insert_or_assign(key, key));
  size_t kept = 0, all = 0;
  for (uint32_t key = 0; key < 16; ++key) kept += cache->contains(key);
  for (const auto& [key, value] : cache->entries()) {
    EXPECT_EQ(key, value);
    ++all;
  }
  EXPECT_EQ(kept, 16U);
  EXPECT_LE(all, 64U);
  EXPECT_TRUE(*cache->update(70, [](uint64_t& value) { value += 1; }));
  EXPECT_EQ(*cache->take(70), 71U);
}

TEST_F(LruMapFaceTest, PartsOfEachCpu) {
  using Cache = PerCpuLruHashMap<uint32_t, uint64_t>;
  auto cache = Cache::create(instance(), {.max_entries = 32});
  ASSERT_TRUE(cache) << cache.error().message;
  ASSERT_EQ(cache->cpus(), instance().cpus());
  ASSERT_TRUE(*cache->insert_all(1, 5));
  EXPECT_TRUE(*cache->update(1, [](uint64_t& value) { value += 1; }));
  EXPECT_TRUE(cache->visit(1, [](uint64_t& value) { value += 1; }));
  uint64_t sum = 0;
  const std::vector<uint64_t> parts = *cache->get(1);
  for (const uint64_t part : parts) sum += part;
  EXPECT_EQ(sum, 5 * cache->cpus() + 2);
  for (uint32_t key = 2; key < 100; ++key) ASSERT_TRUE(*cache->insert_all(key, key));
  auto again = Cache::open_id(instance(), cache->id());
  ASSERT_TRUE(again) << again.error().message;
  EXPECT_TRUE(again->contains(99));
}

/// The guard of a per-CPU map is one of the host's CPUs: two of them at once never have the same part.
TEST_F(LruMapFaceTest, AGuardIsACpu) {
  auto cache = PerCpuLruHashMap<uint32_t, uint64_t>::create(instance(), {.max_entries = 32});
  ASSERT_TRUE(cache);
  ASSERT_TRUE(*cache->insert_all(1, 0));
  const Guard guard(*cache);
  const auto value = cache->find(guard, 1);
  ASSERT_TRUE(value);
  *value = 77;
  size_t written = 0;
  const std::vector<uint64_t> parts = *cache->get(1);
  for (const uint64_t part : parts) written += part == 77;
  EXPECT_EQ(written, 1U);
}

TEST_F(LruMapFaceTest, KindsAreToldApart) {
  auto cache = LruHashMap<uint32_t, uint64_t>::create(instance(), {.name = "cache", .max_entries = 64});
  ASSERT_TRUE(cache);
  const auto wrong = HashMap<uint32_t, uint64_t>::open_id(instance(), cache->id());
  ASSERT_FALSE(wrong);
  EXPECT_EQ(wrong.error().code, EINVAL);
  EXPECT_NE(wrong.error().message.find("is an LRU hash with keys of 4 and values of 8 bytes, not a hash"),
            std::string::npos)
      << wrong.error().message;
}

TEST_F(LruMapFaceTest, ResizableHashMaps) {
  using Map = ResizableHashMap<uint32_t, uint64_t>;
  EXPECT_EQ(Map::create(instance(), {.max_entries = 100}).error().code, EINVAL);
  EXPECT_EQ((HashMap<uint32_t, uint64_t>::create(instance(), {.max_entries = 100, .extra = 1}).error().code), EINVAL);
  auto map = Map::create(instance(), {.max_entries = 1000, .flags = BPF_F_NO_PREALLOC, .extra = 500});
  ASSERT_TRUE(map) << map.error().message;
  for (uint32_t key = 0; key < 1000; ++key) ASSERT_TRUE(*map->insert(key, ~uint64_t{key}));
  EXPECT_EQ(map->insert(1000, 0).error().code, E2BIG);
  size_t seen = 0;
  auto walk = map->entries();
  for (const auto& [key, value] : walk) {
    EXPECT_EQ(value, ~uint64_t{key});
    ++seen;
  }
  EXPECT_EQ(seen, 1000U);
  EXPECT_EQ(walk.error(), 0);
}

}  // namespace
}  // namespace skep
