// SPDX-License-Identifier: Apache-2.0
//
// Processes that share one trie and are killed at any moment; SKEP_STRESS multiplies how many.

#include <gtest/gtest.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <thread>

#include "maps/lpm_test_support.h"
#include "memory/test_repeats.h"

namespace skep {
namespace {

using testing::error_of;
using testing::fill_value;
using testing::value_is_whole;

struct KillShape {
  const char* name;
  uint32_t data_size, value_size, max_entries;
};

class LpmKillTest : public testing::MapTest, public ::testing::WithParamInterface<KillShape> {
 protected:
  static constexpr int kWorkers = 6;
  struct Shared {
    std::atomic<uint64_t> progress[kWorkers];
    std::atomic<uint64_t> missed, torn, bad;
  };

  void SetUp() override {
    MapTest::SetUp();
    const KillShape& shape = GetParam();
    map_ =
        make(spec(BPF_MAP_TYPE_LPM_TRIE, shape.data_size + 4, shape.value_size, shape.max_entries, BPF_F_NO_PREALLOC));
    ASSERT_NE(map_, nullptr);
    void* memory = mmap(nullptr, sizeof(Shared), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    ASSERT_NE(memory, MAP_FAILED);
    shared_ = new (memory) Shared{};
    permanent_ = shape.max_entries / 2;
    for (uint32_t i = 0; i < permanent_; ++i) ASSERT_EQ(put(i, 1), 0);
  }
  void TearDown() override {
    map_.reset();
    munmap(shared_, sizeof(Shared));
    MapTest::TearDown();
  }

  /// Full-length prefixes, so that each is its own longest match; dense below two branches.
  [[nodiscard]] std::string key(uint32_t i) const {
    std::string data(GetParam().data_size, '\x11');
    data[0] = static_cast<char>(i & 1);
    data[data.size() - 2] = static_cast<char>(i >> 9);
    data[data.size() - 1] = static_cast<char>(i >> 1);
    return testing::lpm_key(GetParam().data_size * 8, data);
  }
  int put(uint32_t i, uint32_t nonce) {
    std::string value(GetParam().value_size, '\0');
    fill_value(value.data(), value.size(), i, nonce);
    const Lease lease(machine());
    return error_of(map_->update(lease, key(i).data(), value.data(), BPF_ANY));
  }

  void step(std::mt19937_64& random, std::string& value) {
    const auto fixed = static_cast<uint32_t>(random() % permanent_);
    const auto coming = static_cast<uint32_t>(permanent_ + random() % GetParam().max_entries);
    const auto expect = [this](int error, int allowed) { shared_->bad += error != 0 && error != allowed; };
    switch (random() % 6) {
      case 0:
        expect(put(fixed, static_cast<uint32_t>(random())), 0);
        break;
      case 1:
      case 2: {
        // On a busy machine every spare element may wait for a reader that has lost its CPU.
        const int error = put(coming, 7);
        expect(error == ENOMEM ? 0 : error, ENOSPC);
        break;
      }
      case 3:
      case 4: {
        const Lease lease(machine());
        expect(error_of(map_->erase(lease, key(coming).data())), ENOENT);
        break;
      }
      default: {
        const int error = error_of(map_->lookup(key(fixed).data(), value.data(), 0));
        shared_->missed += error != 0;
        shared_->torn += error == 0 && !value_is_whole(value.data(), value.size(), fixed);
      }
    }
  }

  pid_t start(int worker, uint64_t seed) {
    const pid_t child = fork();
    if (child != 0) return child;
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    std::mt19937_64 random(seed);
    std::string value(GetParam().value_size, '\0');
    for (;;) {
      step(random, value);
      shared_->progress[worker].fetch_add(1, std::memory_order_relaxed);
    }
  }

  std::unique_ptr<Map> map_;
  Shared* shared_ = nullptr;
  uint32_t permanent_ = 0;
};

TEST_P(LpmKillTest, SurvivesAnyDeath) {
  std::mt19937_64 random(9);
  pid_t workers[kWorkers];
  for (int i = 0; i < kWorkers; ++i) workers[i] = start(i, random());
  for (uint64_t i = 0; i < testing::repeats(60); ++i) {
    std::this_thread::sleep_for(std::chrono::microseconds(random() % 3000));
    const auto victim = random() % kWorkers;
    kill(workers[victim], SIGKILL);
    waitpid(workers[victim], nullptr, 0);
    workers[victim] = start(static_cast<int>(victim), random());
  }
  bool stuck = false;
  for (int i = 0; i < kWorkers; ++i) {
    const uint64_t before = shared_->progress[i];
    const auto limit = std::chrono::steady_clock::now() + std::chrono::seconds(20);
    while (shared_->progress[i] == before && !stuck) {
      stuck = std::chrono::steady_clock::now() > limit;
      std::this_thread::yield();
    }
  }
  for (const pid_t worker : workers) kill(worker, SIGKILL);
  for (const pid_t worker : workers) waitpid(worker, nullptr, 0);
  EXPECT_FALSE(stuck) << "a worker did not get on";
  EXPECT_EQ(shared_->missed, 0U);
  EXPECT_EQ(shared_->torn, 0U);
  EXPECT_EQ(shared_->bad, 0U);
  const CheckReport report = map_->check();
  ASSERT_EQ(report.problem, "");
  std::string value(GetParam().value_size, '\0');
  for (uint32_t i = 0; i < permanent_; ++i) {
    ASSERT_EQ(error_of(map_->lookup(key(i).data(), value.data(), 0)), 0);
    ASSERT_TRUE(value_is_whole(value.data(), value.size(), i));
  }
  uint64_t added = 0;
  for (uint32_t i = 60000; put(i, 1) == 0; ++i) ++added;
  EXPECT_EQ(report.elements + added, GetParam().max_entries);
  EXPECT_EQ(map_->check().problem, "");
}

INSTANTIATE_TEST_SUITE_P(Shapes, LpmKillTest,
                         ::testing::Values(KillShape{"Small", 4, 24, 16}, KillShape{"Wide", 4, 24, 3000},
                                           KillShape{"Long", 128, 64, 600}, KillShape{"Large", 16, 6000, 100}),
                         [](const auto& shape) { return shape.param.name; });

}  // namespace
}  // namespace skep
