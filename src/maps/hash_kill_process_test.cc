// SPDX-License-Identifier: Apache-2.0
//
// Processes that share one hash map and are killed at any moment; SKEP_STRESS multiplies how many.

#include <gtest/gtest.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <chrono>
#include <thread>

#include "maps/hash_test_support.h"
#include "memory/test_repeats.h"

namespace skep {
namespace {

using testing::error_of;
using testing::fill_value;
using testing::key_of;
using testing::value_is_whole;

struct KillShape {
  const char* name;
  uint32_t type, key_size, value_size, max_entries, flags;
  bool locked;
};

class HashKillTest : public testing::MapTest, public ::testing::WithParamInterface<KillShape> {
 protected:
  static constexpr int kWorkers = 8;

  struct Shared {
    std::atomic<uint64_t> progress[kWorkers];
    std::atomic<uint64_t> missed, torn, bad;
  };

  void SetUp() override {
    MapTest::SetUp();
    const KillShape& shape = GetParam();
    MapSpec map_spec = spec(shape.type, shape.key_size, shape.value_size, shape.max_entries, shape.flags);
    if (shape.locked) map_spec.fields.spin_lock = shape.value_size - 4;
    map_ = make(map_spec);
    ASSERT_NE(map_, nullptr);
    value_bytes_ = map_->user_value_size();
    permanent_ = shape.max_entries / 2;
    void* memory = mmap(nullptr, sizeof(Shared), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    ASSERT_NE(memory, MAP_FAILED);
    shared_ = new (memory) Shared{};
    const Lease lease(machine());
    for (uint64_t k = 0; k < permanent_; ++k) ASSERT_EQ(put(lease, k, 1, 0), 0);
  }
  void TearDown() override {
    map_.reset();
    munmap(shared_, sizeof(Shared));
    MapTest::TearDown();
  }

  std::string key(uint64_t k) const { return key_of(k, GetParam().key_size); }
  int put(const Lease& lease, uint64_t k, uint32_t nonce, uint64_t flags) {
    std::string value(value_bytes_, '\0');
    fill_value(value.data(), whole_bytes(), k, nonce);
    return error_of(map_->update(lease, key(k).data(), value.data(), flags));
  }
  uint64_t whole_bytes() const { return value_bytes_ - (GetParam().locked ? 4 : 0); }

  struct Verify final : BatchSink {
    explicit Verify(HashKillTest& the_test) : test(the_test) {}
    bool put(const void* keys, const void* values, uint32_t count) override {
      for (uint32_t i = 0; i < count; ++i) {
        uint64_t k = 0;
        std::memcpy(&k, static_cast<const char*>(keys) + i * test.GetParam().key_size,
                    std::min(8U, test.GetParam().key_size));
        test.shared_->torn +=
            !value_is_whole(static_cast<const char*>(values) + i * test.value_bytes_, test.whole_bytes(), k);
      }
      return true;
    }
    HashKillTest& test;
  };

  void step(std::mt19937_64& random, std::string& value) {
    const uint64_t fixed = random() % permanent_;
    const uint64_t coming = permanent_ + random() % GetParam().max_entries;
    const auto nonce = static_cast<uint32_t>(random());
    const auto unexpected = [this](int error, int allowed) { shared_->bad += error != 0 && error != allowed; };
    switch (random() % 10) {
      case 0:
      case 1: {
        const Lease lease(machine());
        unexpected(put(lease, fixed, nonce, GetParam().locked && nonce % 2 == 0 ? BPF_F_LOCK : BPF_ANY), 0);
        break;
      }
      case 2:
      case 3: {
        const Lease lease(machine());
        unexpected(put(lease, coming, nonce, BPF_ANY), E2BIG);
        break;
      }
      case 4:
      case 5: {
        const Lease lease(machine());
        unexpected(error_of(map_->erase(lease, key(coming).data())), ENOENT);
        break;
      }
      case 6: {
        const Lease lease(machine());
        const int error = error_of(map_->take(lease, key(coming).data(), value.data(), 0));
        unexpected(error, ENOENT);
        if (error == 0) shared_->torn += !value_is_whole(value.data(), whole_bytes(), coming);
        break;
      }
      case 7: {
        std::string cursor(map_->batch_cursor_size(), '\0');
        Verify sink(*this);
        const BatchResult result = map_->lookup_batch(nullptr, cursor.data(), 1000, 0, sink);
        unexpected(result.error, ENOENT);
        break;
      }
      case 8: {
        const Lease lease(machine());
        unexpected(error_of(map_->modify(lease, key(fixed).data(), [](void*) {})), 0);
        break;
      }
      default: {
        const int error = error_of(map_->lookup(key(fixed).data(), value.data(), 0));
        shared_->missed += error != 0;
        shared_->torn += !value_is_whole(value.data(), whole_bytes(), fixed);
      }
    }
  }

  pid_t start(int worker, uint64_t seed) {
    const pid_t child = fork();
    if (child != 0) return child;
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    std::mt19937_64 random(seed);
    std::string value(value_bytes_, '\0');
    for (;;) {
      step(random, value);
      shared_->progress[worker].fetch_add(1, std::memory_order_relaxed);
    }
  }

  /// Whether every worker gets on within some seconds.
  bool all_progress() {
    uint64_t before[kWorkers];
    for (int i = 0; i < kWorkers; ++i) before[i] = shared_->progress[i];
    const auto limit = std::chrono::steady_clock::now() + std::chrono::seconds(20);
    for (int i = 0; i < kWorkers; ++i) {
      while (shared_->progress[i] == before[i]) {
        if (std::chrono::steady_clock::now() > limit) return false;
        std::this_thread::yield();
      }
    }
    return true;
  }

  std::unique_ptr<Map> map_;
  Shared* shared_ = nullptr;
  uint64_t value_bytes_ = 0;
  uint64_t permanent_ = 0;
};

TEST_P(HashKillTest, SurvivesAnyDeath) {
  std::mt19937_64 random(7);
  pid_t workers[kWorkers];
  for (int i = 0; i < kWorkers; ++i) workers[i] = start(i, random());
  const uint64_t kills = testing::repeats(60);
  bool stuck = false;
  for (uint64_t i = 0; i < kills && !stuck; ++i) {
    std::this_thread::sleep_for(std::chrono::microseconds(random() % 3000));
    const auto victim = random() % kWorkers;
    kill(workers[victim], SIGKILL);
    waitpid(workers[victim], nullptr, 0);
    workers[victim] = start(static_cast<int>(victim), random());
    if (i % 20 == 19) stuck = !all_progress();
  }
  for (const pid_t worker : workers) kill(worker, SIGKILL);
  for (const pid_t worker : workers) waitpid(worker, nullptr, 0);
  EXPECT_FALSE(stuck) << "a worker did not get on";
  EXPECT_EQ(shared_->missed, 0U);
  EXPECT_EQ(shared_->torn, 0U);
  EXPECT_EQ(shared_->bad, 0U);

  const CheckReport report = map_->check();
  ASSERT_EQ(report.problem, "");
  std::string value(value_bytes_, '\0');
  for (uint64_t k = 0; k < permanent_; ++k) {
    ASSERT_EQ(error_of(map_->lookup(key(k).data(), value.data(), 0)), 0);
    ASSERT_TRUE(value_is_whole(value.data(), whole_bytes(), k));
  }
  const Lease lease(machine());
  uint64_t added = 0;
  for (uint64_t k = 1'000'000; put(lease, k, 1, BPF_NOEXIST) == 0; ++k) ++added;
  EXPECT_EQ(report.elements + added, GetParam().max_entries);
  EXPECT_EQ(map_->check().problem, "");
}

constexpr uint32_t kHash = BPF_MAP_TYPE_HASH, kPerCpu = BPF_MAP_TYPE_PERCPU_HASH, kGrow = BPF_F_NO_PREALLOC;

INSTANTIATE_TEST_SUITE_P(Shapes, HashKillTest,
                         ::testing::Values(KillShape{"Small", kHash, 8, 24, 16, 0, false},
                                           KillShape{"Chains", kHash, 4, 64, 300, 0, false},
                                           KillShape{"Growing", kHash, 12, 3000, 200, kGrow, false},
                                           KillShape{"Large", kHash, 8, 6000, 60, 0, false},
                                           KillShape{"Locked", kHash, 8, 40, 100, 0, true},
                                           KillShape{"PerCpu", kPerCpu, 8, 24, 100, 0, false},
                                           KillShape{"PerCpuGrowing", kPerCpu, 16, 32, 2000, kGrow, false},
                                           KillShape{"Resizable", BPF_MAP_TYPE_RHASH, 8, 40, 300, kGrow, true}),
                         [](const auto& shape) { return shape.param.name; });

}  // namespace
}  // namespace skep
