// SPDX-License-Identifier: Apache-2.0
#include <cerrno>
#include <random>

#include "maps/map_test_support.h"
#include "maps/value_lock.h"

namespace skep {
namespace {

using testing::CollectingSink;
using testing::error_of;

class ArrayMapTest : public testing::MapTest {
 protected:
  static MapSpec array(uint32_t value_size, uint32_t max_entries, uint32_t flags = 0) {
    return spec(BPF_MAP_TYPE_ARRAY, 4, value_size, max_entries, flags);
  }
};

TEST_F(ArrayMapTest, CreationChecks) {
  EXPECT_EQ(create_error(array(8, 4)), 0);
  EXPECT_EQ(create_error(spec(BPF_MAP_TYPE_ARRAY, 8, 8, 4)), EINVAL);
  EXPECT_EQ(create_error(array(0, 4)), EINVAL);
  EXPECT_EQ(create_error(array(8, 0)), EINVAL);
  for (uint32_t bit = 0; bit < 32; ++bit) {
    const bool accepted = (1U << bit & (1U << 2 | 1U << 3 | 1U << 4 | 1U << 7 | 1U << 8 | 1U << 10 | 1U << 12)) != 0;
    EXPECT_EQ(create_error(array(8, 4, 1U << bit)), accepted ? 0 : EINVAL) << "flag bit " << bit;
  }
  EXPECT_EQ(create_error(array(0x80000000, 1)), E2BIG);
  EXPECT_EQ(create_error(array(0x7fffffff, 0xffffffff)), ENOMEM);
}

TEST_F(ArrayMapTest, SpecialFieldsAtCreation) {
  MapSpec with = array(32, 4);
  with.fields.timer = 8;
  EXPECT_EQ(create_error(with), 0);
  MapSpec beyond = array(32, 4);
  beyond.fields.spin_lock = 32;
  EXPECT_EQ(create_error(beyond), EINVAL);
}

TEST_F(ArrayMapTest, ErrorsInTheKernelsOrder) {
  auto map = make(array(8, 4));
  const Lease lease(machine());
  uint64_t value = 7;
  const uint32_t inside = 3, outside = 4;
  EXPECT_EQ(error_of(map->lookup(&inside, &value, 0)), 0);
  EXPECT_EQ(value, 0U);
  EXPECT_EQ(error_of(map->lookup(&outside, &value, 0)), ENOENT);
  EXPECT_EQ(error_of(map->lookup(&inside, &value, BPF_F_LOCK)), EINVAL);
  EXPECT_EQ(error_of(map->lookup(&inside, &value, 1)), EINVAL);
  EXPECT_EQ(error_of(map->update(lease, &inside, &value, BPF_ANY)), 0);
  EXPECT_EQ(error_of(map->update(lease, &inside, &value, BPF_EXIST)), 0);
  EXPECT_EQ(error_of(map->update(lease, &inside, &value, BPF_NOEXIST)), EEXIST);
  EXPECT_EQ(error_of(map->update(lease, &inside, &value, BPF_NOEXIST | BPF_EXIST)), EINVAL);
  EXPECT_EQ(error_of(map->update(lease, &outside, &value, BPF_NOEXIST)), E2BIG);
  EXPECT_EQ(error_of(map->update(lease, &outside, &value, 8)), EINVAL);
  EXPECT_EQ(error_of(map->update(lease, &inside, &value, BPF_F_LOCK)), EINVAL);
  EXPECT_EQ(error_of(map->update(lease, &inside, &value, uint64_t{1} << 32)), EINVAL);
  EXPECT_EQ(error_of(map->erase(lease, &inside)), EINVAL);
  EXPECT_EQ(error_of(map->erase(lease, &outside)), EINVAL);
  EXPECT_EQ(error_of(map->take(lease, &inside, &value, 0)), kEnotsupp);
  EXPECT_EQ(error_of(map->modify(lease, &outside, [](void*) { FAIL(); })), ENOENT);
  EXPECT_EQ(map->find(lease, &outside), nullptr);
  EXPECT_EQ(map->find_percpu(lease, &inside, 0), nullptr);
}

TEST_F(ArrayMapTest, NextKey) {
  auto map = make(array(8, 3));
  uint32_t next = 99;
  EXPECT_EQ(error_of(map->next_key(nullptr, &next)), 0);
  EXPECT_EQ(next, 0U);
  for (const auto& [key, expected] : {std::pair{0U, 1U}, {1U, 2U}, {3U, 0U}, {UINT32_MAX, 0U}}) {
    EXPECT_EQ(error_of(map->next_key(&key, &next)), 0);
    EXPECT_EQ(next, expected) << key;
  }
  const uint32_t last = 2;
  EXPECT_EQ(error_of(map->next_key(&last, &next)), ENOENT);
}

// Every value size around the word boundary against a plain model; the bytes between values never change.
TEST_F(ArrayMapTest, RandomOperationsFollowAModel) {
  for (const uint32_t size : {1U, 2U, 3U, 4U, 5U, 7U, 8U, 9U, 16U, 63U, 64U, 100U, 4097U}) {
    constexpr uint32_t kEntries = 37;
    auto map = make(array(size, kEntries));
    std::vector<std::vector<unsigned char>> model(kEntries, std::vector<unsigned char>(size));
    std::mt19937 random(size);
    const Lease lease(machine());
    for (int step = 0; step < 3000; ++step) {
      const auto index = static_cast<uint32_t>(random() % kEntries);
      std::vector<unsigned char> value(size);
      for (auto& byte : value) byte = static_cast<unsigned char>(random());
      switch (random() % 4) {
        case 0:
          ASSERT_TRUE(map->update(lease, &index, value.data(), BPF_ANY));
          model[index] = value;
          break;
        case 1:
          ASSERT_TRUE(map->update_from_program(lease, &index, value.data(), BPF_EXIST));
          model[index] = value;
          break;
        case 2:
          ASSERT_TRUE(map->modify(lease, &index, [](void* bytes) { ++*static_cast<unsigned char*>(bytes); }));
          ++model[index][0];
          break;
        default:
          ASSERT_TRUE(map->lookup(&index, value.data(), 0));
          ASSERT_EQ(value, model[index]);
          ASSERT_EQ(std::memcmp(map->find(lease, &index), value.data(), size), 0);
      }
    }
    const auto* bytes = reinterpret_cast<const unsigned char*>(map->segments().user.data());
    const uint64_t stride = (size + 7) / 8 * 8;
    for (uint64_t i = 0; i < stride * kEntries; ++i) {
      const uint64_t at = i % stride;
      ASSERT_EQ(bytes[i], at < size ? model[i / stride][at] : 0) << "value size " << size << " byte " << i;
    }
    EXPECT_EQ(map->check().problem, "");
    EXPECT_EQ(map->check().elements, kEntries);
  }
}

TEST_F(ArrayMapTest, LookupMany) {
  for (const uint32_t size : {8U, 24U}) {
    auto map = make(array(size, 10));
    const Lease lease(machine());
    std::vector<unsigned char> value(size);
    for (uint32_t i = 0; i < 10; ++i) {
      std::fill(value.begin(), value.end(), static_cast<unsigned char>(i + 1));
      ASSERT_TRUE(map->update(lease, &i, value.data(), 0));
    }
    const uint32_t keys[] = {9, 10, 0, 4, UINT32_MAX};
    std::vector<unsigned char> values(5 * size);
    uint8_t found[5];
    EXPECT_EQ(map->lookup_many(keys, values.data(), found, 5), 3U);
    for (uint32_t i = 0; i < 5; ++i) {
      EXPECT_EQ(found[i], keys[i] < 10);
      if (found[i]) {
        EXPECT_EQ(values[i * size + size - 1], keys[i] + 1);
      }
    }
  }
}

TEST_F(ArrayMapTest, BatchCursorsAndCounts) {
  auto map = make(array(8, 10));
  const Lease lease(machine());
  for (uint64_t i = 0; i < 10; ++i) {
    const auto index = static_cast<uint32_t>(i);
    const uint64_t value = i * 11;
    ASSERT_TRUE(map->update(lease, &index, &value, 0));
  }
  uint32_t cursor = 99;
  CollectingSink sink(4, 8);
  auto result = map->lookup_batch(nullptr, &cursor, 6, 0, sink);
  EXPECT_EQ(result.error, 0);
  EXPECT_EQ(result.count, 6U);
  EXPECT_TRUE(result.cursor_written);
  EXPECT_EQ(cursor, 5U);
  result = map->lookup_batch(&cursor, &cursor, 4, 0, sink);  // exactly what remains
  EXPECT_EQ(result.error, 0);
  EXPECT_EQ(result.count, 4U);
  EXPECT_EQ(cursor, 9U);
  result = map->lookup_batch(&cursor, &cursor, 1, 0, sink);
  EXPECT_EQ(result.error, ENOENT);
  EXPECT_EQ(result.count, 0U);
  EXPECT_FALSE(result.cursor_written);
  EXPECT_EQ(sink.elements, 10U);
  uint64_t last;
  std::memcpy(&last, sink.values.data() + 72, 8);
  EXPECT_EQ(last, 99U);

  result = map->lookup_batch(nullptr, &cursor, 11, 0, sink);
  EXPECT_EQ(result.error, ENOENT);
  EXPECT_EQ(result.count, 10U);
  EXPECT_TRUE(result.cursor_written);
  EXPECT_EQ(map->lookup_batch(nullptr, &cursor, 0, 0, sink).error, 0);
  EXPECT_EQ(map->lookup_batch(nullptr, &cursor, 1, BPF_F_LOCK, sink).error, EINVAL);
  EXPECT_EQ(map->lookup_batch(nullptr, &cursor, 1, BPF_EXIST, sink).error, EINVAL);
  CollectingSink refusing(4, 8);
  refusing.limit = 3;
  EXPECT_EQ(map->lookup_batch(nullptr, &cursor, 8, 0, refusing).error, EFAULT);
}

TEST_F(ArrayMapTest, ForEachStopsWhereTold) {
  auto map = make(array(8, 10));
  const Lease lease(machine());
  uint32_t expected = 0;
  auto calls = map->for_each(lease, [&](const void* key, void* value) {
    EXPECT_EQ(*static_cast<const uint32_t*>(key), expected++);
    *static_cast<uint64_t*>(value) = expected;
    return expected == 4 ? Visit::kStop : Visit::kContinue;
  });
  EXPECT_EQ(*calls, 4U);
  EXPECT_EQ(*map->for_each(lease, [](const void*, void*) { return Visit::kContinue; }), 10U);
  const uint32_t index = 3;
  uint64_t value;
  ASSERT_TRUE(map->lookup(&index, &value, 0));
  EXPECT_EQ(value, 4U);
}

TEST_F(ArrayMapTest, SpinLockIsNeverCopied) {
  MapSpec locked = array(16, 4);
  locked.fields.spin_lock = 4;
  auto map = make(locked);
  const Lease lease(machine());
  const uint32_t index = 1;
  uint32_t value[4] = {1, 0xdeadbeef, 3, 4};
  ASSERT_TRUE(map->update(lease, &index, value, BPF_F_LOCK));
  auto& lock = ValueLock::of(map->find(lease, &index), locked.fields);
  EXPECT_EQ(lock.load(), 0U);
  ASSERT_TRUE(ValueLock::acquire(machine(), lock));
  value[0] = 10;
  ASSERT_TRUE(map->update(lease, &index, value, BPF_ANY));
  EXPECT_NE(lock.load(), 0U);
  uint32_t copy[4] = {9, 9, 9, 9};
  ASSERT_TRUE(map->lookup(&index, copy, 0));
  EXPECT_EQ(copy[0], 10U);
  EXPECT_EQ(copy[1], 0U);
  EXPECT_EQ(copy[3], 4U);
  EXPECT_EQ(error_of(map->lookup(&index, copy, BPF_F_LOCK)), EDEADLK);
  EXPECT_EQ(error_of(map->update(lease, &index, copy, BPF_F_LOCK)), EDEADLK);
  ValueLock::release(lock);
  ASSERT_TRUE(map->lookup(&index, copy, BPF_F_LOCK));
  EXPECT_EQ(copy[0], 10U);
  EXPECT_EQ(copy[1], 0U);
  const uint32_t outside = 4;
  EXPECT_EQ(error_of(map->lookup(&outside, copy, BPF_F_LOCK)), ENOENT);
  EXPECT_EQ(error_of(map->update(lease, &outside, copy, BPF_F_LOCK)), E2BIG);

  auto reader = open_map(last_file(), Access::kReadOnly, machine());
  ASSERT_TRUE(reader);
  ASSERT_TRUE((*reader)->lookup(&index, copy, BPF_F_LOCK));
  EXPECT_EQ(copy[2], 3U);
}

TEST_F(ArrayMapTest, ModifyMustNotUseTheMap) {
  auto map = make(array(16, 1));
  const Lease lease(machine());
  const uint32_t index = 0;
  uint64_t value[2] = {1, 2};
  ASSERT_TRUE(map->modify(lease, &index, [&](void* bytes) {
    static_cast<uint64_t*>(bytes)[1] = 5;
    EXPECT_EQ(error_of(map->update(lease, &index, value, 0)), EDEADLK);
    EXPECT_TRUE(map->lookup(&index, value, 0));
    EXPECT_EQ(value[1], 0U);
  }));
  ASSERT_TRUE(map->lookup(&index, value, 0));
  EXPECT_EQ(value[1], 5U);
}

TEST_F(ArrayMapTest, AThrowingChangeChangesNothing) {
  auto map = make(array(16, 1));
  const Lease lease(machine());
  const uint32_t index = 0;
  const auto throwing = [](void* bytes) {
    *static_cast<char*>(bytes) = 1;
    throw 1;
  };
  EXPECT_THROW((void)map->modify(lease, &index, throwing), int);
  uint64_t value[2] = {9, 9};
  ASSERT_TRUE(map->lookup(&index, value, 0));
  EXPECT_EQ(value[0], 0U);
  EXPECT_TRUE(map->update(lease, &index, value, 0));
}

}  // namespace
}  // namespace skep
