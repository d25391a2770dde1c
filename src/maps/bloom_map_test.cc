// SPDX-License-Identifier: Apache-2.0
#include <cmath>
#include <random>
#include <thread>

#include "maps/bloom_filter.h"
#include "maps/map_test_support.h"

namespace skep {
namespace {

using testing::error_of;

class BloomMapTest : public testing::MapTest {
 protected:
  std::unique_ptr<Map> make_bloom(uint32_t value_size, uint32_t max_entries, uint64_t extra = 0) {
    MapSpec bloom = spec(BPF_MAP_TYPE_BLOOM_FILTER, 0, value_size, max_entries);
    bloom.extra = extra;
    return make(bloom);
  }
  static int push(Map& map, const Lease& lease, const void* value, uint64_t flags = 0) {
    return error_of(map.update(lease, nullptr, value, flags));
  }
  static bool has(const Map& map, const void* value) {
    const int error = error_of(map.lookup(nullptr, const_cast<void*>(value), 0));
    EXPECT_TRUE(error == 0 || error == ENOENT) << error;
    return error == 0;
  }
};

TEST_F(BloomMapTest, CreateChecks) {
  const auto error = [&](auto change) {
    MapSpec changed = spec(BPF_MAP_TYPE_BLOOM_FILTER, 0, 8, 10);
    change(changed);
    return create_error(changed);
  };
  EXPECT_EQ(error([](MapSpec&) {}), 0);
  EXPECT_EQ(error([](MapSpec& s) { s.key_size = 4; }), EINVAL);
  EXPECT_EQ(error([](MapSpec& s) { s.value_size = 0; }), EINVAL);
  EXPECT_EQ(error([](MapSpec& s) { s.max_entries = 0; }), EINVAL);
  EXPECT_EQ(error([](MapSpec& s) { s.value_size = (4U << 20) + 1; }), E2BIG);
  EXPECT_EQ(error([](MapSpec& s) { s.extra = 15; }), 0);
  EXPECT_EQ(error([](MapSpec& s) { s.extra = 16; }), EINVAL);
  EXPECT_EQ(error([](MapSpec& s) { s.extra = uint64_t{1} << 32; }), EINVAL);
  for (uint32_t bit = 0; bit < 32; ++bit) {
    const bool allowed = bit == 2 || bit == 3 || bit == 4 || bit == 6 || bit == 7 || bit == 8;
    EXPECT_EQ(error([&](MapSpec& s) { s.flags = 1U << bit; }), allowed ? 0 : EINVAL) << bit;
  }
}

TEST_F(BloomMapTest, WhatThereIsNot) {
  auto map = make_bloom(8, 10);
  const Lease lease(machine());
  uint64_t value = 7;
  EXPECT_EQ(push(*map, lease, &value, BPF_NOEXIST), EINVAL);
  EXPECT_EQ(push(*map, lease, &value, BPF_EXIST), EINVAL);
  EXPECT_EQ(error_of(map->erase(lease, nullptr)), EOPNOTSUPP);
  EXPECT_EQ(error_of(map->next_key(nullptr, &value)), EOPNOTSUPP);
  EXPECT_EQ(error_of(map->take(lease, nullptr, &value, 0)), kEnotsupp);
  EXPECT_FALSE(has(*map, &value));
}

TEST_F(BloomMapTest, NothingPushedIsEverMissed) {
  for (const uint32_t size : {1U, 3U, 4U, 8U, 12U, 16U, 17U, 100U, 70000U}) {
    for (uint64_t bits = 0; bits <= 15; ++bits) {
      auto map = make_bloom(size, 50, bits);
      const Lease lease(machine());
      std::vector<std::vector<unsigned char>> values;
      std::mt19937 random(size);
      for (int i = 0; i < 50; ++i) {
        auto& value = values.emplace_back(size);
        for (auto& byte : value) byte = static_cast<unsigned char>(random());
        ASSERT_EQ(push(*map, lease, value.data()), 0);
      }
      for (const auto& value : values) ASSERT_TRUE(has(*map, value.data())) << size << " " << bits;
      EXPECT_LE(map->check().elements, 50 * (bits == 0 ? 5 : bits));
      if (size < 8) continue;
      int found = 0;
      for (auto value : values) {
        value[size - 1] = static_cast<unsigned char>(value[size - 1] + 1);
        found += has(*map, value.data());
      }
      EXPECT_LT(found, bits == 1 ? 40 : 30);
    }
  }
}

// The kernel's rate is that of a filter of its size whose bits are independent.
TEST_F(BloomMapTest, FalsePositivesAreNotMoreThanTheKernelsFormula) {
  for (const uint32_t entries : {1000U, 5000U, 65536U}) {
    for (const uint32_t bits : {1U, 3U, 5U, 7U, 9U}) {
      auto map = make_bloom(8, entries, bits);
      const Lease lease(machine());
      for (uint64_t i = 0; i < entries; ++i) ASSERT_EQ(push(*map, lease, &i), 0);
      const double kernel_bits = static_cast<double>(BloomFilter::kernel_bits(entries, bits));
      const double kernel = std::pow(1 - std::exp(-1.0 * bits * entries / kernel_bits), bits);
      constexpr uint64_t kQuestions = 400000;
      uint64_t positives = 0;
      for (uint64_t i = 0; i < kQuestions; ++i) {
        const uint64_t stranger = (uint64_t{1} << 40) + i;
        positives += has(*map, &stranger);
      }
      const double expected = kernel * kQuestions;
      // Five standard deviations of the counting, so that a sound filter does not fail by chance.
      EXPECT_LT(static_cast<double>(positives), expected + 5 * std::sqrt(expected) + 5) << entries << " " << bits;
    }
  }
}

TEST_F(BloomMapTest, Sizes) {
  EXPECT_EQ(BloomFilter::kernel_bits(1, 1), 64U);
  EXPECT_EQ(BloomFilter::kernel_bits(10, 5), 128U);
  EXPECT_EQ(BloomFilter::kernel_bits(UINT32_MAX, 15), uint64_t{1} << 32);
  for (uint32_t bits = 1; bits <= BloomFilter::kMostBits; ++bits) {
    EXPECT_GE(BloomFilter::blocks_for(1, bits), 1U);
    EXPECT_LT(BloomFilter::blocks_for(UINT32_MAX, bits), uint64_t{1} << 32);
  }
}

TEST_F(BloomMapTest, ThreadsSeeEachOthersPushes) {
  constexpr uint64_t kValues = 20000;
  auto map = make_bloom(8, 4 * kValues);
  std::atomic<uint64_t> pushed[2] = {};
  std::atomic<uint64_t> missed = 0;
  {
    std::vector<std::jthread> threads;
    for (uint64_t writer = 0; writer < 2; ++writer) {
      threads.emplace_back([&, writer] {
        for (uint64_t i = 0; i < kValues; ++i) {
          const uint64_t value = i << 1 | writer;
          const Lease lease(machine());
          ASSERT_EQ(push(*map, lease, &value), 0);
          pushed[writer].store(i + 1, std::memory_order_release);
        }
      });
      threads.emplace_back([&, writer] {
        for (uint64_t seen = 0; seen < kValues;) {
          seen = pushed[writer].load(std::memory_order_acquire);
          if (seen == 0) continue;
          for (uint64_t i = seen > 10 ? seen - 10 : 0; i < seen; ++i) {
            const uint64_t value = i << 1 | writer;
            missed += !has(*map, &value);
          }
        }
      });
    }
  }
  EXPECT_EQ(missed, 0U);
}

}  // namespace
}  // namespace skep
