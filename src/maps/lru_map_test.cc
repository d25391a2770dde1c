// SPDX-License-Identifier: Apache-2.0
//
// LRU_HASH and LRU_PERCPU_HASH, one thread: what goes, when, and what stays.

#include <gtest/gtest.h>

#include "maps/lru_test_support.h"

namespace skep {
namespace {

using testing::error_of;
using testing::kApart;
using testing::kLru;
using testing::kLruPerCpu;
using testing::LruShape;
using testing::value_is_whole;

class LruMapTest : public testing::LruTest, public ::testing::WithParamInterface<LruShape> {
 protected:
  void SetUp() override {
    MapTest::SetUp();
    make_lru(GetParam());
  }
  int put(uint64_t k, uint64_t flags = BPF_ANY, uint32_t nonce = 1) {
    const Lease lease(machine(), Lease::Cpu{0});
    return LruTest::put(lease, k, flags, nonce);
  }
  bool has(uint64_t k) {
    const Found found = look(k);
    EXPECT_NE(found, Found::kTorn);
    return found == Found::kWhole;
  }
  bool use(uint64_t k) {
    const Lease lease(machine(), Lease::Cpu{0});
    return map_->find(lease, key(k).data()) != nullptr;
  }
  uint64_t count() { return check_content(); }
  void fill() {
    for (uint64_t k = 0; k < entries_; ++k) ASSERT_EQ(put(k), 0);
  }
};

TEST_P(LruMapTest, NothingGoesBeforeTheMapIsFull) {
  fill();
  EXPECT_EQ(count(), entries_);
  for (uint64_t k = 0; k < entries_; ++k) EXPECT_TRUE(has(k)) << k;
}

TEST_P(LruMapTest, ANewKeyAlwaysFinds) {
  for (uint64_t k = 0; k < 10 * entries_ + 100; ++k) {
    ASSERT_EQ(put(k, BPF_NOEXIST), 0) << k;
    ASSERT_TRUE(has(k)) << k;
  }
  EXPECT_LE(count(), entries_);
  EXPECT_GE(count(), entries_ - slack());
}

TEST_P(LruMapTest, AnUpdateOfAKeyThatIsThereRemovesNobody) {
  fill();
  for (uint64_t k = 0; k < entries_; ++k) {
    EXPECT_EQ(put(k, BPF_ANY, 2), 0);
    EXPECT_EQ(put(k, BPF_EXIST, 3), 0);
    EXPECT_EQ(put(k, BPF_NOEXIST), EEXIST);
    EXPECT_EQ(put(k + entries_, BPF_EXIST), ENOENT);
  }
  EXPECT_EQ(count(), entries_);
}

TEST_P(LruMapTest, AFreedElementIsUsedBeforeAnyoneGoes) {
  fill();
  const Lease other(machine());  // a writer's slot, whose magazine gets the elements
  for (uint64_t k = 0; k < entries_; k += 3) ASSERT_EQ(error_of(map_->erase(other, key(k).data())), 0);
  for (uint64_t k = 0; k < entries_; k += 3) ASSERT_EQ(put(k + 10 * entries_), 0);
  EXPECT_EQ(count(), entries_);
  for (uint64_t k = 0; k < entries_; ++k) EXPECT_EQ(has(k), k % 3 != 0) << k;
}

TEST_P(LruMapTest, ProgramsLookupsProtectAndCopiesDoNot) {
  if (entries_ < 64) GTEST_SKIP() << "too small to tell";
  fill();
  const uint64_t some = entries_ / 8;
  for (uint64_t k = 0; k < some; ++k) ASSERT_TRUE(use(k));
  for (uint64_t k = some; k < 2 * some; ++k) ASSERT_TRUE(has(k));
  const uint64_t fresh = 2 * entries_;
  for (uint64_t k = 0; k < fresh; ++k) ASSERT_EQ(put(entries_ + k), 0);
  uint64_t used = 0, copied = 0;
  for (uint64_t k = 0; k < some; ++k) used += has(k);
  for (uint64_t k = some; k < 2 * some; ++k) copied += has(k);
  EXPECT_EQ(used, some);
  if ((GetParam().flags & BPF_F_NO_COMMON_LRU) == 0) {
    EXPECT_EQ(copied, 0U);
  }
}

TEST_P(LruMapTest, TheOldestOfTheUnusedGoFirst) {
  if (entries_ < 64 || (GetParam().flags & BPF_F_NO_COMMON_LRU) != 0) GTEST_SKIP() << "no common order";
  fill();
  const uint64_t fresh = entries_ / 4;
  for (uint64_t k = 0; k < fresh; ++k) ASSERT_EQ(put(entries_ + k), 0);
  uint64_t old = 0;
  for (uint64_t k = 0; k < fresh; ++k) old += has(k);
  EXPECT_LE(old, 28U) << "elements are handed out in runs of a magazine";
  for (uint64_t k = fresh + 28; k < entries_; ++k) EXPECT_TRUE(has(k)) << k;
  for (uint64_t k = 0; k < fresh; ++k) EXPECT_TRUE(has(entries_ + k)) << k;
}

TEST_P(LruMapTest, SomethingGoesEvenIfEverythingIsInUse) {
  fill();
  for (int round = 0; round < 5; ++round) {
    for (uint64_t k = 0; k < entries_ + 200; ++k) use(k);
  }
  for (uint64_t k = 0; k < 200; ++k) {
    ASSERT_EQ(put(entries_ + k), 0);
    for (uint64_t i = 0; i < entries_ + 200; ++i) use(i);
  }
  EXPECT_GE(count(), entries_ - slack());
}

TEST_P(LruMapTest, EraseTakeAndBatchesKeepTheCount) {
  std::string value(map_->user_value_size(), '\0');
  const Lease lease(machine());
  for (uint64_t k = 0; k < 3 * entries_; ++k) {
    ASSERT_EQ(put(k), 0);
    if (k % 5 == 0) {
      EXPECT_EQ(error_of(map_->erase(lease, key(k).data())), 0);
    }
    if (k % 7 == 0 && has(k)) {
      EXPECT_EQ(error_of(map_->take(lease, key(k).data(), value.data(), 0)), 0);
      EXPECT_TRUE(value_is_whole(value.data(), value.size(), k));
    }
  }
  const uint64_t before = count();
  testing::CollectingSink sink(GetParam().key_size, map_->user_value_size());
  uint32_t cursor = 0;
  const BatchResult result = map_->take_batch(lease, nullptr, &cursor, UINT32_MAX, 0, sink);
  EXPECT_EQ(result.error, ENOENT);
  EXPECT_EQ(result.count, before);
  EXPECT_EQ(count(), 0U);
  fill();
  EXPECT_EQ(count(), entries_);
}

INSTANTIATE_TEST_SUITE_P(
    Shapes, LruMapTest,
    ::testing::Values(LruShape{"One", kLru, 8, 8, 1, 0}, LruShape{"Two", kLru, 4, 8, 2, 0},
                      LruShape{"Eight", kLru, 8, 16, 8, 0}, LruShape{"Odd", kLru, 5, 12, 300, 0},
                      LruShape{"Kilo", kLru, 8, 8, 1024, 0}, LruShape{"Wide", kLru, 40, 24, 3000, 0},
                      LruShape{"Large", kLru, 8, 5000, 100, 0}, LruShape{"ApartOne", kLru, 8, 8, 1, kApart},
                      LruShape{"ApartOdd", kLru, 8, 8, 101, kApart}, LruShape{"Apart", kLru, 16, 8, 1000, kApart},
                      LruShape{"PerCpu", kLruPerCpu, 8, 16, 500, 0},
                      LruShape{"PerCpuLarge", kLruPerCpu, 8, 3000, 70, 0},
                      LruShape{"PerCpuApart", kLruPerCpu, 4, 8, 256, kApart}),
    [](const auto& shape) { return shape.param.name; });

TEST_P(LruMapTest, ReadOnlyWindowsFindWithoutNotingTheUse) {
  fill();
  const auto reader = open_map(last_file(), Access::kReadOnly, machine());
  ASSERT_TRUE(reader);
  const Lease lease(machine(), Lease::Cpu{0});
  for (uint64_t k = 0; k < entries_; ++k) {
    const void* found = (*reader)->find(lease, key(k).data());
    ASSERT_NE(found, nullptr);
    ASSERT_EQ(*static_cast<const uint64_t*>(found), *static_cast<const uint64_t*>(map_->find(lease, key(k).data())));
    EXPECT_EQ((*reader)->find_percpu(lease, key(k).data(), 0) != nullptr,
              map_->find_percpu(lease, key(k).data(), 0) != nullptr);
  }
}

class LruCreateTest : public testing::MapTest {};

TEST_F(LruCreateTest, RefusesWhatTheKernelRefuses) {
  for (const uint32_t type : {kLru, kLruPerCpu}) {
    const bool per_cpu = type == kLruPerCpu;
    EXPECT_EQ(create_error(spec(type, 8, 8, 10, BPF_F_NO_PREALLOC)), kEnotsupp);
    EXPECT_EQ(create_error(spec(type, 8, 8, 10, BPF_F_NO_PREALLOC | BPF_F_MMAPABLE)), EINVAL);
    EXPECT_EQ(create_error(spec(type, 8, 8, 10, kApart | BPF_F_ZERO_SEED)), 0);
    EXPECT_EQ(create_error(spec(type, 8, 8, 10, BPF_F_NUMA_NODE)), per_cpu ? EINVAL : 0);
    EXPECT_EQ(create_error(spec(type, 8, 8, 10, BPF_F_NUMA_NODE | kApart)), EINVAL);
    EXPECT_EQ(create_error(spec(type, 0, 8, 10)), EINVAL);
    EXPECT_EQ(create_error(spec(type, 8, 0, 10)), EINVAL);
    EXPECT_EQ(create_error(spec(type, 8, 8, 0)), EINVAL);
    EXPECT_EQ(create_error(spec(type, 8, 8, 0x80000001)), E2BIG);
    EXPECT_EQ(create_error(spec(type, 8, 8, 0x80000001, kApart)), E2BIG);
    EXPECT_EQ(create_error(spec(type, 8, 4U << 20, 2)), E2BIG);
    if (per_cpu) {
      EXPECT_EQ(create_error(spec(type, 8, 32769, 2)), E2BIG);
    }
    MapSpec locked = spec(type, 8, 24, 10);
    locked.fields.spin_lock = 4;
    EXPECT_EQ(create_error(locked), EOPNOTSUPP);
    locked = spec(type, 8, 24, 10);
    locked.fields.res_spin_lock = 4;
    EXPECT_EQ(create_error(locked), EOPNOTSUPP);
  }
  EXPECT_EQ(create_error(spec(BPF_MAP_TYPE_HASH, 8, 8, 10, kApart)), EINVAL);
}

TEST_F(LruCreateTest, ListsOfTheirOwnRoundTheEntriesUp) {
  const uint32_t cpus = machine().cpus();
  for (const uint32_t entries : {1U, cpus, cpus + 1, 1000U}) {
    const auto map = make(spec(kLru, 8, 8, entries, kApart));
    ASSERT_NE(map, nullptr);
    EXPECT_EQ(map->spec().max_entries, (entries + cpus - 1) / cpus * cpus);
  }
}

TEST_F(LruCreateTest, ListsOfTheirOwnProtectAnothersShare) {
  if (machine().cpus() < 2) GTEST_SKIP() << "one CPU";
  constexpr uint64_t kEntries = 4096;
  const auto map = make(spec(kLru, 8, 8, kEntries, kApart));
  ASSERT_NE(map, nullptr);
  const uint64_t share = kEntries / machine().cpus();
  const uint64_t value = 1;
  const auto flood = [&](uint32_t cpu, uint64_t first, uint64_t count) {
    const Lease lease(machine(), Lease::Cpu{cpu});
    for (uint64_t k = first; k < first + count; ++k) ASSERT_EQ(error_of(map->update(lease, &k, &value, 0)), 0);
  };
  flood(0, 0, kEntries);  // also what is free elsewhere
  flood(1, 1'000'000, share);
  flood(0, 2'000'000, 3 * kEntries);
  uint64_t kept = 0, copy = 0;
  for (uint64_t k = 1'000'000; k < 1'000'000 + share; ++k) kept += map->lookup(&k, &copy, 0).has_value();
  EXPECT_GE(kept, share - share / 16) << "the last ones may have been in the share of writers' spare elements";
  EXPECT_EQ(map->check().problem, "");
}

TEST_F(LruCreateTest, ANewKeyStaysWhereverItsElementWas) {
  constexpr uint64_t kEntries = 1000, kOthers = 150;
  const auto map = make(spec(kLru, 8, 8, kEntries));
  ASSERT_NE(map, nullptr);
  const Lease lease(machine(), Lease::Cpu{0});
  const uint64_t value = 1;
  uint64_t next = 0, copy = 0;
  const auto add = [&] { ASSERT_EQ(error_of(map->update(lease, &next, &value, 0)), 0); };
  for (uint64_t i = 0; i < kEntries; ++i, ++next) add();
  std::mt19937_64 random(5);
  for (uint64_t round = 0; round < 300; ++round) {
    for (uint64_t old = next - random() % kEntries; error_of(map->erase(lease, &old)) != 0;) {
      old = next - random() % kEntries;
    }
    const uint64_t fresh = next;
    add();
    ++next;
    for (uint64_t i = 0; i < kOthers; ++i, ++next) add();
    ASSERT_TRUE(map->lookup(&fresh, &copy, 0)) << "went for " << kOthers << " others in round " << round;
  }
  EXPECT_EQ(map->check().problem, "");
}

TEST_F(LruCreateTest, ARareWriterTakesTheOldestToo) {
  if (machine().cpus() < 2) GTEST_SKIP() << "one CPU";
  constexpr uint64_t kEntries = 8192, kYoung = 1000, kRounds = 200;
  const auto map = make(spec(kLru, 8, 8, kEntries));
  ASSERT_NE(map, nullptr);
  const uint64_t value = 1;
  uint64_t next = 0, copy = 0, lost = 0;
  const auto add = [&](uint32_t cpu, uint64_t count) {
    const Lease lease(machine(), Lease::Cpu{cpu});
    for (; count-- > 0; ++next) ASSERT_EQ(error_of(map->update(lease, &next, &value, 0)), 0);
  };
  add(0, kEntries);
  std::mt19937_64 random(7);
  for (uint64_t round = 0; round < kRounds; ++round) {
    add(0, 2000 + random() % (2 * kEntries));
    const uint64_t young = next - kYoung;
    add(1, 24);
    bool all = true;
    for (uint64_t k = young; k < young + kYoung; ++k) all &= map->lookup(&k, &copy, 0).has_value();
    lost += !all;
  }
  EXPECT_LT(lost, kRounds / 10) << "it goes on where it stopped long ago";
}

TEST_F(LruCreateTest, AScanDoesNotFlushWhatIsUsed) {
  constexpr uint64_t kEntries = 1000, kHot = 500;
  const auto map = make(spec(kLru, 8, 8, kEntries));
  ASSERT_NE(map, nullptr);
  const Lease lease(machine(), Lease::Cpu{0});
  const uint64_t value = 1;
  for (uint64_t round = 0; round < 3; ++round) {
    for (uint64_t k = 0; k < kHot; ++k) {
      if (map->find(lease, &k) == nullptr) {
        ASSERT_EQ(error_of(map->update(lease, &k, &value, 0)), 0);
      }
    }
  }
  for (uint64_t k = 1'000'000; k < 1'010'000; ++k) ASSERT_EQ(error_of(map->update(lease, &k, &value, 0)), 0);
  uint64_t kept = 0, copy = 0;
  for (uint64_t k = 0; k < kHot; ++k) kept += map->lookup(&k, &copy, 0).has_value();
  EXPECT_EQ(kept, kHot);
}

}  // namespace
}  // namespace skep
