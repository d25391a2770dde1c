// SPDX-License-Identifier: Apache-2.0
// What RHASH has of its own; the tests of HASH (hash_map_test and others) run on it too.
#include <gtest/gtest.h>

#include <sys/stat.h>

#include <set>

#include "maps/hash_test_support.h"

namespace skep {
namespace {

using testing::CollectingSink;
using testing::error_of;

constexpr uint32_t kGrow = BPF_F_NO_PREALLOC;

class RhashTest : public testing::MapTest {
 protected:
  static MapSpec rhash(uint32_t key_size, uint32_t max_entries, uint32_t flags = kGrow, uint64_t extra = 0) {
    MapSpec wanted = spec(BPF_MAP_TYPE_RHASH, key_size, 8, max_entries, flags);
    wanted.extra = extra;
    return wanted;
  }
  int put(Map& map, uint64_t key) {
    const Lease lease(machine());
    const uint64_t value = ~key;
    return error_of(map.update(lease, &key, &value, BPF_ANY));
  }
  int erase(Map& map, uint64_t key) {
    const Lease lease(machine());
    return error_of(map.erase(lease, &key));
  }
  static std::multiset<uint64_t> numbers(const std::string& keys) {
    std::multiset<uint64_t> all;
    for (size_t at = 0; at < keys.size(); at += 8) {
      uint64_t key;
      std::memcpy(&key, keys.data() + at, 8);
      all.insert(key);
    }
    return all;
  }
};

TEST_F(RhashTest, CreationChecksLinuxDoes) {
  EXPECT_EQ(create_error(rhash(4, 10)), 0);
  EXPECT_EQ(create_error(rhash(4, 10, 0)), EINVAL);
  EXPECT_EQ(create_error(rhash(4, 10, kGrow | BPF_F_ZERO_SEED)), EINVAL);
  EXPECT_EQ(create_error(rhash(4, 10, kGrow | BPF_F_NO_COMMON_LRU)), EINVAL);
  EXPECT_EQ(create_error(rhash(4, 10, kGrow | BPF_F_MMAPABLE)), EINVAL);
  EXPECT_EQ(create_error(rhash(4, 10, kGrow | BPF_F_NUMA_NODE | BPF_F_RDONLY_PROG)), 0);
  EXPECT_EQ(create_error(rhash(0, 10)), EINVAL);
  EXPECT_EQ(create_error(rhash(4, 0)), EINVAL);
  EXPECT_EQ(create_error(rhash(65535, 2)), 0);
  EXPECT_EQ(create_error(rhash(65536, 2)), E2BIG);
  EXPECT_EQ(create_error(rhash(4, 10, kGrow, 10)), 0);
  EXPECT_EQ(create_error(rhash(4, 10, kGrow, 11)), EINVAL);
  EXPECT_EQ(create_error(rhash(4, 1U << 20, kGrow, 65535)), 0);
  EXPECT_EQ(create_error(rhash(4, 1U << 20, kGrow, 65536)), E2BIG);
  EXPECT_EQ(create_error(rhash(4, 10, kGrow, 1ULL << 32)), EINVAL);
}

TEST_F(RhashTest, BatchesEndWithEnoentWhenNothingIsLeft) {
  auto map = make(rhash(8, 100));
  uint64_t cursor = 77;
  CollectingSink sink(8, 8);
  BatchResult batch = map->lookup_batch(nullptr, &cursor, 5, 0, sink);
  EXPECT_EQ(batch.error, ENOENT);
  EXPECT_EQ(batch.count, 0U);
  EXPECT_FALSE(batch.cursor_written);

  for (uint64_t key = 0; key < 10; ++key) ASSERT_EQ(put(*map, key), 0);
  batch = map->lookup_batch(nullptr, &cursor, 6, 0, sink);
  EXPECT_EQ(batch.error, 0);
  EXPECT_EQ(batch.count, 6U);
  EXPECT_TRUE(batch.cursor_written);
  EXPECT_EQ(numbers(sink.keys).count(cursor), 0U) << "the cursor is the key that comes next";
  batch = map->lookup_batch(&cursor, &cursor, 4, 0, sink);  // exactly what is left
  EXPECT_EQ(batch.error, ENOENT);
  EXPECT_EQ(batch.count, 4U);
  EXPECT_EQ(numbers(sink.keys), (std::multiset<uint64_t>{0, 1, 2, 3, 4, 5, 6, 7, 8, 9}));
  EXPECT_EQ(map->lookup_batch(nullptr, &cursor, 3, BPF_F_LOCK, sink).error, EINVAL);
  EXPECT_EQ(map->lookup_batch(nullptr, &cursor, 0, 0, sink).error, 0);
}

TEST_F(RhashTest, CursorWhoseKeyIsGoneIsEagain) {
  auto map = make(rhash(8, 100));
  for (uint64_t key = 0; key < 10; ++key) ASSERT_EQ(put(*map, key), 0);
  uint64_t cursor = 0;
  CollectingSink sink(8, 8);
  ASSERT_EQ(map->lookup_batch(nullptr, &cursor, 6, 0, sink).error, 0);
  ASSERT_EQ(erase(*map, cursor), 0);
  const Lease lease(machine());
  EXPECT_EQ(map->lookup_batch(&cursor, &cursor, 6, 0, sink).error, EAGAIN);
  EXPECT_EQ(map->take_batch(lease, &cursor, &cursor, 6, 0, sink).error, EAGAIN);
  EXPECT_EQ(sink.elements, 6U);
}

TEST_F(RhashTest, MemoryGoesBackWhenElementsDo) {
  auto map = make(rhash(8, 1U << 16));
  const auto blocks = [&] {
    struct stat status;
    EXPECT_EQ(fstat(last_file(), &status), 0);
    return status.st_blocks;
  };
  const auto empty = blocks();
  for (uint64_t key = 0; key < 1U << 16; ++key) ASSERT_EQ(put(*map, key), 0);
  const auto full = blocks();
  for (uint64_t key = 0; key < 1U << 16; ++key) ASSERT_EQ(erase(*map, key), 0);
  // What was erased last goes back with the operations that come after its grace period.
  for (int i = 0; i < 10'000 && blocks() - empty > (full - empty) / 2; ++i) {
    ASSERT_EQ(put(*map, 1), 0);
    ASSERT_EQ(erase(*map, 1), 0);
  }
  EXPECT_LT(blocks() - empty, (full - empty) / 2);
  EXPECT_EQ(map->check().problem, "");
}

}  // namespace
}  // namespace skep
