// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <set>
#include <string>

#include "maps/hash_test_support.h"
#include "skep/abi.h"

namespace skep::testing {

/// One way to make an LRU map.
struct LruShape {
  const char* name;
  uint32_t type, key_size, value_size, max_entries, flags;
};

inline constexpr uint32_t kLru = BPF_MAP_TYPE_LRU_HASH;
inline constexpr uint32_t kLruPerCpu = BPF_MAP_TYPE_LRU_PERCPU_HASH;
inline constexpr uint32_t kApart = BPF_F_NO_COMMON_LRU;

/// An LRU map whose keys are numbers and whose values verify themselves; any process and thread may use it.
class LruTest : public MapTest {
 protected:
  void make_lru(const LruShape& shape) {
    shape_ = shape;
    map_ = make(spec(shape.type, shape.key_size, shape.value_size, shape.max_entries, shape.flags));
    ASSERT_NE(map_, nullptr);
    entries_ = map_->spec().max_entries;
  }
  void TearDown() override {
    map_.reset();
    MapTest::TearDown();
  }

  [[nodiscard]] std::string key(uint64_t k) const { return key_of(k, shape_.key_size); }
  [[nodiscard]] std::string value(uint64_t k, uint32_t nonce) const {
    std::string bytes(map_->user_value_size(), '\0');
    fill_value(bytes.data(), bytes.size(), k, nonce);
    return bytes;
  }
  int put(const Lease& lease, uint64_t k, uint64_t flags = BPF_ANY, uint32_t nonce = 1) {
    return error_of(map_->update(lease, key(k).data(), value(k, nonce).data(), flags));
  }
  int erase(const Lease& lease, uint64_t k) { return error_of(map_->erase(lease, key(k).data())); }
  enum class Found { kNot, kWhole, kTorn };
  [[nodiscard]] Found look(uint64_t k) const {
    std::string copy(map_->user_value_size(), '\0');
    if (!map_->lookup(key(k).data(), copy.data(), 0)) return Found::kNot;
    return value_is_whole(copy.data(), copy.size(), k) ? Found::kWhole : Found::kTorn;
  }

  /// What one eviction may remove besides the element that is needed.
  [[nodiscard]] uint64_t slack() const { return std::min<uint64_t>(12, std::max<uint64_t>(1, entries_ / 64)) - 1; }

  /// The number of elements, after checks that every invariant holds, no key is there twice and every value is whole.
  uint64_t check_content() {
    const CheckReport report = map_->check();
    EXPECT_EQ(report.problem, "");
    CollectingSink sink(shape_.key_size, map_->user_value_size());
    uint32_t cursor = 0;
    EXPECT_EQ(map_->lookup_batch(nullptr, &cursor, UINT32_MAX, 0, sink).error, ENOENT);
    EXPECT_EQ(sink.elements, report.elements);
    std::set<uint64_t> numbers;
    for (uint64_t i = 0; i < sink.elements; ++i) {
      uint64_t k = 0;
      std::memcpy(&k, sink.keys.data() + i * sink.key_size, std::min<size_t>(8, sink.key_size));
      EXPECT_TRUE(numbers.insert(k).second) << "key " << k << " is there twice";
      EXPECT_TRUE(value_is_whole(sink.values.data() + i * sink.value_size, sink.value_size, k)) << k;
    }
    return report.elements;
  }

  /// That nothing was lost: the map takes any number of new keys, and has as many elements as it should, less those
  /// that wait in the magazines of writers for their next keys.
  void expect_full_use() {
    const Lease lease(machine(), Lease::Cpu{0});
    constexpr uint64_t kFirst = 10'000'000;
    for (uint64_t k = kFirst; k < kFirst + 12 * entries_ + 100; ++k) {
      ASSERT_EQ(put(lease, k, BPF_NOEXIST), 0) << k;
      ASSERT_EQ(look(k), Found::kWhole) << k;
    }
    EXPECT_GE(check_content() + std::min(entries_ / 2, (slack() + 1) * machine().slots()), entries_);
  }

  LruShape shape_{};
  std::unique_ptr<Map> map_;
  uint64_t entries_ = 0;
};

}  // namespace skep::testing
