// SPDX-License-Identifier: Apache-2.0
#include <gtest/gtest.h>

#include <sys/stat.h>

#include <thread>

#include "maps/hash_test_support.h"
#include "maps/key_hash.h"
#include "maps/value_lock.h"

namespace skep {
namespace {

using testing::CollectingSink;
using testing::error_of;

constexpr uint32_t kHash = BPF_MAP_TYPE_HASH, kPerCpu = BPF_MAP_TYPE_PERCPU_HASH;

class HashFlagsTest : public testing::MapTest {};

TEST_F(HashFlagsTest, CreationChecksLinuxDoes) {
  EXPECT_EQ(create_error(spec(kHash, 4, 4, 1)), 0);
  EXPECT_EQ(create_error(spec(kHash, 0, 4, 1)), EINVAL);
  EXPECT_EQ(create_error(spec(kHash, 4, 0, 1)), EINVAL);
  EXPECT_EQ(create_error(spec(kHash, 4, 4, 0)), EINVAL);
  EXPECT_EQ(create_error(spec(kHash, 4, 4194251, 1)), 0);
  EXPECT_EQ(create_error(spec(kHash, 4, 4194252, 1)), E2BIG);
  EXPECT_EQ(create_error(spec(kHash, 4, 4, 1U << 31)), E2BIG);
  EXPECT_EQ(create_error(spec(kHash, 4, 4, UINT32_MAX)), E2BIG);
  EXPECT_EQ(create_error(spec(kPerCpu, 4, 32768, 1)), 0);
  EXPECT_EQ(create_error(spec(kPerCpu, 4, 32769, 1)), E2BIG);
  EXPECT_EQ(create_error(spec(kPerCpu, 4, 4, 1, BPF_F_NUMA_NODE)), EINVAL);
  for (uint32_t bit = 0; bit < 32; ++bit) {
    constexpr uint32_t kAllowed = 1 | 4 | 8 | 16 | 64 | 128 | 256;
    EXPECT_EQ(create_error(spec(kHash, 4, 4, 1, 1U << bit)), kAllowed >> bit & 1 ? 0 : EINVAL) << bit;
  }
  EXPECT_EQ(create_error(spec(kHash, 4, 4, 1, BPF_F_RDONLY_PROG | BPF_F_WRONLY_PROG)), EINVAL);
}

TEST_F(HashFlagsTest, SpecialFieldsOfValues) {
  MapSpec with_lock = spec(kHash, 4, 16, 4);
  with_lock.fields.spin_lock = 4;
  EXPECT_EQ(create_error(with_lock), 0);
  with_lock.type = kPerCpu;
  EXPECT_EQ(create_error(with_lock), EOPNOTSUPP);
  MapSpec with_timer = spec(kHash, 4, 16, 4);
  with_timer.fields.timer = 0;
  EXPECT_EQ(create_error(with_timer), 0);
  with_timer.type = kPerCpu;
  EXPECT_EQ(create_error(with_timer), EOPNOTSUPP);
}

TEST_F(HashFlagsTest, UpdateFlags) {
  auto map = make(spec(kHash, 4, 4, 4));
  const Lease lease(machine());
  const uint32_t key = 1, value = 2;
  for (const uint64_t flags : {3ULL, 4ULL, 8ULL, 16ULL, 1ULL << 32, 8ULL | 1ULL << 32}) {
    EXPECT_EQ(error_of(map->update(lease, &key, &value, flags)), EINVAL) << flags;
  }
  EXPECT_EQ(error_of(map->update(lease, &key, &value, BPF_EXIST)), ENOENT);
  EXPECT_EQ(error_of(map->update(lease, &key, &value, BPF_NOEXIST)), 0);
  EXPECT_EQ(error_of(map->update(lease, &key, &value, BPF_NOEXIST)), EEXIST);
  EXPECT_EQ(error_of(map->update(lease, &key, &value, BPF_EXIST)), 0);
  uint32_t out;
  EXPECT_EQ(error_of(map->lookup(&key, &out, BPF_F_LOCK)), EINVAL);
  EXPECT_EQ(error_of(map->take(lease, &key, &out, BPF_F_LOCK)), EINVAL);
}

TEST_F(HashFlagsTest, ReplacingGivesAnotherElement) {
  auto map = make(spec(kHash, 4, 8, 4));
  const Lease lease(machine());
  const uint32_t key = 1;
  uint64_t value = 11;
  ASSERT_TRUE(map->update(lease, &key, &value, 0));
  const auto* before = static_cast<const uint64_t*>(map->find(lease, &key));
  value = 22;
  ASSERT_TRUE(map->update(lease, &key, &value, 0));
  const auto* after = static_cast<const uint64_t*>(map->find(lease, &key));
  EXPECT_NE(before, after);
  EXPECT_EQ(*before, 11U);
  EXPECT_EQ(*after, 22U);
}

TEST_F(HashFlagsTest, ValueLockIsNeverCopied) {
  MapSpec with_lock = spec(kHash, 4, 16, 4);
  with_lock.fields.spin_lock = 4;
  auto map = make(with_lock);
  const Lease lease(machine());
  const uint32_t key = 1;
  uint32_t value[4] = {1, 0xdeadbeef, 3, 4}, out[4];
  ASSERT_TRUE(map->update(lease, &key, value, BPF_F_LOCK));  // a new key: a plain insert
  ASSERT_TRUE(map->lookup(&key, out, 0));
  EXPECT_EQ(out[1], 0U);
  auto* found = static_cast<std::byte*>(map->find(lease, &key));
  auto& lock = ValueLock::of(found, map->spec().fields);
  EXPECT_EQ(lock.load(), 0U);
  value[0] = 9;
  ASSERT_TRUE(map->update(lease, &key, value, BPF_F_LOCK));  // in place
  EXPECT_EQ(map->find(lease, &key), found);
  EXPECT_EQ(lock.load(), 0U);
  ASSERT_TRUE(map->lookup(&key, out, BPF_F_LOCK));
  EXPECT_EQ(out[0], 9U);
  EXPECT_EQ(out[1], 0U);
  EXPECT_EQ(out[3], 4U);
  auto reader = open_map(last_file(), Access::kReadOnly, machine());
  ASSERT_TRUE(reader);
  ASSERT_TRUE((*reader)->lookup(&key, out, BPF_F_LOCK));
  EXPECT_EQ(out[0], 9U);
  ASSERT_TRUE(ValueLock::acquire(machine(), lock));
  EXPECT_EQ(error_of(map->update(lease, &key, value, BPF_F_LOCK)), EDEADLK);
  ValueLock::release(lock);
  ASSERT_TRUE(map->take(lease, &key, out, BPF_F_LOCK));
  EXPECT_EQ(out[0], 9U);
}

TEST_F(HashFlagsTest, PartsOfPerCpuValues) {
  auto map = make(spec(kPerCpu, 4, 12, 4));
  const uint32_t cpus = machine().cpus();
  const Lease lease(machine(), Lease::Cpu{0});
  const uint32_t key = 1, other = 2;
  std::string part(12, 'p'), out(map->user_value_size(), '?');
  const uint64_t on_last = BPF_F_CPU | uint64_t{cpus - 1} << 32;
  EXPECT_EQ(error_of(map->update(lease, &key, part.data(), BPF_F_CPU | uint64_t{cpus} << 32)), ERANGE);
  EXPECT_EQ(error_of(map->update(lease, &key, part.data(), uint64_t{1} << 32)), EINVAL);
  EXPECT_EQ(error_of(map->update(lease, &key, part.data(), BPF_F_CPU | BPF_F_ALL_CPUS)), EINVAL);
  EXPECT_EQ(error_of(map->update_from_program(lease, &key, part.data(), BPF_F_CPU)), EINVAL);
  EXPECT_EQ(error_of(map->update(lease, &key, part.data(), on_last)), 0);
  EXPECT_EQ(error_of(map->lookup(&key, out.data(), 0)), 0);
  std::string expected(map->user_value_size(), '\0');
  expected.replace(16 * (cpus - 1), 12, part);
  EXPECT_EQ(out, expected) << "the other CPUs' parts of a new key are zeros";

  const std::string mine(12, 'm');
  EXPECT_EQ(error_of(map->update_from_program(lease, &key, mine.data(), BPF_ANY)), 0);
  expected.replace(0, 12, mine);
  EXPECT_EQ(error_of(map->lookup(&key, out.data(), 0)), 0);
  EXPECT_EQ(out, expected);
  EXPECT_EQ(error_of(map->lookup(&key, out.data(), BPF_F_CPU)), 0);
  EXPECT_EQ(out.substr(0, 12), mine);
  EXPECT_EQ(error_of(map->lookup(&key, out.data(), BPF_F_CPU | uint64_t{cpus} << 32)), ERANGE);
  EXPECT_EQ(error_of(map->lookup(&key, out.data(), BPF_F_ALL_CPUS)), EINVAL);

  EXPECT_EQ(error_of(map->update(lease, &key, part.data(), BPF_F_ALL_CPUS)), 0);
  EXPECT_EQ(error_of(map->lookup(&key, out.data(), 0)), 0);
  for (uint32_t cpu = 0; cpu < cpus; ++cpu) EXPECT_EQ(out.substr(16 * cpu, 12), part);

  const std::string padded(map->user_value_size(), '\x77');  // padding is stored and given back
  EXPECT_EQ(error_of(map->update(lease, &other, padded.data(), BPF_ANY)), 0);
  EXPECT_EQ(error_of(map->lookup(&other, out.data(), 0)), 0);
  EXPECT_EQ(out, padded);
  EXPECT_NE(map->find_percpu(lease, &key, cpus - 1), nullptr);
  EXPECT_EQ(map->find_percpu(lease, &key, cpus), nullptr);
  EXPECT_EQ(map->find_percpu(lease, &key, 0), map->find(lease, &key));
}

TEST_F(HashFlagsTest, ChangingAMapFromItsOwnModifyIsRefused) {
  auto map = make(spec(kHash, 4, 8, 4));
  const Lease lease(machine());
  const uint32_t key = 1;
  uint64_t value = 11;
  ASSERT_TRUE(map->update(lease, &key, &value, 0));
  int inner = 0;
  ASSERT_TRUE(map->modify(lease, &key, [&](void* v) {
    inner = error_of(map->erase(lease, &key));
    ++*static_cast<uint64_t*>(v);
  }));
  EXPECT_EQ(inner, EDEADLK);
  ASSERT_TRUE(map->lookup(&key, &value, 0));
  EXPECT_EQ(value, 12U);
}

TEST_F(HashFlagsTest, BatchCursorsAreTheKernels) {
  auto map = make(spec(kHash, 4, 4, 100));
  {
    const Lease lease(machine());
    for (uint32_t i = 0; i < 50; ++i) ASSERT_TRUE(map->update(lease, &i, &i, 0));
  }
  CollectingSink sink(4, 4);
  uint32_t cursor = 0;
  BatchResult result = map->lookup_batch(nullptr, &cursor, 50, 0, sink);
  EXPECT_EQ(result.error, ENOENT) << "an exact fit that consumes the last bucket is the end";
  EXPECT_EQ(result.count, 50U);
  EXPECT_EQ(cursor, 128U);
  result = map->lookup_batch(&cursor, &cursor, 50, 0, sink);
  EXPECT_EQ(result.error, ENOENT);
  EXPECT_EQ(result.count, 0U);
  EXPECT_FALSE(result.cursor_written);
  EXPECT_EQ(map->lookup_batch(nullptr, &cursor, 50, BPF_F_LOCK, sink).error, EINVAL);
  EXPECT_EQ(map->lookup_batch(nullptr, &cursor, 50, BPF_NOEXIST, sink).error, EINVAL);
  CollectingSink refusing(4, 4);
  refusing.limit = 0;
  EXPECT_EQ(map->lookup_batch(nullptr, &cursor, 50, 0, refusing).error, EFAULT);
}

TEST_F(HashFlagsTest, MemoryComesAndGoes) {
  auto map = make(spec(kHash, 8, 1024, 4000, BPF_F_NO_PREALLOC));
  const auto occupied = [this] {
    struct stat status = {};
    fstat(last_file(), &status);
    return static_cast<uint64_t>(status.st_blocks) * 512;
  };
  const uint64_t empty = occupied();
  std::string value(1024, 'v');
  for (uint64_t i = 0; i < 4000; ++i) {
    const Lease lease(machine());
    ASSERT_TRUE(map->update(lease, &i, value.data(), 0));
  }
  const uint64_t full = occupied();
  EXPECT_GT(full, empty + 4000 * 1000);
  for (uint64_t i = 0; i < 4000; ++i) {
    const Lease lease(machine());
    ASSERT_TRUE(map->erase(lease, &i));
  }
  for (uint64_t i = 0; i < 400; ++i) {  // whoever comes by gives back what has waited long enough
    const Lease lease(machine());
    ASSERT_TRUE(map->update(lease, &i, value.data(), 0));
    if (i % 40 == 39) {
      for (uint64_t j = 0; j < 40; ++j) {
        const uint64_t k = i - j;
        ASSERT_TRUE(map->erase(lease, &k));
      }
    }
  }
  EXPECT_LT(occupied(), empty + (full - empty) / 4);
  EXPECT_EQ(map->check().problem, "");
}

TEST_F(HashFlagsTest, MemoryOfLargeElementsGoesWhoeverDeletesThem) {
  auto map = make(spec(kHash, 8, 4096, 400, BPF_F_NO_PREALLOC));
  const auto occupied = [this] {
    struct stat status = {};
    fstat(last_file(), &status);
    return static_cast<uint64_t>(status.st_blocks) * 512;
  };
  const uint64_t empty = occupied();
  const std::string value(4096, 'v');
  for (uint64_t i = 0; i < 400; ++i) {
    const Lease lease(machine());
    ASSERT_TRUE(map->update(lease, &i, value.data(), 0));
  }
  // Each by a thread of its own, hence through the magazines of many slots.
  for (uint64_t i = 0; i < 400; ++i) {
    std::thread([&] {
      const Lease lease(machine());
      EXPECT_TRUE(map->erase(lease, &i));
    }).join();
  }
  EXPECT_LT(occupied(), empty + 400 * 4096 / 4);
  EXPECT_EQ(map->check().problem, "");
}

TEST(KeyHash, DependsOnEveryBitAndOnTheSeed) {
  const uint64_t seeds[2][4] = {{1, 2, 3, 4}, {1, 2, 3, 5}};
  for (const auto function : {KeyHash::Function::kSipHash, KeyHash::best()}) {
    for (const uint32_t size : {1U, 4U, 8U, 13U, 16U, 17U, 40U}) {
      const KeyHash hash(function, seeds[0]);
      std::string key(size, 'k');
      const uint64_t base = hash.of<0>(key.data(), size);
      int flipped = 0;
      for (uint32_t bit = 0; bit < size * 8; ++bit) {
        key[bit / 8] = static_cast<char>(key[bit / 8] ^ 1 << bit % 8);
        flipped += std::popcount(base ^ hash.of<0>(key.data(), size));
        key[bit / 8] = static_cast<char>(key[bit / 8] ^ 1 << bit % 8);
      }
      EXPECT_NEAR(flipped / (size * 8.0), 32, 6) << size;
      if (size == 4) {
        EXPECT_EQ(base, hash.of<4>(key.data(), size));
      }
      if (size == 8) {
        EXPECT_EQ(base, hash.of<8>(key.data(), size));
      }
      if (size == 16) {
        EXPECT_EQ(base, hash.of<16>(key.data(), size));
      }
    }
  }
  const uint64_t key = 7;
  EXPECT_NE(KeyHash(KeyHash::best(), seeds[0]).of<8>(&key, 8), KeyHash(KeyHash::best(), seeds[1]).of<8>(&key, 8));
}

}  // namespace
}  // namespace skep
