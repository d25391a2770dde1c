// SPDX-License-Identifier: Apache-2.0
#include <cerrno>
#include <random>

#include "maps/map_test_support.h"

namespace skep {
namespace {

using testing::CollectingSink;
using testing::error_of;

class PerCpuArrayMapTest : public testing::MapTest {
 protected:
  static MapSpec array(uint32_t value_size, uint32_t max_entries, uint32_t flags = 0) {
    return spec(BPF_MAP_TYPE_PERCPU_ARRAY, 4, value_size, max_entries, flags);
  }
  static uint64_t on_cpu(uint64_t cpu) { return cpu << 32 | BPF_F_CPU; }
};

TEST_F(PerCpuArrayMapTest, CreationChecks) {
  EXPECT_EQ(create_error(array(8, 4)), 0);
  EXPECT_EQ(create_error(spec(BPF_MAP_TYPE_PERCPU_ARRAY, 8, 8, 4)), EINVAL);
  EXPECT_EQ(create_error(array(0, 4)), EINVAL);
  EXPECT_EQ(create_error(array(8, 0)), EINVAL);
  EXPECT_EQ(create_error(array(32768, 1)), 0);
  EXPECT_EQ(create_error(array(32769, 1)), E2BIG);
  EXPECT_EQ(create_error(array(32768, 0xffffffff)), ENOMEM);
  for (uint32_t bit = 0; bit < 32; ++bit) {
    const bool accepted = (1U << bit & (1U << 3 | 1U << 4 | 1U << 7 | 1U << 8)) != 0;
    EXPECT_EQ(create_error(array(8, 4, 1U << bit)), accepted ? 0 : EINVAL) << "flag bit " << bit;
  }
  MapSpec with = array(16, 4);
  with.fields.spin_lock = 0;
  EXPECT_EQ(create_error(with), EOPNOTSUPP);
}

TEST_F(PerCpuArrayMapTest, ErrorsInOrder) {
  auto map = make(array(8, 4));
  const Lease lease(machine());
  const uint32_t cpus = machine().cpus();
  std::vector<uint64_t> value(cpus);
  const uint32_t inside = 3, outside = 4;
  EXPECT_EQ(error_of(map->lookup(&outside, value.data(), 0)), ENOENT);
  EXPECT_EQ(error_of(map->lookup(&inside, value.data(), BPF_F_LOCK)), EINVAL);
  EXPECT_EQ(error_of(map->lookup(&inside, value.data(), on_cpu(cpus))), ERANGE);
  EXPECT_EQ(error_of(map->lookup(&inside, value.data(), uint64_t{1} << 32)), EINVAL);
  EXPECT_EQ(error_of(map->lookup(&outside, value.data(), on_cpu(0))), ENOENT);
  EXPECT_EQ(error_of(map->update(lease, &inside, value.data(), BPF_EXIST)), 0);
  EXPECT_EQ(error_of(map->update(lease, &inside, value.data(), BPF_NOEXIST)), EEXIST);
  EXPECT_EQ(error_of(map->update(lease, &outside, value.data(), BPF_NOEXIST)), E2BIG);
  EXPECT_EQ(error_of(map->update(lease, &inside, value.data(), 3)), EINVAL);
  EXPECT_EQ(error_of(map->update(lease, &inside, value.data(), BPF_F_LOCK)), EINVAL);
  EXPECT_EQ(error_of(map->update(lease, &inside, value.data(), on_cpu(cpus))), ERANGE);
  EXPECT_EQ(error_of(map->update(lease, &inside, value.data(), on_cpu(0) | BPF_F_ALL_CPUS)), EINVAL);
  EXPECT_EQ(error_of(map->update(lease, &inside, value.data(), uint64_t{1} << 32 | BPF_F_ALL_CPUS)), EINVAL);
  EXPECT_EQ(error_of(map->update_from_program(lease, &inside, value.data(), BPF_F_CPU)), EINVAL);
  EXPECT_EQ(error_of(map->update_from_program(lease, &inside, value.data(), BPF_F_LOCK)), EINVAL);
  EXPECT_EQ(error_of(map->update_from_program(lease, &outside, value.data(), 0)), E2BIG);
  EXPECT_EQ(error_of(map->update_from_program(lease, &inside, value.data(), BPF_NOEXIST)), EEXIST);
  EXPECT_EQ(error_of(map->erase(lease, &inside)), EINVAL);
  EXPECT_EQ(error_of(map->take(lease, &inside, value.data(), 0)), kEnotsupp);
  EXPECT_EQ(map->find(lease, &outside), nullptr);
  EXPECT_EQ(map->find_percpu(lease, &inside, cpus), nullptr);
  EXPECT_NE(map->find_percpu(lease, &inside, cpus - 1), nullptr);
}

TEST_F(PerCpuArrayMapTest, PaddingIsStoredAndReturned) {
  auto map = make(array(3, 2));
  const Lease lease(machine());
  const uint32_t index = 1;
  ASSERT_EQ(map->user_value_size(), machine().cpus() * 8U);
  std::vector<unsigned char> value(map->user_value_size(), 0x77);
  ASSERT_TRUE(map->update(lease, &index, value.data(), 0));
  std::vector<unsigned char> copy(value.size());
  ASSERT_TRUE(map->lookup(&index, copy.data(), 0));
  EXPECT_EQ(copy, value);

  // A program writes value_size bytes of its own part and nothing else.
  const unsigned char part[3] = {1, 2, 3};
  ASSERT_TRUE(map->update_from_program(lease, &index, part, 0));
  std::memcpy(value.data() + lease.cpu() * 8, part, 3);
  ASSERT_TRUE(map->lookup(&index, copy.data(), 0));
  EXPECT_EQ(copy, value);
}

TEST_F(PerCpuArrayMapTest, OneCpuAndAllCpus) {
  for (const uint32_t size : {4U, 8U, 12U, 40U}) {
    auto map = make(array(size, 3));
    const Lease lease(machine());
    const uint32_t index = 2;
    const uint32_t last = machine().cpus() - 1;
    const uint32_t room = (size + 7) / 8 * 8;
    std::vector<unsigned char> part(size, 0x11);
    ASSERT_TRUE(map->update(lease, &index, part.data(), BPF_F_ALL_CPUS));
    part.assign(size, 0x22);
    ASSERT_TRUE(map->update(lease, &index, part.data(), on_cpu(last)));
    std::vector<unsigned char> all(map->user_value_size());
    ASSERT_TRUE(map->lookup(&index, all.data(), 0));
    for (uint32_t cpu = 0; cpu <= last; ++cpu) {
      for (uint32_t i = 0; i < room; ++i) {
        const unsigned char expected = i >= size ? 0 : cpu == last ? 0x22 : 0x11;
        ASSERT_EQ(all[cpu * room + i], expected) << "size " << size << " cpu " << cpu << " byte " << i;
      }
    }
    std::vector<unsigned char> one(size + 1, 0xcc);
    ASSERT_TRUE(map->lookup(&index, one.data(), on_cpu(last)));
    EXPECT_EQ(one[size - 1], 0x22);
    EXPECT_EQ(one[size], 0xcc) << "wrote past value_size";
    EXPECT_EQ(static_cast<unsigned char*>(map->find_percpu(lease, &index, last))[0], 0x22);
  }
}

TEST_F(PerCpuArrayMapTest, RandomOperationsFollowAModel) {
  const uint32_t cpus = machine().cpus();
  for (const uint32_t size : {1U, 4U, 7U, 8U, 9U, 24U, 100U}) {
    constexpr uint32_t kEntries = 19;
    const uint32_t room = (size + 7) / 8 * 8;
    auto map = make(array(size, kEntries));
    using Bytes = std::vector<unsigned char>;
    std::vector<Bytes> model(kEntries, Bytes(uint64_t{room} * cpus));
    std::mt19937 random(size);
    for (int step = 0; step < 3000; ++step) {
      const Lease lease(machine(), Lease::Cpu{static_cast<uint32_t>(random() % cpus)});
      const auto index = static_cast<uint32_t>(random() % kEntries);
      const auto cpu = static_cast<uint32_t>(random() % cpus);
      Bytes value(uint64_t{room} * cpus);
      for (auto& byte : value) byte = static_cast<unsigned char>(random());
      const auto own = model[index].begin() + lease.cpu() * room;
      switch (random() % 6) {
        case 0:
          ASSERT_TRUE(map->update(lease, &index, value.data(), 0));
          model[index] = value;
          break;
        case 1:
          ASSERT_TRUE(map->update_from_program(lease, &index, value.data(), 0));
          std::copy(value.begin(), value.begin() + size, own);
          break;
        case 2:
          ASSERT_TRUE(map->modify(lease, &index, [](void* bytes) { ++*static_cast<unsigned char*>(bytes); }));
          ++*own;
          break;
        case 3:
          ASSERT_TRUE(map->update(lease, &index, value.data(), on_cpu(cpu)));
          std::copy(value.begin(), value.begin() + size, model[index].begin() + cpu * room);
          break;
        case 4:
          ASSERT_EQ(std::memcmp(map->find(lease, &index), &*own, size), 0);
          break;
        default:
          ASSERT_TRUE(map->lookup(&index, value.data(), 0));
          ASSERT_EQ(value, model[index]);
      }
    }
    EXPECT_EQ(map->check().problem, "");
  }
}

TEST_F(PerCpuArrayMapTest, BatchDeliversEveryCpu) {
  auto map = make(array(8, 5));
  const Lease lease(machine());
  std::vector<uint64_t> value(machine().cpus());
  for (uint32_t i = 0; i < 5; ++i) {
    for (uint32_t cpu = 0; cpu < machine().cpus(); ++cpu) value[cpu] = i * 100 + cpu;
    ASSERT_TRUE(map->update(lease, &i, value.data(), 0));
  }
  uint32_t cursor;
  CollectingSink sink(4, map->user_value_size());
  const auto result = map->lookup_batch(nullptr, &cursor, 100, 0, sink);
  EXPECT_EQ(result.error, ENOENT);
  EXPECT_EQ(result.count, 5U);
  std::memcpy(value.data(), sink.values.data() + 4 * map->user_value_size(), map->user_value_size());
  EXPECT_EQ(value[0], 400U);
  EXPECT_EQ(value.back(), 400U + machine().cpus() - 1);
}

TEST_F(PerCpuArrayMapTest, CpusShareNoCacheLine) {
  if (machine().cpus() < 2) GTEST_SKIP() << "needs two CPUs";
  auto map = make(array(8, 1));
  const Lease lease(machine());
  const uint32_t index = 0;
  const auto first = reinterpret_cast<uintptr_t>(map->find_percpu(lease, &index, 0));
  const auto second = reinterpret_cast<uintptr_t>(map->find_percpu(lease, &index, 1));
  EXPECT_GE(second - first, 128U);
  EXPECT_EQ(first % 64, 0U);
}

}  // namespace
}  // namespace skep
