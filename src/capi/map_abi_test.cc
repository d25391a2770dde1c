// SPDX-License-Identifier: Apache-2.0
// What only the C functions can show: sizes of structures, cursors, guards; the rest is tested through the classes.
#include <skep/abi.h>
#include <skep/map.h>

#include <cerrno>
#include <cstring>
#include <set>
#include <vector>

#include "capi/instance_fixture.h"

namespace skep {
namespace {

class MapAbiTest : public testing::InstanceTest {
 protected:
  static skep_map_attr attr(uint32_t type, uint32_t key_size, uint32_t value_size, uint32_t max_entries) {
    skep_map_attr made = {};
    made.size = sizeof(made);
    made.type = type;
    made.key_size = key_size;
    made.value_size = value_size;
    made.max_entries = max_entries;
    return made;
  }
  skep_map* make(const skep_map_attr& wanted) {
    skep_map* map = nullptr;
    EXPECT_EQ(skep_map_create(instance().handle(), &wanted, &map), 0) << skep_last_error();
    return map;
  }
};

TEST_F(MapAbiTest, AttrOfAnotherSize) {
  skep_map_attr wanted = attr(BPF_MAP_TYPE_HASH, 4, 8, 10);
  skep_map* map = nullptr;
  wanted.size = 8;
  EXPECT_EQ(skep_map_create(instance().handle(), &wanted, &map), -EINVAL);
  EXPECT_NE(std::strstr(skep_last_error(), "size"), nullptr);
  wanted.size = sizeof(wanted) + 64;  // a newer caller
  ASSERT_EQ(skep_map_create(instance().handle(), &wanted, &map), 0);

  struct {
    skep_map_attr known;
    unsigned char beyond[64];
  } described;
  std::memset(&described, 0xaa, sizeof(described));
  described.known.size = sizeof(described);
  EXPECT_EQ(skep_map_describe(map, &described.known), 0);
  EXPECT_EQ(described.known.max_entries, 10U);
  EXPECT_NE(described.known.id, 0U);
  EXPECT_EQ(described.beyond[0], 0xaa) << "wrote what it does not know";

  skep_map_attr partial;
  std::memset(&partial, 0xaa, sizeof(partial));
  partial.size = 12;
  EXPECT_EQ(skep_map_describe(map, &partial), 0);
  EXPECT_EQ(partial.key_size, 4U);
  EXPECT_EQ(partial.value_size, 0xaaaaaaaaU);
  skep_map_close(map);
  skep_map_close(nullptr);
}

TEST_F(MapAbiTest, ErrorsOfEachOperation) {
  skep_map* array = make(attr(BPF_MAP_TYPE_ARRAY, 4, 8, 2));
  const uint32_t key = 1;
  uint64_t value = 0;
  EXPECT_EQ(skep_map_erase(array, &key), -EINVAL);
  EXPECT_EQ(skep_map_take(array, &key, &value), -SKEP_ENOTSUPP);
  EXPECT_EQ(skep_map_update(array, &key, &value, BPF_NOEXIST), -EEXIST);
  EXPECT_EQ(skep_map_get(array, &key, &value, BPF_F_LOCK), -EINVAL);
  skep_map_close(array);
  EXPECT_EQ(skep_map_open_id(instance().handle(), 123456, SKEP_READ_WRITE, &array), -ENOENT);
  EXPECT_EQ(skep_map_open_id(instance().handle(), 1, 7, &array), -EINVAL);
  const skep_map_attr unknown = attr(999, 4, 8, 2);
  EXPECT_EQ(skep_map_create(instance().handle(), &unknown, &array), -EINVAL);
}

TEST_F(MapAbiTest, KeysInTurn) {
  skep_map* map = make(attr(BPF_MAP_TYPE_HASH, 4, 8, 50));
  for (uint32_t key = 0; key < 50; ++key) {
    const uint64_t value = key;
    ASSERT_EQ(skep_map_update(map, &key, &value, 0), 0);
  }
  std::set<uint32_t> seen;
  uint32_t key = 0;
  for (int result = skep_map_next_key(map, nullptr, &key); result == 0; result = skep_map_next_key(map, &key, &key)) {
    EXPECT_TRUE(seen.insert(key).second);
  }
  EXPECT_EQ(seen.size(), 50U);
  skep_map_close(map);
}

// However little room the caller has, a walk gets through, told by ENOSPC how much it needs.
TEST_F(MapAbiTest, BatchesThroughANarrowBuffer) {
  for (const uint32_t type : {uint32_t{BPF_MAP_TYPE_HASH}, uint32_t{BPF_MAP_TYPE_ARRAY}}) {
    skep_map* map = make(attr(type, 4, 8, 300));
    for (uint32_t key = 0; key < 300; ++key) {
      const uint64_t value = key * 3;
      ASSERT_EQ(skep_map_update(map, &key, &value, 0), 0);
    }
    std::vector<std::byte> cursor(skep_map_cursor_bytes(map));
    std::vector<uint32_t> keys(1);
    std::vector<uint64_t> values(1);
    std::set<uint32_t> seen;
    int result = 0;
    for (int calls = 0; result != -ENOENT; ++calls) {
      ASSERT_LT(calls, 1000);
      auto count = static_cast<uint32_t>(keys.size());
      result = skep_map_get_batch(map, cursor.data(), keys.data(), values.data(), &count);
      if (result == -ENOSPC) {
        ASSERT_GT(count, keys.size());
        keys.resize(count);
        values.resize(count);
        continue;
      }
      ASSERT_TRUE(result == 0 || result == -ENOENT) << result;
      for (uint32_t i = 0; i < count; ++i) {
        EXPECT_TRUE(seen.insert(keys[i]).second);
        EXPECT_EQ(values[i], keys[i] * 3);
      }
    }
    EXPECT_EQ(seen.size(), 300U);
    uint32_t count = 1;
    EXPECT_EQ(skep_map_get_batch(map, cursor.data(), keys.data(), values.data(), &count), -ENOENT);
    EXPECT_EQ(count, 0U);
    skep_map_close(map);
  }
}

TEST_F(MapAbiTest, GuardsNest) {
  skep_map* map = make(attr(BPF_MAP_TYPE_HASH, 4, 8, 4));
  skep_map* counts = make(attr(BPF_MAP_TYPE_PERCPU_ARRAY, 4, 8, 1));
  const uint32_t key = 0;
  const uint64_t value = 5;
  ASSERT_EQ(skep_map_update(map, &key, &value, 0), 0);
  skep_guard outer, inner;
  skep_guard_enter(map, &outer);
  const auto* found = static_cast<const uint64_t*>(skep_map_find(map, &outer, &key));
  skep_guard_enter(counts, &inner);
  auto* count = static_cast<uint64_t*>(skep_map_find(counts, &inner, &key));
  ASSERT_NE(count, nullptr);
  ++*count;
  skep_guard_leave(&inner);
  ASSERT_NE(found, nullptr);
  EXPECT_EQ(*found, 5U);
  EXPECT_EQ(skep_map_erase(map, &key), 0);
  EXPECT_EQ(*found, 5U) << "an erased value stays readable under the guard that found it";
  skep_guard_leave(&outer);
  EXPECT_EQ(skep_map_value_bytes(counts), 8 * instance().cpus());
  skep_map_close(map);
  skep_map_close(counts);
}

}  // namespace
}  // namespace skep
