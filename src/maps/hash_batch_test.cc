// SPDX-License-Identifier: Apache-2.0
//
// Many updates and erases by one call do what one after the other would have done, in small tables and in those whose
// keys are looked at ahead.

#include <gtest/gtest.h>

#include "maps/lru_test_support.h"

namespace skep {
namespace {

using testing::error_of;
using testing::kApart;
using testing::kLru;
using testing::kLruPerCpu;
using testing::LruShape;

/// Two equal maps: one changed by batches, the other one by one.
class HashBatchTest : public testing::LruTest, public ::testing::WithParamInterface<LruShape> {
 protected:
  void SetUp() override {
    MapTest::SetUp();
    make_lru(GetParam());
    other_ = make(spec(shape_.type, shape_.key_size, shape_.value_size, shape_.max_entries, shape_.flags));
    ASSERT_NE(other_, nullptr);
  }
  void TearDown() override {
    other_.reset();
    LruTest::TearDown();
  }
  [[nodiscard]] bool evicts() const { return shape_.type == kLru || shape_.type == kLruPerCpu; }

  std::string keys_of(const std::vector<uint64_t>& numbers) const {
    std::string keys;
    for (const uint64_t number : numbers) keys += key(number);
    return keys;
  }
  std::string values_of(const std::vector<uint64_t>& numbers) {
    std::string values;
    for (const uint64_t number : numbers) values += value(number, ++nonce_);
    return values;
  }

  /// Updates by a batch of keys, and one by one; the batch's result, which is that of the others.
  BatchResult update(const std::vector<uint64_t>& numbers, uint64_t flags) {
    const Lease lease(machine(), Lease::Cpu{0});
    const std::string keys = keys_of(numbers), values = values_of(numbers);
    const auto count = static_cast<uint32_t>(numbers.size());
    const BatchResult result = map_->update_many(lease, keys.data(), values.data(), count, flags);
    const BatchResult expected = other_->Map::update_many(lease, keys.data(), values.data(), count, flags);
    EXPECT_EQ(result.count, expected.count);
    EXPECT_EQ(result.error, expected.error);
    return result;
  }
  BatchResult erase(const std::vector<uint64_t>& numbers) {
    const Lease lease(machine(), Lease::Cpu{0});
    const std::string keys = keys_of(numbers);
    const auto count = static_cast<uint32_t>(numbers.size());
    const BatchResult result = map_->erase_many(lease, keys.data(), count);
    const BatchResult expected = other_->Map::erase_many(lease, keys.data(), count);
    EXPECT_EQ(result.count, expected.count);
    EXPECT_EQ(result.error, expected.error);
    return result;
  }
  void expect_equal() {
    EXPECT_EQ(check_content(), other_->check().elements);
    std::string one(map_->user_value_size(), '\0'), two = one, at = key(0), next = at;
    for (const void* from = nullptr; map_->next_key(from, next.data()); from = at.data()) {
      at = next;
      ASSERT_EQ(error_of(map_->lookup(at.data(), one.data(), 0)), 0);
      ASSERT_EQ(error_of(other_->lookup(at.data(), two.data(), 0)), 0);
      EXPECT_EQ(one, two);
    }
  }

  std::unique_ptr<Map> other_;
  uint32_t nonce_ = 0;
};

std::vector<uint64_t> run(uint64_t first, uint64_t count) {
  std::vector<uint64_t> numbers;
  for (uint64_t k = first; k < first + count; ++k) numbers.push_back(k);
  return numbers;
}

TEST_P(HashBatchTest, KeysThatComeMoreThanOnce) {
  const uint64_t few = std::min<uint64_t>(entries_, 100);
  std::vector<uint64_t> numbers;
  for (uint64_t i = 0; i < 5 * few; ++i) numbers.push_back(i / 2 % few);
  EXPECT_EQ(update(numbers, BPF_ANY).count, numbers.size());
  EXPECT_EQ(update(numbers, BPF_EXIST).count, numbers.size());
  expect_equal();
  EXPECT_EQ(check_content(), few);

  numbers = run(0, few);
  numbers.insert(numbers.begin() + static_cast<ptrdiff_t>(few / 2), 0);  // gone by then
  const BatchResult erased = erase(numbers);
  EXPECT_EQ(erased.error, ENOENT);
  EXPECT_EQ(erased.count, few / 2 + (few == 1));
  expect_equal();
  EXPECT_EQ(check_content(), few - erased.count);
}

TEST_P(HashBatchTest, EndWithTheFirstThatFails) {
  if (entries_ < 40) GTEST_SKIP() << "too small";
  for (const uint64_t at : {0, 1, 15, 16, 17, 31, 32, 33, 38}) {
    ASSERT_EQ(update(run(1000 + at, 1), BPF_ANY).error, 0);
    const BatchResult stopped = update(run(1000, 39), BPF_NOEXIST);
    EXPECT_EQ(stopped.error, EEXIST);
    EXPECT_EQ(stopped.count, at);
    std::vector<uint64_t> numbers = run(1000, at + 1);
    numbers.push_back(5'000'000);
    numbers.push_back(1000);
    const BatchResult erased = erase(numbers);
    EXPECT_EQ(erased.error, ENOENT);
    EXPECT_EQ(erased.count, at + 1);
    EXPECT_EQ(check_content(), 0U);
  }
  EXPECT_EQ(update(run(0, 40), BPF_EXIST).error, ENOENT);
  EXPECT_EQ(update(run(0, 40), 77).error, EINVAL);
  EXPECT_EQ(update({}, BPF_ANY).error, 0);
  EXPECT_EQ(erase({}).error, 0);
}

TEST_P(HashBatchTest, MoreKeysThanEntries) {
  const uint64_t many = 3 * entries_ + 37;
  const BatchResult result = update(run(0, many), BPF_NOEXIST);
  if (!evicts()) {
    EXPECT_EQ(result.error, E2BIG);
    EXPECT_EQ(result.count, entries_);
    expect_equal();
    return;
  }
  EXPECT_EQ(result.error, 0);
  EXPECT_EQ(result.count, many);
  EXPECT_EQ(look(many - 1), Found::kWhole) << "the last one is there";
  const uint64_t left = check_content();
  EXPECT_LE(left, entries_);
  EXPECT_GE(left + slack(), entries_);
  expect_equal();

  // A key that comes again while it is still there, after evictions in the same batch.
  std::vector<uint64_t> numbers = run(10 * many, 2 * entries_);
  numbers.push_back(numbers.back());
  const BatchResult repeated = update(numbers, BPF_NOEXIST);
  EXPECT_EQ(repeated.error, EEXIST);
  EXPECT_EQ(repeated.count, numbers.size() - 1);
  expect_equal();
}

INSTANTIATE_TEST_SUITE_P(Shapes, HashBatchTest,
                         ::testing::Values(LruShape{"One", BPF_MAP_TYPE_HASH, 8, 16, 1, 0},
                                           LruShape{"Small", BPF_MAP_TYPE_HASH, 4, 16, 100, 0},
                                           LruShape{"Ahead", BPF_MAP_TYPE_HASH, 8, 16, 16384, 0},
                                           LruShape{"AheadOdd", BPF_MAP_TYPE_HASH, 13, 24, 20000, BPF_F_NO_PREALLOC},
                                           LruShape{"Resizable", BPF_MAP_TYPE_RHASH, 8, 16, 16384, BPF_F_NO_PREALLOC},
                                           LruShape{"PerCpuAhead", BPF_MAP_TYPE_PERCPU_HASH, 8, 16, 16384, 0},
                                           LruShape{"LruOne", kLru, 8, 16, 1, 0},
                                           LruShape{"LruSmall", kLru, 8, 16, 100, 0},
                                           LruShape{"LruLarge", kLru, 8, 2000, 70, 0},
                                           LruShape{"LruAhead", kLru, 8, 16, 8192, 0},
                                           LruShape{"LruApart", kLru, 8, 16, 8192, kApart},
                                           LruShape{"LruPerCpu", kLruPerCpu, 8, 16, 8192, 0}),
                         [](const auto& shape) { return shape.param.name; });

}  // namespace
}  // namespace skep
