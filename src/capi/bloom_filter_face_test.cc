// SPDX-License-Identifier: Apache-2.0
#include "capi/instance_fixture.h"

namespace skep {
namespace {

class BloomFilterFaceTest : public testing::InstanceTest {};

TEST_F(BloomFilterFaceTest, WhatWasAddedIsFound) {
  auto filter = BloomFilter<uint64_t>::create(instance(), {.name = "seen", .max_entries = 1000, .extra = 7});
  ASSERT_TRUE(filter) << filter.error().message;
  EXPECT_FALSE(filter->may_contain(1));
  for (uint64_t value = 0; value < 1000; ++value) ASSERT_TRUE(filter->add(value));
  for (uint64_t value = 0; value < 1000; ++value) EXPECT_TRUE(filter->may_contain(value));
  size_t wrong = 0;
  for (uint64_t value = 1000; value < 11'000; ++value) wrong += filter->may_contain(value);
  EXPECT_LT(wrong, 500U);
  EXPECT_EQ(filter->name(), "seen");
}

TEST_F(BloomFilterFaceTest, BitsPerValueAndAccess) {
  EXPECT_EQ(BloomFilter<uint64_t>::create(instance(), {.max_entries = 10, .extra = 16}).error().code, EINVAL);
  auto filter = BloomFilter<uint64_t>::create(instance(), {.max_entries = 10});
  ASSERT_TRUE(filter);
  ASSERT_TRUE(filter->add(5));
  auto reader = BloomFilter<uint64_t>::open_id(instance(), filter->id(), Access::kReadOnly);
  ASSERT_TRUE(reader) << reader.error().message;
  EXPECT_TRUE(reader->may_contain(5));
  EXPECT_EQ(reader->add(6).error().code, EPERM);
  EXPECT_FALSE(BloomFilter<uint32_t>::open_id(instance(), filter->id()));
  EXPECT_FALSE(Queue<uint64_t>::open_id(instance(), filter->id()));
}

}  // namespace
}  // namespace skep
