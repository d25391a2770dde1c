// SPDX-License-Identifier: Apache-2.0
#include <gtest/gtest.h>
#include <sys/mman.h>

#include "maps/lpm_test_support.h"
#include "maps/map.h"
#include "memory/test_repeats.h"

namespace skep {
namespace {

using testing::error_of;
using testing::ipv4;
using testing::lpm_key;
using testing::LpmKeys;
using testing::LpmModel;

class LpmMapTest : public testing::MapTest {
 protected:
  static MapSpec lpm(uint32_t key_size, uint32_t value_size, uint32_t max_entries) {
    return spec(BPF_MAP_TYPE_LPM_TRIE, key_size, value_size, max_entries, BPF_F_NO_PREALLOC);
  }
  void make_map(uint32_t key_size, uint32_t value_size, uint32_t max_entries) {
    map_ = make(lpm(key_size, value_size, max_entries));
    ASSERT_NE(map_, nullptr);
  }
  void TearDown() override {
    map_.reset();
    MapTest::TearDown();
  }
  int put(const std::string& key, uint64_t value, uint64_t flags = BPF_ANY) {
    std::string bytes(map_->spec().value_size, '\0');
    std::memcpy(bytes.data(), &value, std::min<size_t>(8, bytes.size()));
    const Lease lease(machine());
    return error_of(map_->update(lease, key.data(), bytes.data(), flags));
  }
  int erase(const std::string& key) {
    const Lease lease(machine());
    return error_of(map_->erase(lease, key.data()));
  }
  /// The value's number, or minus the errno.
  int64_t get(const std::string& key) {
    std::string bytes(std::max<size_t>(8, map_->spec().value_size), '\0');
    const int error = error_of(map_->lookup(key.data(), bytes.data(), 0));
    int64_t value;
    std::memcpy(&value, bytes.data(), 8);
    const Lease lease(machine());
    void* found = map_->find(lease, key.data());
    EXPECT_EQ(found == nullptr, error != 0);
    if (found != nullptr) {
      EXPECT_EQ(std::memcmp(found, bytes.data(), map_->spec().value_size), 0);
    }
    return error == 0 ? value : -error;
  }
  std::string next(const std::string* key) {
    std::string out(map_->spec().key_size, '\0');
    const int error = error_of(map_->next_key(key != nullptr ? key->data() : nullptr, out.data()));
    return error == 0 ? out : "E" + std::to_string(error);
  }
  std::unique_ptr<Map> map_;
};

TEST_F(LpmMapTest, CreationRules) {
  EXPECT_EQ(create_error(lpm(8, 8, 1)), 0);
  EXPECT_EQ(create_error(lpm(5, 1, 1)), 0);
  EXPECT_EQ(create_error(lpm(260, 4194024, UINT32_MAX)), 0);
  EXPECT_EQ(create_error(lpm(4, 8, 1)), EINVAL);
  EXPECT_EQ(create_error(lpm(261, 8, 1)), EINVAL);
  EXPECT_EQ(create_error(lpm(8, 0, 1)), EINVAL);
  EXPECT_EQ(create_error(lpm(8, 4194025, 1)), EINVAL);
  EXPECT_EQ(create_error(lpm(8, 8, 0)), EINVAL);
  EXPECT_EQ(create_error(spec(BPF_MAP_TYPE_LPM_TRIE, 8, 8, 1, 0)), EINVAL);
  EXPECT_EQ(create_error(spec(BPF_MAP_TYPE_LPM_TRIE, 8, 8, 1, BPF_F_NO_PREALLOC | BPF_F_ZERO_SEED)), EINVAL);
  MapSpec locked = lpm(8, 8, 1);
  locked.fields.spin_lock = 0;
  EXPECT_EQ(create_error(locked), EOPNOTSUPP);
}

TEST_F(LpmMapTest, LongestMatchWithinTheKeysLength) {
  make_map(8, 8, 16);
  EXPECT_EQ(get(ipv4(10, 1, 2, 3, 32)), -ENOENT);
  EXPECT_EQ(put(ipv4(10, 0, 0, 0, 8), 8), 0);
  EXPECT_EQ(put(ipv4(10, 1, 0, 0, 16), 16), 0);
  EXPECT_EQ(put(ipv4(10, 1, 2, 0, 24), 24), 0);
  EXPECT_EQ(put(ipv4(10, 1, 2, 3, 32), 32), 0);
  EXPECT_EQ(get(ipv4(10, 1, 2, 3, 32)), 32);
  EXPECT_EQ(get(ipv4(10, 1, 2, 4, 32)), 24);
  EXPECT_EQ(get(ipv4(10, 1, 3, 4, 32)), 16);
  EXPECT_EQ(get(ipv4(10, 2, 3, 4, 32)), 8);
  EXPECT_EQ(get(ipv4(11, 2, 3, 4, 32)), -ENOENT);
  EXPECT_EQ(get(ipv4(10, 1, 2, 3, 23)), 16);
  EXPECT_EQ(get(ipv4(10, 1, 2, 3, 7)), -ENOENT);
  EXPECT_EQ(get(ipv4(10, 1, 2, 3, 33)), -ENOENT);
  EXPECT_EQ(put(ipv4(0, 0, 0, 0, 0), 1), 0);
  EXPECT_EQ(get(ipv4(11, 2, 3, 4, 32)), 1);
  EXPECT_EQ(get(ipv4(11, 2, 3, 4, 0)), 1);
  EXPECT_EQ(erase(ipv4(10, 1, 2, 0, 24)), 0);
  EXPECT_EQ(get(ipv4(10, 1, 2, 4, 32)), 16);
  EXPECT_EQ(map_->check().problem, "");
}

TEST_F(LpmMapTest, FlagsAndLimits) {
  make_map(8, 8, 2);
  EXPECT_EQ(put(ipv4(10, 0, 0, 0, 33), 1), EINVAL);
  EXPECT_EQ(erase(ipv4(10, 0, 0, 0, 33)), EINVAL);
  EXPECT_EQ(put(ipv4(10, 0, 0, 0, 8), 1, BPF_EXIST), ENOENT);
  EXPECT_EQ(put(ipv4(10, 0, 0, 0, 8), 1, BPF_NOEXIST), 0);
  EXPECT_EQ(put(ipv4(10, 9, 9, 9, 8), 1, BPF_NOEXIST), EEXIST);
  EXPECT_EQ(put(ipv4(10, 0, 0, 0, 8), 1, 3), EINVAL);
  EXPECT_EQ(put(ipv4(10, 0, 0, 0, 8), 1, BPF_F_LOCK), EINVAL);
  EXPECT_EQ(put(ipv4(10, 0, 0, 0, 9), 2), 0);
  EXPECT_EQ(put(ipv4(10, 0, 0, 0, 10), 3), ENOSPC);
  EXPECT_EQ(put(ipv4(10, 0, 0, 0, 10), 3, BPF_EXIST), ENOENT);
  EXPECT_EQ(put(ipv4(10, 0, 0, 0, 9), 4), 0);
  EXPECT_EQ(get(ipv4(10, 0, 0, 0, 9)), 4);
  EXPECT_EQ(erase(ipv4(10, 0, 0, 0, 10)), ENOENT);
  EXPECT_EQ(erase(ipv4(10, 0, 0, 0, 9)), 0);
  EXPECT_EQ(put(ipv4(10, 0, 0, 0, 10), 3), 0);
  char value[8];
  EXPECT_EQ(error_of(map_->lookup(ipv4(10, 0, 0, 0, 8).data(), value, BPF_F_LOCK)), EINVAL);
  EXPECT_EQ(map_->check().elements, 2U);
}

TEST_F(LpmMapTest, PostOrderAndHostBits) {
  make_map(8, 8, 16);
  EXPECT_EQ(next(nullptr), "E2");
  const std::string order[] = {ipv4(9, 1, 2, 0, 24),  ipv4(10, 1, 2, 3, 32), ipv4(10, 1, 2, 77, 24),
                               ipv4(10, 1, 0, 0, 16), ipv4(10, 5, 5, 5, 8),  ipv4(0, 0, 0, 1, 0)};
  for (const int i : {5, 4, 3, 2, 1, 0}) EXPECT_EQ(put(order[i], 1), 0);
  EXPECT_EQ(next(nullptr), order[0]);
  for (int i = 0; i < 5; ++i) EXPECT_EQ(next(&order[i]), order[i + 1]);
  EXPECT_EQ(next(&order[5]), "E2");
  const std::string absent = ipv4(10, 1, 2, 0, 25), beyond = ipv4(10, 1, 2, 0, 40);
  EXPECT_EQ(next(&absent), order[0]);
  EXPECT_EQ(next(&beyond), order[0]);
  const std::string dirty = ipv4(10, 1, 99, 99, 16);
  EXPECT_EQ(put(dirty, 2), 0);
  EXPECT_EQ(next(&order[2]), dirty);
}

TEST_F(LpmMapTest, LookupsByAReadOnlyMapping) {
  make_map(8, 8, 16);
  ASSERT_EQ(put(ipv4(10, 1, 0, 0, 16), 7), 0);
  auto reader = open_map(last_file(), Access::kReadOnly, machine());
  ASSERT_TRUE(reader);
  int64_t value = 0;
  EXPECT_EQ(error_of((*reader)->lookup(ipv4(10, 1, 1, 1, 32).data(), &value, 0)), 0);
  EXPECT_EQ(value, 7);
  char key[8];
  EXPECT_EQ(error_of((*reader)->next_key(nullptr, key)), 0);
}

TEST_F(LpmMapTest, ModifyIsAnUpdateOfTheExactPrefix) {
  make_map(8, 8, 16);
  ASSERT_EQ(put(ipv4(10, 1, 0, 0, 16), 7), 0);
  const Lease lease(machine());
  const auto increment = [](void* value) { ++*static_cast<uint64_t*>(value); };
  EXPECT_EQ(error_of(map_->modify(lease, ipv4(10, 1, 0, 0, 16).data(), increment)), 0);
  EXPECT_EQ(error_of(map_->modify(lease, ipv4(10, 1, 0, 0, 24).data(), increment)), ENOENT);
  EXPECT_EQ(get(ipv4(10, 1, 0, 0, 16)), 8);
}

struct Shape {
  uint32_t data_size, value_size, max_entries;
};

class LpmModelTest : public LpmMapTest, public ::testing::WithParamInterface<Shape> {};

TEST_P(LpmModelTest, AgreesWithTheModel) {
  const Shape& shape = GetParam();
  make_map(shape.data_size + 4, shape.value_size, shape.max_entries);
  LpmModel model;
  LpmKeys keys(shape.data_size, 11 * shape.data_size + shape.max_entries);
  auto& random = keys.random();
  const auto stored = [&]() -> std::string {
    if (model.entries.empty() || random() % 4 == 0) return keys.any();
    auto at = model.entries.lower_bound(LpmModel::place(keys.any()));
    return at == model.entries.end() ? model.entries.begin()->second.key : at->second.key;
  };
  uint64_t number = 0;
  for (uint64_t step = 0; step < testing::repeats(20000); ++step) {
    const bool growing = step / 4000 % 2 == 0;
    const auto action = random() % 10;
    if (action < (growing ? 4 : 2)) {
      const std::string key = random() % 4 == 0 ? stored() : keys.any();
      const bool is_new = !model.contains(key);
      const int expected = is_new && model.entries.size() == shape.max_entries ? ENOSPC : 0;
      std::string value(shape.value_size, '\0');
      ++number;
      std::memcpy(value.data(), &number, std::min<size_t>(8, value.size()));
      const Lease lease(machine());
      ASSERT_EQ(error_of(map_->update(lease, key.data(), value.data(), BPF_ANY)), expected) << step;
      if (expected == 0) model.put(key, value);
    } else if (action < (growing ? 5 : 5)) {
      const std::string key = stored();
      ASSERT_EQ(erase(key), model.erase(key) ? 0 : ENOENT) << step;
    } else if (action < 8) {
      const std::string key = random() % 2 == 0 ? stored() : keys.any();
      std::string value(shape.value_size, '\0');
      const auto* expected = model.longest(key);
      ASSERT_EQ(error_of(map_->lookup(key.data(), value.data(), 0)), expected != nullptr ? 0 : ENOENT) << step;
      if (expected != nullptr) {
        ASSERT_EQ(value, expected->value) << step;
      }
    } else {
      const std::string key = stored();
      const auto* expected = model.next(key);
      ASSERT_EQ(next(&key), expected != nullptr ? expected->key : "E2") << step;
    }
    if (step % 997 == 0) {
      const CheckReport report = map_->check();
      ASSERT_EQ(report.problem, "") << step;
      ASSERT_EQ(report.elements, model.entries.size());
    }
  }
  std::string key;
  uint64_t met = 0;
  for (const auto& [place, entry] : model.entries) {
    key = next(met++ == 0 ? nullptr : &key);
    ASSERT_EQ(key, entry.key);
  }
  for (const auto& [place, entry] : model.entries) ASSERT_EQ(erase(entry.key), 0);
  EXPECT_EQ(next(nullptr), "E2");
  EXPECT_EQ(map_->check().problem, "");
}

INSTANTIATE_TEST_SUITE_P(Shapes, LpmModelTest,
                         ::testing::Values(Shape{1, 1, 100}, Shape{2, 8, 5000}, Shape{3, 3, 700}, Shape{4, 8, 30},
                                           Shape{4, 8, 100000}, Shape{5, 8, 5000}, Shape{8, 24, 5000},
                                           Shape{9, 100, 5000}, Shape{16, 8, 5000}, Shape{17, 8, 5000},
                                           Shape{64, 8, 5000}, Shape{256, 9000, 500}),
                         [](const auto& at) {
                           return "Data" + std::to_string(at.param.data_size) + "Value" +
                                  std::to_string(at.param.value_size) + "Max" + std::to_string(at.param.max_entries);
                         });

/// Nodes become as wide as they can, in whatever order the prefixes come, and go again.
TEST_F(LpmMapTest, ManyPrefixesInAnyOrder) {
  for (const int order : {0, 1, 2}) {
    make_map(8, 8, 60000);
    std::mt19937_64 random(5);
    std::vector<std::pair<uint32_t, uint32_t>> prefixes;
    for (int i = 0; i < 50000; ++i) {
      const auto length = static_cast<uint32_t>(8 + random() % 25);
      const auto address = static_cast<uint32_t>(random() & 0x3fffffff) & (length == 32 ? ~0U : ~(~0U >> length));
      prefixes.emplace_back(address, length);
    }
    if (order > 0) std::sort(prefixes.begin(), prefixes.end());
    if (order > 1) std::reverse(prefixes.begin(), prefixes.end());
    const auto key = [](uint32_t address, uint32_t length) {
      return ipv4(static_cast<uint8_t>(address >> 24), static_cast<uint8_t>(address >> 16),
                  static_cast<uint8_t>(address >> 8), static_cast<uint8_t>(address), length);
    };
    std::map<std::pair<uint32_t, uint32_t>, uint32_t> model;  // by length, then address
    for (const auto& [address, length] : prefixes) {
      ASSERT_EQ(put(key(address, length), address ^ length), 0);
      model[{length, address}] = address ^ length;
    }
    ASSERT_EQ(map_->check().problem, "");
    ASSERT_EQ(map_->check().elements, model.size());
    const auto expect_lookups = [&] {
      for (int i = 0; i < 20000; ++i) {
        uint32_t address = static_cast<uint32_t>(random() & 0x3fffffff);
        if (i % 2 == 0) address = prefixes[random() % prefixes.size()].first | (address & 15);
        int64_t expected = -ENOENT;
        for (uint32_t length = 32; length >= 8 && expected < 0; --length) {
          const auto at = model.find({length, length == 32 ? address : address & ~(~0U >> length)});
          if (at != model.end()) expected = at->second;
        }
        ASSERT_EQ(get(key(address, 32)), expected);
      }
    };
    expect_lookups();
    for (size_t i = 0; i < prefixes.size(); i += 2) {
      const auto& [address, length] = prefixes[i];
      ASSERT_EQ(erase(key(address, length)), model.erase({length, address}) != 0 ? 0 : ENOENT);
    }
    ASSERT_EQ(map_->check().problem, "");
    expect_lookups();
    for (const auto& entry : model) ASSERT_EQ(erase(key(entry.first.second, entry.first.first)), 0);
    EXPECT_EQ(map_->check().problem, "");
    EXPECT_EQ(map_->check().elements, 0U);
  }
}

}  // namespace
}  // namespace skep
