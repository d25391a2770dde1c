// SPDX-License-Identifier: Apache-2.0
#include <gtest/gtest.h>

#include <map>
#include <unordered_map>
#include <unordered_set>

#include "maps/hash_test_support.h"
#include "memory/test_repeats.h"

namespace skep {
namespace {

using testing::CollectingSink;
using testing::error_of;
using testing::HashShape;
using testing::key_of;

class HashModelTest : public testing::MapTest, public ::testing::WithParamInterface<HashShape> {
 protected:
  void SetUp() override {
    MapTest::SetUp();
    const HashShape& shape = GetParam();
    map_ = make(spec(shape.type, shape.key_size, shape.value_size, shape.max_entries, shape.flags));
    ASSERT_NE(map_, nullptr);
    value_bytes_ = map_->user_value_size();
    // Short keys have fewer numbers than a map may have entries.
    universe_ = shape.key_size == 1 ? 250 : uint64_t{shape.max_entries} * 3 / 2 + 3;
  }

  std::string key(uint64_t number) const { return key_of(number, GetParam().key_size); }
  std::string random_value() {
    std::string value(value_bytes_, '\0');
    for (char& c : value) c = static_cast<char>(random_());
    return value;
  }
  static uint32_t number_in(const std::string& cursor) {
    uint32_t number;
    std::memcpy(&number, cursor.data(), sizeof(number));
    return number;
  }
  std::string zeros() const { return std::string(value_bytes_, '\0'); }

  int update(const std::string& k, const std::string& v, uint64_t flags) {
    const Lease lease(machine());
    return error_of(map_->update(lease, k.data(), v.data(), flags));
  }
  int erase(const std::string& k) {
    const Lease lease(machine());
    return error_of(map_->erase(lease, k.data()));
  }

  void expect_same_content() {
    ASSERT_EQ(map_->check().problem, "");
    ASSERT_EQ(map_->check().elements, model_.size());
    for (uint64_t number = 0; number < universe_; ++number) {
      const std::string k = key(number);
      std::string v = zeros();
      const int error = error_of(map_->lookup(k.data(), v.data(), 0));
      const auto expected = model_.find(k);
      ASSERT_EQ(error, expected == model_.end() ? ENOENT : 0) << number;
      if (error == 0) {
        ASSERT_EQ(v, expected->second) << number;
      }
    }
    expect_iteration();
    expect_batches(1 + static_cast<uint32_t>(random_() % (model_.size() + 40)));
    expect_visits();
  }

  void expect_iteration() {
    std::unordered_set<std::string> seen;
    std::string next = key(0);
    const void* from = nullptr;
    std::string current;
    while (error_of(map_->next_key(from, next.data())) == 0) {
      ASSERT_TRUE(seen.insert(next).second) << "next_key() met a key twice";
      current = next;
      from = current.data();
    }
    ASSERT_EQ(seen.size(), model_.size());
    for (const auto& [k, v] : model_) ASSERT_TRUE(seen.contains(k));
  }

  void expect_batches(uint32_t capacity) {
    CollectingSink sink(GetParam().key_size, value_bytes_);
    std::string cursor(map_->batch_cursor_size(), '\0');
    const void* in = nullptr;
    for (;;) {
      const BatchResult result = map_->lookup_batch(in, cursor.data(), capacity, 0, sink);
      ASSERT_LE(result.count, capacity);
      if (result.error == ENOSPC) {
        ASSERT_EQ(result.count, 0U);
        capacity *= 2;
      } else if (result.error != 0) {
        ASSERT_EQ(result.error, ENOENT);
        ASSERT_EQ(result.cursor_written, !GetParam().resizes());
        if (!GetParam().resizes()) {
          ASSERT_EQ(number_in(cursor), std::bit_ceil(GetParam().max_entries));
        }
        break;
      }
      in = cursor.data();
    }
    expect_collected(sink);
  }

  void expect_collected(const CollectingSink& sink) {
    ASSERT_EQ(sink.elements, model_.size());
    std::unordered_set<std::string> seen;
    for (uint64_t i = 0; i < sink.elements; ++i) {
      const std::string k = sink.keys.substr(i * sink.key_size, sink.key_size);
      ASSERT_TRUE(seen.insert(k).second);
      ASSERT_TRUE(model_.contains(k));
      ASSERT_EQ(model_[k], sink.values.substr(i * sink.value_size, sink.value_size));
    }
  }

  void expect_visits() {
    const Lease lease(machine());
    std::unordered_set<std::string> seen;
    const auto visits = map_->for_each(lease, [&](const void* k, void*) {
      seen.insert(std::string(static_cast<const char*>(k), GetParam().key_size));
      return Visit::kContinue;
    });
    ASSERT_TRUE(visits);
    ASSERT_EQ(*visits, model_.size());
    ASSERT_EQ(seen.size(), model_.size());
  }

  void random_step() {
    const std::string k = key(random_() % universe_);
    const bool known = model_.contains(k);
    const bool full = model_.size() == GetParam().max_entries;
    switch (random_() % 8) {
      case 0:
      case 1:
      case 2: {
        const std::string v = random_value();
        const uint64_t flags = random_() % 3;
        const int expected = known && flags == BPF_NOEXIST  ? EEXIST
                             : !known && flags == BPF_EXIST ? ENOENT
                             : !known && full               ? E2BIG
                                                            : 0;
        ASSERT_EQ(update(k, v, flags), expected);
        if (expected == 0) model_[k] = v;
        break;
      }
      case 3:
      case 4:
        ASSERT_EQ(erase(k), known ? 0 : ENOENT);
        model_.erase(k);
        break;
      case 5: {
        std::string v = zeros();
        const Lease lease(machine());
        ASSERT_EQ(error_of(map_->take(lease, k.data(), v.data(), 0)), known ? 0 : ENOENT);
        if (known) {
          ASSERT_EQ(v, model_[k]);
        }
        model_.erase(k);
        break;
      }
      case 6: {
        std::string v = zeros();
        ASSERT_EQ(error_of(map_->lookup(k.data(), v.data(), 0)), known ? 0 : ENOENT);
        if (known) {
          ASSERT_EQ(v, model_[k]);
        }
        break;
      }
      default: {
        const Lease lease(machine());
        const void* found = map_->find(lease, k.data());
        ASSERT_EQ(found != nullptr, known);
        const uint64_t offset = GetParam().per_cpu() ? round_up(GetParam().value_size, 8) * lease.cpu() : 0;
        if (known) {
          ASSERT_EQ(std::memcmp(found, model_[k].data() + offset, GetParam().value_size), 0);
        }
      }
    }
  }

  std::unique_ptr<Map> map_;
  std::unordered_map<std::string, std::string> model_;
  uint64_t value_bytes_ = 0;
  uint64_t universe_ = 0;
  std::mt19937_64 random_{20261121};
};

TEST_P(HashModelTest, DoesWhatAnUnorderedMapDoes) {
  const uint64_t steps = testing::repeats(2000 + 4 * GetParam().max_entries);
  for (uint64_t step = 0; step < steps; ++step) {
    random_step();
    if (HasFatalFailure()) FAIL() << "at step " << step;
    if (step % (steps / 4) == 0) {
      expect_same_content();
      if (HasFatalFailure()) FAIL() << "at step " << step;
    }
  }
  expect_same_content();
}

TEST_P(HashModelTest, HoldsExactlyMaxEntries) {
  if (GetParam().key_size == 1 && GetParam().max_entries > 200) GTEST_SKIP() << "more entries than keys";
  for (int round = 0; round < 3; ++round) {
    for (uint64_t number = 0; number < GetParam().max_entries; ++number) {
      const std::string v = random_value();
      ASSERT_EQ(update(key(number), v, BPF_NOEXIST), 0) << number;
      model_[key(number)] = v;
    }
    ASSERT_EQ(update(key(GetParam().max_entries), zeros(), BPF_ANY), E2BIG);
    ASSERT_EQ(update(key(GetParam().max_entries), zeros(), BPF_EXIST), ENOENT);
    ASSERT_EQ(map_->check().free_elements, 0U);
    for (uint64_t number = 0; number < GetParam().max_entries; ++number) {  // replacing needs no room
      const std::string v = random_value();
      ASSERT_EQ(update(key(number), v, number % 2 == 0 ? BPF_ANY : BPF_EXIST), 0) << number;
      model_[key(number)] = v;
    }
    expect_same_content();
    for (uint64_t number = 0; number < GetParam().max_entries; ++number) ASSERT_EQ(erase(key(number)), 0);
    model_.clear();
    expect_same_content();
  }
}

TEST_P(HashModelTest, TakesAllInBatches) {
  const uint64_t entries = std::min<uint64_t>(GetParam().max_entries, universe_);
  for (uint64_t number = 0; number < entries; ++number) {
    const std::string v = random_value();
    ASSERT_EQ(update(key(number), v, BPF_ANY), 0);
    model_[key(number)] = v;
  }
  CollectingSink sink(GetParam().key_size, value_bytes_);
  std::string cursor(map_->batch_cursor_size(), '\0');
  const void* in = nullptr;
  for (uint32_t capacity = 1;;) {
    const Lease lease(machine());
    const BatchResult result = map_->take_batch(lease, in, cursor.data(), capacity, 0, sink);
    in = cursor.data();
    if (result.error == ENOSPC) capacity += 1;
    if (result.error == ENOENT) break;
  }
  expect_collected(sink);
  model_.clear();
  expect_same_content();
}

TEST_P(HashModelTest, IterationThatDeletesMeetsEveryKey) {  // hash_table.h, O4
  const uint64_t entries = std::min<uint64_t>(GetParam().max_entries, universe_);
  for (uint64_t number = 0; number < entries; ++number) ASSERT_EQ(update(key(number), zeros(), BPF_ANY), 0);
  {
    const Lease lease(machine());
    uint64_t met = 0;
    const auto visits = map_->for_each(lease, [&](const void* k, void*) {
      met += map_->erase(lease, std::string(static_cast<const char*>(k), GetParam().key_size).data()).has_value();
      return Visit::kContinue;
    });
    ASSERT_TRUE(visits);
    EXPECT_EQ(*visits, entries);
    EXPECT_EQ(met, entries);
  }
  EXPECT_EQ(map_->check().elements, 0U);

  for (uint64_t number = 0; number < entries; ++number) ASSERT_EQ(update(key(number), zeros(), BPF_ANY), 0);
  std::string current = key(0), next = key(0);
  uint64_t met = 0;
  for (int error = error_of(map_->next_key(nullptr, current.data())); error == 0; ++met) {
    error = error_of(map_->next_key(current.data(), next.data()));
    ASSERT_EQ(erase(current), 0);
    current = next;
  }
  EXPECT_EQ(met, entries);
  EXPECT_EQ(map_->check().elements, 0U);
  EXPECT_EQ(map_->check().problem, "");
}

TEST_P(HashModelTest, ManyLookupsAtOnce) {
  std::string keys, expected;
  for (uint64_t number = 0; number < 100; ++number) {
    const std::string k = key(number % universe_);
    keys += k;
    if (number % 3 == 0 && !model_.contains(k) && model_.size() < GetParam().max_entries) {
      model_[k] = random_value();
      ASSERT_EQ(update(k, model_[k], BPF_ANY), 0);
    }
  }
  std::string values(100 * value_bytes_, '\0');
  uint8_t found[100];
  uint32_t hits = 0;
  const uint32_t count = map_->lookup_many(keys.data(), values.data(), found, 100);
  for (uint64_t i = 0; i < 100; ++i) {
    const auto entry = model_.find(key(i % universe_));
    ASSERT_EQ(found[i], entry != model_.end());
    hits += found[i];
    if (found[i]) {
      ASSERT_EQ(values.substr(i * value_bytes_, value_bytes_), entry->second);
    }
  }
  EXPECT_EQ(count, hits);
}

constexpr uint32_t kHash = BPF_MAP_TYPE_HASH, kPerCpu = BPF_MAP_TYPE_PERCPU_HASH, kGrow = BPF_F_NO_PREALLOC;
constexpr uint32_t kRhash = BPF_MAP_TYPE_RHASH;

INSTANTIATE_TEST_SUITE_P(Shapes, HashModelTest,
                         ::testing::Values(HashShape{kHash, 4, 4, 1, 0}, HashShape{kHash, 8, 8, 2, 0},
                                           HashShape{kHash, 4, 8, 7, 0}, HashShape{kHash, 8, 8, 100, 0},
                                           HashShape{kHash, 8, 8, 1000, 0}, HashShape{kHash, 8, 8, 3000, kGrow},
                                           HashShape{kHash, 16, 24, 500, 0}, HashShape{kHash, 1, 1, 100, 0},
                                           HashShape{kHash, 3, 5, 300, kGrow}, HashShape{kHash, 37, 61, 400, 0},
                                           HashShape{kHash, 256, 1000, 64, 0}, HashShape{kHash, 8, 5000, 40, 0},
                                           HashShape{kHash, 8, 70000, 20, kGrow}, HashShape{kHash, 4, 4, 20000, 0},
                                           HashShape{kPerCpu, 4, 8, 100, 0}, HashShape{kPerCpu, 8, 3, 77, 0},
                                           HashShape{kPerCpu, 16, 40, 500, kGrow}, HashShape{kPerCpu, 5, 9, 1, 0},
                                           HashShape{kPerCpu, 8, 5000, 30, 0}, HashShape{kPerCpu, 8, 32768, 9, kGrow},
                                           HashShape{kRhash, 4, 4, 1, kGrow}, HashShape{kRhash, 8, 8, 3000, kGrow},
                                           HashShape{kRhash, 3, 5, 300, kGrow}, HashShape{kRhash, 1, 1, 100, kGrow},
                                           HashShape{kRhash, 37, 61, 400, kGrow},
                                           HashShape{kRhash, 8, 70000, 20, kGrow}),
                         [](const auto& shape) { return name_of(shape.param); });

}  // namespace
}  // namespace skep
