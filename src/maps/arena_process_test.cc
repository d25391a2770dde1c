// SPDX-License-Identifier: Apache-2.0
// Arenas between processes that are killed: at every step of each operation, and at random moments.
#include <sched.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "machine/crash_countdown.h"

#include <functional>
#include <random>
#include <thread>

#include "maps/arena_test_support.h"
#include "memory/test_repeats.h"
// Whose open() must not hide that of the above.
#include "maps/arena_map.cc"
#include "maps/arena_pages.cc"

namespace skep {
namespace {

class ArenaProcessTest : public testing::ArenaTest {
 protected:
  /// Runs `body` in a child; the signal that ended it, 0: none.
  template <class Body>
  static int signal_of_child(const Body& body) {
    const pid_t child = fork();
    if (child == 0) {
      prctl(PR_SET_PDEATHSIG, SIGKILL);
      body();
      _exit(0);
    }
    int status = 0;
    EXPECT_EQ(waitpid(child, &status, 0), child);
    return WIFSIGNALED(status) ? WTERMSIG(status) : 0;
  }
};

struct Operation {
  const char* name;
  std::function<void(ArenaMap&, const Lease&)> run;
  std::function<void(ArenaMap&, const Lease&)> repeat;  // possible whichever way the first one went
  uint32_t elements_before, elements_after;
};

/// A death at any point leaves the operation done or not done, also when the one that repairs dies in turn.
TEST_F(ArenaProcessTest, DeathAtEveryPoint) {
  constexpr uint64_t kAt = kBase;
  const Operation operations[] = {
      {"allocate", [](ArenaMap& map, const Lease& lease) { map.allocate(lease, 0, 70); },
       [](ArenaMap& map, const Lease& lease) { map.allocate(lease, 0, 1); }, 2, 72},
      {"free", [](ArenaMap& map, const Lease& lease) { map.release(lease, kAt, 2); },
       [](ArenaMap& map, const Lease& lease) { map.release(lease, kAt, 1); }, 2, 0},
      {"reserve", [](ArenaMap& map, const Lease& lease) { (void)map.reserve(lease, kAt + 3 * kPageSize, 70); },
       [](ArenaMap& map, const Lease& lease) { map.release(lease, kAt + 90 * kPageSize, 1); }, 2, 2},
  };
  for (const Operation& operation : operations) {
    int deaths = 0;
    for (int point = 1;; ++point) {
      const auto map = make_arena(100);
      {
        const Lease lease(machine());
        ASSERT_EQ(map->allocate(lease, 0, 2), kAt);
      }
      const int signal = signal_of_child([&] {
        const Lease lease(machine());
        testing::crash_countdown = point;
        operation.run(*map, lease);
      });
      if (signal == 0) {
        EXPECT_EQ(map->check().elements, operation.elements_after) << operation.name;
        break;
      }
      ++deaths;
      for (int repair = 1; repair <= 4; ++repair) {
        signal_of_child([&] {
          const Lease lease(machine());
          testing::crash_countdown = repair;
          operation.repeat(*map, lease);
        });
      }
      const Lease lease(machine());
      map->release(lease, kAt, 100);
      const CheckReport report = map->check();
      EXPECT_EQ(report.problem, "") << operation.name << " died at " << point;
      EXPECT_EQ(report.free_elements, 100U) << operation.name << " died at " << point;
      EXPECT_EQ(map->allocate(lease, 0, 100), kAt);
      for (uint32_t i = 0; i < 100; ++i) ASSERT_EQ(word(*map, lease, kAt + i * kPageSize)->load(), 0U);
    }
    EXPECT_GE(deaths, 3) << operation.name;
  }
}

/// Before anything else happens: what the dead one had been told is his stays, the rest is as before.
TEST_F(ArenaProcessTest, OneDeathIsOneOperationOrNone) {
  for (int point = 1; point < 20; ++point) {
    const auto map = make_arena(8);
    const int signal = signal_of_child([&] {
      const Lease lease(machine());
      testing::crash_countdown = point;
      map->allocate(lease, 0, 3);
    });
    {
      const Lease lease(machine());
      map->release(lease, kBase + 7 * kPageSize, 1);  // takes the lock, and repairs
    }
    const CheckReport report = map->check();
    EXPECT_EQ(report.problem, "");
    EXPECT_TRUE(report.elements == 0 || report.elements == 3) << report.elements;
    EXPECT_EQ(report.free_elements, 8 - report.elements);
    if (signal == 0) break;
  }
}

/// In a child that mounts a small file system for itself.
TEST_F(ArenaProcessTest, AFullFileSystemIsAFailedAllocation) {
  constexpr int kNotPermitted = 77;
  const pid_t child = fork();
  if (child == 0) {
    if (unshare(CLONE_NEWNS) != 0 || mount(nullptr, "/", nullptr, MS_REC | MS_PRIVATE, nullptr) != 0 ||
        mount("tmpfs", directory_.path().c_str(), "tmpfs", 0, "size=2m") != 0) {
      _exit(kNotPermitted);
    }
    const auto map = make_arena(1024);
    const Lease lease(machine());
    uint32_t got = 0;
    while (map->allocate(lease, 0, 1) == page(got)) ++got;
    const bool some = got > 100 && got < 512;
    const bool full = map->allocate(lease, 0, 200) == 0 && word(*map, lease, page(got)) == nullptr;
    map->release(lease, page(3), 50);
    const bool again = map->allocate(lease, 0, 50) == page(3) && map->allocate(lease, 0, 50) == 0;
    _exit(some && full && again && map->check().problem.empty() ? 0 : 1);
  }
  int status = 0;
  ASSERT_EQ(waitpid(child, &status, 0), child);
  ASSERT_TRUE(WIFEXITED(status)) << "signal " << WTERMSIG(status);
  if (WEXITSTATUS(status) == kNotPermitted) GTEST_SKIP() << "mounting a tmpfs is forbidden";
  EXPECT_EQ(WEXITSTATUS(status), 0);
}

TEST_F(ArenaProcessTest, SurvivesAnyDeath) {
  constexpr int kWorkers = 4;
  constexpr uint32_t kPages = 64;
  const auto map = make_arena(kPages);
  struct Shared {
    std::atomic<uint64_t> progress[kWorkers];
  };
  auto* shared =
      static_cast<Shared*>(mmap(nullptr, sizeof(Shared), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0));
  ASSERT_NE(shared, MAP_FAILED);
  const auto start = [&](int worker, uint64_t seed) {
    const pid_t child = fork();
    if (child != 0) return child;
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    std::mt19937_64 random(seed);
    for (;;) {
      const Lease lease(machine());
      const auto count = static_cast<uint32_t>(1 + random() % 4);
      if (const uint64_t got = map->allocate(lease, 0, count); got != 0) {
        // Others may free it at any moment.
        for (uint32_t i = 0; i < count; ++i) {
          if (auto* const mine = word(*map, lease, got + i * kPageSize)) mine->store(1);
        }
        map->release(lease, got, count);
      } else {
        map->release(lease, page(random() % kPages), count);  // what the dead have left, or somebody's
      }
      ++shared->progress[worker];
    }
  };
  std::mt19937_64 random(5);
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
  for (const auto& progress : shared->progress) {
    const uint64_t before = progress;
    const auto limit = std::chrono::steady_clock::now() + std::chrono::seconds(20);
    while (progress == before && !stuck) {
      stuck = std::chrono::steady_clock::now() > limit;
      std::this_thread::yield();
    }
  }
  for (const pid_t worker : workers) kill(worker, SIGKILL);
  for (const pid_t worker : workers) waitpid(worker, nullptr, 0);
  EXPECT_FALSE(stuck) << "a worker did not get on";
  {
    const Lease lease(machine());
    map->release(lease, kBase, kPages);
  }
  EXPECT_EQ(map->check().problem, "");
  EXPECT_EQ(map->check().free_elements, kPages);
  munmap(shared, sizeof(Shared));
}

}  // namespace
}  // namespace skep
