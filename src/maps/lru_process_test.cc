// SPDX-License-Identifier: Apache-2.0
//
// LRU maps whose writers die: at every store of an eviction once, and at any moment a thousand times. The maps are
// those of skep_crashing_hash_maps.

#include <signal.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "machine/crash_countdown.h"

#include <gtest/gtest.h>

#include <atomic>
#include <chrono>
#include <thread>

#include "maps/lru_map.h"
#include "maps/lru_test_support.h"
#include "memory/test_repeats.h"

namespace skep {
namespace {

using testing::kApart;
using testing::kLru;
using testing::kLruPerCpu;
using testing::LruShape;

class LruProcessTest : public testing::LruTest, public ::testing::WithParamInterface<LruShape> {
 protected:
  void SetUp() override {
    MapTest::SetUp();
    make_lru(GetParam());
  }
};

TEST_P(LruProcessTest, EveryPointOfAnEviction) {
  bool died = true;
  int point = 1;
  for (; died; ++point) {
    SCOPED_TRACE("crash point " + std::to_string(point));
    make_lru(GetParam());
    {
      const Lease lease(machine(), Lease::Cpu{0});
      for (uint64_t k = 0; k < entries_; ++k) ASSERT_EQ(put(lease, k), 0);
      for (uint64_t k = 0; k < entries_; k += 4) map_->find(lease, key(k).data());
    }
    const pid_t child = fork();
    if (child == 0) {
      const Lease lease(machine(), Lease::Cpu{1 % machine().cpus()});
      testing::crash_countdown = point;
      put(lease, entries_, BPF_ANY, 2);      // evicts
      put(lease, entries_ + 1, BPF_ANY, 2);  // uses what was evicted, or evicts
      put(lease, 1, BPF_ANY, 2);             // replaces, if it is there
      testing::crash_countdown = 0;
      _exit(0);
    }
    int status = 0;
    waitpid(child, &status, 0);
    died = WIFSIGNALED(status);
    if (point % 2 == 0) {
      const uint64_t left = check_content();
      EXPECT_GE(left + slack() + 2, entries_);
    }
    ASSERT_NO_FATAL_FAILURE(expect_full_use());
    if (HasFailure()) return;
    map_.reset();
    close(files_.back());
    files_.pop_back();
  }
  EXPECT_GT(point, 20) << "there are no crash points";
}

TEST_P(LruProcessTest, SurvivesAnyDeath) {
  constexpr int kWorkers = 6;
  struct Shared {
    std::atomic<uint64_t> progress[kWorkers];
    std::atomic<uint64_t> bad, torn;
  };
  void* memory = mmap(nullptr, sizeof(Shared), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  ASSERT_NE(memory, MAP_FAILED);
  auto* shared = new (memory) Shared{};
  const auto start = [&](int worker, uint64_t seed) {
    const pid_t child = fork();
    if (child != 0) return child;
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    std::mt19937_64 random(seed);
    for (;;) {
      const uint64_t k = random() % (entries_ * 3);
      const Lease lease(machine());
      int error = 0;
      switch (random() % 6) {
        case 0:
          error = erase(lease, k);
          break;
        case 1:
          static_cast<void>(map_->find(lease, key(k).data()));
          break;
        case 2:
          shared->torn += look(k) == Found::kTorn;
          break;
        default:
          error = put(lease, k, random() % 3, static_cast<uint32_t>(random()));
      }
      shared->bad += error != 0 && error != ENOENT && error != EEXIST;
      shared->progress[worker].fetch_add(1, std::memory_order_relaxed);
    }
  };
  std::mt19937_64 random(11);
  pid_t workers[kWorkers];
  for (int i = 0; i < kWorkers; ++i) workers[i] = start(i, random());
  const uint64_t kills = testing::repeats(200);
  bool stuck = false;
  for (uint64_t i = 0; i < kills && !stuck; ++i) {
    std::this_thread::sleep_for(std::chrono::microseconds(random() % 2000));
    const auto victim = random() % kWorkers;
    kill(workers[victim], SIGKILL);
    waitpid(workers[victim], nullptr, 0);
    workers[victim] = start(static_cast<int>(victim), random());
    if (i % 50 != 49) continue;
    const auto limit = std::chrono::steady_clock::now() + std::chrono::seconds(20);
    for (auto& progress : shared->progress) {
      for (const uint64_t before = progress; progress == before && !stuck; std::this_thread::yield()) {
        stuck = std::chrono::steady_clock::now() > limit;
      }
    }
  }
  for (const pid_t worker : workers) kill(worker, SIGKILL);
  for (const pid_t worker : workers) waitpid(worker, nullptr, 0);
  EXPECT_FALSE(stuck) << "a worker did not get on";
  EXPECT_EQ(shared->bad, 0U);
  EXPECT_EQ(shared->torn, 0U);
  munmap(memory, sizeof(Shared));
  check_content();
  expect_full_use();
}

INSTANTIATE_TEST_SUITE_P(Shapes, LruProcessTest,
                         ::testing::Values(LruShape{"Few", kLru, 8, 16, 8, 0}, LruShape{"Chains", kLru, 8, 16, 256, 0},
                                           LruShape{"Large", kLru, 8, 1500, 70, 0},
                                           LruShape{"Apart", kLru, 8, 16, 300, kApart},
                                           LruShape{"PerCpu", kLruPerCpu, 8, 16, 130, 0}),
                         [](const auto& shape) { return shape.param.name; });

}  // namespace
}  // namespace skep
