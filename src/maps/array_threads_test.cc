// SPDX-License-Identifier: Apache-2.0
// Threads on one array: values verify themselves, so that each reader decides alone whether what it saw was legal.
#include <atomic>
#include <chrono>
#include <thread>

#include "maps/map_test_support.h"

namespace skep {
namespace {

using testing::fill_verifiable;
using testing::verify;

class ArrayThreadsTest : public testing::MapTest {
 protected:
  static constexpr int kWriters = 2;
  static constexpr int kReaders = 2;
  static constexpr uint64_t kWrites = 4000;

  /// Runs `writer(n)` in kWriters threads and `reader()` over and over in kReaders until all writers are done.
  template <class Writer, class Reader>
  void race(const Writer& writer, const Reader& reader) {
    std::atomic<int> writing = kWriters;
    std::vector<std::jthread> threads;
    for (int n = 0; n < kWriters; ++n) {
      threads.emplace_back([&, n] {
        writer(static_cast<uint64_t>(n));
        --writing;
      });
    }
    for (int n = 0; n < kReaders; ++n) {
      threads.emplace_back([&] {
        do {
          reader();
        } while (writing > 0);
      });
    }
  }
};

// O1: no reader sees a mixture.
TEST_F(ArrayThreadsTest, LookupsAreNeverTorn) {
  for (const uint32_t size : {16U, 64U, 1000U, 20000U}) {
    constexpr uint32_t kEntries = 2;
    const auto deadline = std::chrono::steady_clock::now() + std::chrono::milliseconds(250);
    auto map = make(spec(BPF_MAP_TYPE_ARRAY, 4, size, kEntries));
    std::atomic<uint64_t> torn = 0;
    race(
        [&](uint64_t writer) {
          std::vector<std::vector<unsigned char>> values(16, std::vector<unsigned char>(size));
          for (uint64_t i = 0; i < values.size(); ++i) fill_verifiable(values[i], (i + 1) << 1 | writer);
          for (uint64_t i = 0; std::chrono::steady_clock::now() < deadline; ++i) {
            const auto index = static_cast<uint32_t>(i % kEntries);
            const auto& value = values[i % values.size()];
            const Lease lease(machine());
            ASSERT_TRUE(map->update(lease, &index, value.data(), 0));
          }
        },
        [&] {
          std::vector<unsigned char> value(size);
          for (uint32_t index = 0; index < kEntries; ++index) {
            ASSERT_TRUE(map->lookup(&index, value.data(), 0));
            torn += !verify(value.data(), size);
          }
        });
    EXPECT_EQ(torn, 0U) << size;
    EXPECT_EQ(map->check().problem, "");
  }
}

// O4: no modification is lost, whether values are words or not.
TEST_F(ArrayThreadsTest, ModifyLosesNothing) {
  for (const uint32_t size : {4U, 8U, 24U}) {
    auto map = make(spec(BPF_MAP_TYPE_ARRAY, 4, size, 2));
    const uint32_t index = 1;
    race(
        [&](uint64_t) {
          for (uint64_t i = 0; i < kWrites; ++i) {
            const Lease lease(machine());
            ASSERT_TRUE(map->modify(lease, &index, [size](void* value) {
              auto* words = static_cast<uint32_t*>(value);
              ++words[0];
              if (size > 8) ++words[5];
            }));
          }
        },
        [&] {
          uint32_t value[6] = {};
          ASSERT_TRUE(map->lookup(&index, value, 0));
          if (size > 8) {
            ASSERT_EQ(value[0], value[5]);
          }
        });
    uint32_t value[6] = {};
    ASSERT_TRUE(map->lookup(&index, value, 0));
    EXPECT_EQ(value[0], kWriters * kWrites);
  }
}

TEST_F(ArrayThreadsTest, ValueLockExcludes) {
  MapSpec locked = spec(BPF_MAP_TYPE_ARRAY, 4, 40, 1);
  locked.fields.spin_lock = 0;
  auto map = make(locked);
  const uint32_t index = 0;
  race(
      [&](uint64_t writer) {
        uint64_t value[5];
        for (uint64_t i = 0; i < kWrites; ++i) {
          std::fill(value, value + 5, i << 1 | writer);
          const Lease lease(machine());
          ASSERT_TRUE(map->update(lease, &index, value, BPF_F_LOCK));
        }
      },
      [&] {
        uint64_t value[5];
        ASSERT_TRUE(map->lookup(&index, value, BPF_F_LOCK));
        for (int i = 2; i < 5; ++i) ASSERT_EQ(value[i], value[1]);
        ASSERT_EQ(static_cast<uint32_t>(value[0]), 0U);
      });
}

// A lookup sees an update of all CPUs completely or not at all; a program's own part is never torn.
TEST_F(ArrayThreadsTest, PerCpuValues) {
  constexpr uint32_t kSize = 24;
  auto map = make(spec(BPF_MAP_TYPE_PERCPU_ARRAY, 4, kSize, 2));
  const uint32_t cpus = machine().cpus();
  const uint32_t whole = 0, own = 1;
  race(
      [&](uint64_t writer) {
        std::vector<uint64_t> value(cpus * 3);
        for (uint64_t i = 1; i <= kWrites; ++i) {
          std::fill(value.begin(), value.end(), i << 1 | writer);
          const Lease lease(machine());
          ASSERT_TRUE(map->update(lease, &whole, value.data(), 0));
          ASSERT_TRUE(map->update_from_program(lease, &own, value.data(), 0));
        }
      },
      [&] {
        std::vector<uint64_t> value(cpus * 3);
        ASSERT_TRUE(map->lookup(&whole, value.data(), 0));
        for (const uint64_t word : value) ASSERT_EQ(word, value[0]);
        ASSERT_TRUE(map->lookup(&own, value.data(), 0));
        for (uint32_t cpu = 0; cpu < cpus; ++cpu) {
          ASSERT_EQ(value[cpu * 3], value[cpu * 3 + 1]);
          ASSERT_EQ(value[cpu * 3], value[cpu * 3 + 2]);
        }
      });
}

// P2: a program's update of a word counts as one of the updates around it, however a syscall update falls into it.
TEST_F(ArrayThreadsTest, PerCpuWordsSettleOnTheLastUpdate) {
  auto map = make(spec(BPF_MAP_TYPE_PERCPU_ARRAY, 4, 8, 1));
  const uint32_t cpus = machine().cpus();
  const uint32_t index = 0;
  race(
      [&](uint64_t writer) {
        std::vector<uint64_t> all(cpus, 1);
        const uint64_t own = 2;
        for (uint64_t i = 0; i < kWrites; ++i) {
          const Lease lease(machine());
          if (writer == 0) {
            ASSERT_TRUE(map->update(lease, &index, all.data(), 0));
          } else {
            ASSERT_TRUE(map->update_from_program(lease, &index, &own, 0));
          }
        }
      },
      [&] {
        std::vector<uint64_t> value(cpus);
        ASSERT_TRUE(map->lookup(&index, value.data(), 0));
        for (const uint64_t word : value) ASSERT_LE(word, 2U);
      });
  EXPECT_EQ(map->check().problem, "");
}

}  // namespace
}  // namespace skep
