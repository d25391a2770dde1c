// SPDX-License-Identifier: Apache-2.0
// Local storage between processes that are killed or stopped: at every step of each operation, and at random moments.
// Whatever they leave is swept, every charge is right, and nothing of an owner's is lost that it did not lose itself.
#include <signal.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "machine/crash_countdown.h"

#include <chrono>
#include <functional>
#include <random>
#include <vector>

#include "storage/local_storage.cc"
#include "storage/owners.cc"
#include "storage/slab.cc"
#include "storage/storage_test_support.h"

namespace skep {
namespace {

using testing::StorageTest;
using testing::TestPart;

constexpr uint32_t kParts = 12;

bool never_gone(const OwnerIdentity&, const OwnerTrace*) { return false; }

class StorageProcessTest : public StorageTest {
 protected:
  void SetUp() override {
    StorageTest::SetUp();
    for (uint32_t i = 1; i <= kParts; ++i) {
      parts_.push_back(std::make_unique<TestPart>(directory(), owners(), i, OwnerKind::kSocket, 8, 1 << 14));
    }
  }

  template <class Body>
  static pid_t spawn(const Body& body) {
    const pid_t child = fork();
    if (child == 0) {
      prctl(PR_SET_PDEATHSIG, SIGKILL);  // a test that fails half-way leaves nobody behind
      body();
      _exit(::testing::Test::HasFailure() ? 1 : 0);
    }
    return child;
  }
  static int wait_for(pid_t child, int options = 0) {
    int status = 0;
    EXPECT_EQ(waitpid(child, &status, options), child);
    return status;
  }

  [[nodiscard]] const StoragePart& part(uint32_t number) const { return **parts_[number]; }
  void fill(const Lease& lease, const Owner& who, uint32_t count, uint64_t base) {
    for (uint32_t i = 0; i < count; ++i) ASSERT_EQ(put(lease, who, part(i), base + i), 0);
  }
  void expect_filled(const Lease& lease, const OwnerIdentity& identity, uint32_t count, uint64_t base) {
    const Owner who = owners().find(identity);
    ASSERT_TRUE(who);
    for (uint32_t i = 0; i < count; ++i) ASSERT_EQ(get(lease, who, part(i)), static_cast<int64_t>(base + i)) << i;
  }

  /// Everything that nobody looked after is looked after.
  void sweep(OwnerGone gone = never_gone) {
    std::atomic<uint32_t> cursor{0};
    for (int round = 0; round < 2; ++round) {
      const Lease lease(machine());
      owners().sweep_all(lease, gone);
      for (const auto& p : parts_) {
        const StoragePart& it = **p;
        cursor = 0;
        it.cells->sweep(lease, cursor, it.cells->seen(),
                        [&](uint32_t cell, OwnerNumber number) { owners().check_element(lease, it, cell, number); });
        it.cells->trim(lease);
      }
    }
  }
  void expect_whole() {
    const Owners::Census census = owners().census();
    EXPECT_EQ(census.problem, "");
    EXPECT_EQ(census.unfinished, 0U);
    uint32_t live = 0;
    for (const auto& p : parts_) {
      const Slab::Census cells = (*p)->cells->census();
      live += cells.live;
      EXPECT_EQ(cells.claimed, 0U);
      EXPECT_EQ(owners().problem_of(**p), "");
    }
    EXPECT_EQ(live, census.entries);
  }
  void expect_nothing() {
    sweep([](const OwnerIdentity&, const OwnerTrace*) { return true; });
    sweep();
    expect_whole();
    const Owners::Census census = owners().census();
    EXPECT_EQ(census.owners, 0U);
    EXPECT_EQ(census.entries, 0U);
    EXPECT_EQ(census.charged, 0U);
    EXPECT_EQ(census.blocks, 0U);
    EXPECT_EQ(census.traces, 0U);
  }

  std::vector<std::unique_ptr<TestPart>> parts_;
};

TEST_F(StorageProcessTest, DeathAtEveryStep) {
  struct Scenario {
    const char* name;
    uint32_t filled;
    std::function<void(const Lease&)> operation;
  };
  const OwnerTrace trace{};
  const auto find_victim = [&] { return owners().find(socket(1)); };
  const auto put_one = [&](const Lease& lease, uint32_t number) {
    static_cast<void>(put(lease, find_victim(), part(number), 99));
  };
  const Scenario scenarios[] = {
      {"the first element of a new owner", 0,
       [&](const Lease& l) {
         const auto made = owners().find_or_make(l, socket(1), &trace);
         if (made) static_cast<void>(put(l, *made, part(0), 99));
       }},
      {"an element more", 3, [&](const Lease& l) { put_one(l, 3); }},
      {"an element in another block", 5, [&](const Lease& l) { put_one(l, 5); }},
      {"a replacement", 3, [&](const Lease& l) { put_one(l, 1); }},
      {"a deletion", 7, [&](const Lease& l) { static_cast<void>(drop(l, find_victim(), part(6))); }},
      {"the last deletion", 1, [&](const Lease& l) { static_cast<void>(drop(l, find_victim(), part(0))); }},
      {"the owner's end", kParts,
       [&](const Lease& l) { static_cast<void>(owners().destroy(l, find_victim().number)); }},
      {"a private owner", 0,
       [&](const Lease& l) {
         const auto made = owners().make(l, {.kind = OwnerKind::kObject, .words = {0, machine().self().value, 0}});
         if (made) static_cast<void>(put(l, *made, part(0), 99));
       }},
  };
  for (const Scenario& scenario : scenarios) {
    for (const bool sweeps_first : {true, false}) {  // or somebody works on before anybody sweeps
      bool finished = false;
      for (int step = 1; !finished; ++step) {
        SCOPED_TRACE(std::string(scenario.name) + " step " + std::to_string(step));
        ASSERT_LT(step, 200);
        {
          const Lease lease(machine());
          if (scenario.filled > 0) fill(lease, owner(lease, socket(1)), scenario.filled, 10);
        }
        const int status = wait_for(spawn([&] {
          const Lease lease(machine());
          testing::crash_countdown = step;
          scenario.operation(lease);
        }));
        finished = WIFEXITED(status);
        ASSERT_TRUE(finished || WTERMSIG(status) == SIGKILL);
        EXPECT_EQ(owners().census().problem, "");
        if (sweeps_first) {
          sweep();
          expect_whole();
        }
        // More others than chunks have blocks, again and again, so that whatever is taken for free is used again.
        const uint64_t others = scenario.filled == kParts && !sweeps_first ? 400 : 3;
        for (int round = 3; round >= 0; --round) {
          for (uint64_t i = 0; i < others; ++i) {
            const Lease lease(machine());
            const Owner other = owner(lease, socket(100 + i));
            fill(lease, other, kParts, 1000 * i);
            if (round > 0) {
              ASSERT_TRUE(owners().destroy(lease, other.number));
            }
          }
        }
        {
          const Lease lease(machine());
          const Owner victim = owner(lease, socket(1));
          ASSERT_EQ(put(lease, victim, part(0), 5), 0);
          EXPECT_EQ(get(lease, victim, part(0)), 5);
          EXPECT_EQ(drop(lease, victim, part(0)), 0);
          EXPECT_EQ(get(lease, victim, part(0)), -1);
          for (uint32_t i = 1; i < scenario.filled; ++i) {
            const int64_t value = get(lease, victim, part(i));
            EXPECT_TRUE(value == 10 + i || value == 99 || value == -1) << i << ": " << value;
          }
        }
        sweep();
        expect_whole();
        for (uint64_t i = 0; i < others; ++i) {
          const Lease lease(machine());
          expect_filled(lease, socket(100 + i), kParts, 1000 * i);
        }
        expect_nothing();
        if (HasFailure()) return;
      }
    }
  }
}

// The table of maps, a chunk that gets memory, and one that loses it.
TEST_F(StorageProcessTest, DeathAtEveryStepOfMapsAndChunks) {
  constexpr uint32_t kCells = 64;
  uint32_t id = 100;
  for (const bool trims : {false, true}) {
    bool finished = false;
    for (int step = 1; !finished; ++step) {
      SCOPED_TRACE(std::string(trims ? "trim" : "claim") + " step " + std::to_string(step));
      ASSERT_LT(step, 1000);
      ++id;
      const testing::TestSlab slab(directory(), machine(), 64, 4 * kCells, 64 * kCells);
      std::vector<uint32_t> cells;
      for (uint32_t i = 0; trims && i < 4 * kCells; ++i) {
        const Lease lease(machine());
        cells.push_back(slab->claim(lease).value());
      }
      for (const uint32_t cell : cells) slab->give_back(cell);
      const int status = wait_for(spawn([&] {
        const Lease lease(machine());
        testing::crash_countdown = step;
        if (!trims) static_cast<void>(owners().register_map(lease, id, OwnerKind::kTask));
        for (uint32_t i = 0; i < 2 * kCells; ++i) {
          if (trims) {
            if (i < 8) slab->trim(lease);
          } else if (const auto cell = slab->claim(lease)) {
            slab->publish(*cell, 1 + *cell);
          }
        }
      }));
      finished = WIFEXITED(status);
      if (!trims) {
        const Lease lease(machine());
        EXPECT_TRUE(owners().register_map(lease, id, OwnerKind::kTask));
        EXPECT_TRUE(owners().knows_map(id));
        owners().unregister_map(id);
        EXPECT_FALSE(owners().knows_map(id));
      }
      std::atomic<uint32_t> cursor{0};
      for (int round = 0; round < 2; ++round) {
        const Lease lease(machine());
        slab->sweep(lease, cursor, 4 * kCells, [&](uint32_t cell, uint64_t meaning) {
          EXPECT_EQ(meaning, 1 + cell);
          slab->retire_once(cell, meaning);
        });
      }
      EXPECT_EQ(slab->census().claimed + slab->census().live, 0U);
      for (uint32_t i = 0; i < 4 * kCells; ++i) {
        Result<uint32_t> cell;
        // What was retired waits for a grace period, which the dead hold back until somebody notices.
        ASSERT_TRUE(eventually([&] { return (cell = slab->claim(Lease(machine()))).has_value(); })) << i;
        std::memset(slab->bytes(*cell), 1, 64);
        slab->publish(*cell, 1);
      }
      EXPECT_EQ(slab->census().live, 4 * kCells);
    }
  }
}

// Several processes that do everything at once and are killed at any moment. Each value tells whose it is.
TEST_F(StorageProcessTest, RandomKills) {
  constexpr uint64_t kOwners = 24;
  constexpr size_t kProcesses = 3;
  struct Shared {
    std::atomic<uint64_t> operations{0};
    std::atomic<uint64_t> wrong{0};
  };
  SharedPage<Shared> shared;
  const auto work = [&](uint32_t seed) {
    std::mt19937 random(seed);
    for (uint64_t serial = 1;; ++serial) {
      const Lease lease(machine());
      const uint64_t id = 1 + random() % kOwners;
      const auto number = static_cast<uint32_t>(random() % kParts);
      const uint64_t mark = id << 40 | uint64_t{number} << 32;
      const OwnerTrace trace{};
      const auto who = owners().find_or_make(lease, socket(id), &trace);
      if (!who) {
        shared->wrong += to_int(who.error()) == ENOMEM ? 1 : 0;
        continue;
      }
      switch (random() % 8) {
        case 0:
        case 1:
        case 2: {
          const int result = put(lease, *who, part(number), mark | (serial & 0xffffff), Expect::kAny);
          shared->wrong += result != 0 && result != -ENOENT ? 1 : 0;
          break;
        }
        case 3:
          drop(lease, *who, part(number));
          break;
        case 4:
          if (random() % 8 == 0) static_cast<void>(owners().destroy(lease, who->number));
          break;
        case 5:
          owners().sweep(lease, 8, never_gone);
          break;
        default: {
          const int64_t value = get(lease, *who, part(number));
          shared->wrong += value != -1 && (static_cast<uint64_t>(value) & ~uint64_t{0xffffffff}) != mark ? 1 : 0;
        }
      }
      ++shared->operations;
    }
  };
  std::array<pid_t, kProcesses> children{};
  uint32_t seed = 1;
  for (pid_t& child : children) child = spawn([&] { work(seed); }), ++seed;
  std::mt19937 random(77);
  for (uint64_t kill_number = 0, kills = testing::repeats(60); kill_number < kills; ++kill_number) {
    const uint64_t until = shared->operations + 50 + random() % 400;
    ASSERT_TRUE(eventually([&] { return shared->operations.load() >= until; }));
    pid_t& victim = children[random() % kProcesses];
    kill(victim, SIGKILL);
    wait_for(victim);
    victim = spawn([&] { work(seed); });
    ++seed;
  }
  for (const pid_t child : children) {
    kill(child, SIGKILL);
    wait_for(child);
  }
  EXPECT_EQ(shared->wrong.load(), 0U);
  EXPECT_EQ(owners().census().problem, "");
  sweep();
  expect_whole();
  for (uint64_t id = 1; id <= kOwners; ++id) {
    const Lease lease(machine());
    const Owner who = owner(lease, socket(id));
    for (uint32_t number = 0; number < kParts; ++number) {
      const int64_t value = get(lease, who, part(number));
      EXPECT_TRUE(value == -1 || static_cast<uint64_t>(value) >> 32 == (id << 8 | number));
      EXPECT_EQ(put(lease, who, part(number), 1), 0);
    }
    for (uint32_t number = 0; number < kParts; ++number) EXPECT_EQ(drop(lease, who, part(number)), 0);
  }
  EXPECT_EQ(owners().census().charged, 0U);
  expect_nothing();
}

// A process that is stopped with an owner's lock keeps that owner's writers waiting for five seconds, and nobody else.
TEST_F(StorageProcessTest, AStoppedProcessDelaysOnlyItsOwnersWriters) {
  {
    const Lease lease(machine());
    fill(lease, owner(lease, socket(1)), 2, 10);
    fill(lease, owner(lease, socket(2)), 2, 20);
    // The cache has something else: a reader who wants to remember finds the lock taken.
    ASSERT_EQ(part(0).cache_slot, 0U);
  }
  const pid_t child = spawn([&] {
    const Lease lease(machine());
    testing::crash_signal = SIGSTOP;
    testing::crash_countdown = 4;
    static_cast<void>(put(lease, owners().find(socket(1)), part(3), 30));
  });
  const int status = wait_for(child, WUNTRACED);
  ASSERT_TRUE(WIFSTOPPED(status));
  using Clock = std::chrono::steady_clock;
  const auto seconds = [](Clock::time_point since) {
    return std::chrono::duration<double>(Clock::now() - since).count();
  };
  auto start = Clock::now();
  {
    const Lease lease(machine());
    const Owner one = owners().find(socket(1));
    for (auto& cached : one.record->cache) cached = 0;
    EXPECT_EQ(get(lease, one, part(0)), 10);
    EXPECT_EQ(get(lease, one, part(1)), 11);
    EXPECT_EQ(get(lease, one, part(3)), -1);
    const Owner two = owners().find(socket(2));
    EXPECT_EQ(put(lease, two, part(0), 21), 0);
    EXPECT_EQ(drop(lease, two, part(0)), 0);
    ASSERT_TRUE(owners().destroy(lease, two.number));
  }
  sweep();
  sweep([](const OwnerIdentity&, const OwnerTrace*) { return true; });
  EXPECT_LT(seconds(start), 4);
  start = Clock::now();
  {
    const Lease lease(machine());
    EXPECT_EQ(put(lease, owners().find(socket(1)), part(4), 40), -ETIMEDOUT);
  }
  EXPECT_GT(seconds(start), 4.5);
  EXPECT_LT(seconds(start), 30);
  kill(child, SIGCONT);
  EXPECT_EQ(wait_for(child), 0);
  {
    const Lease lease(machine());
    EXPECT_EQ(get(lease, owners().find(socket(1)), part(3)), 30);
    EXPECT_EQ(put(lease, owners().find(socket(1)), part(4), 40), 0);
  }
  sweep();
  expect_whole();
  expect_nothing();
}

}  // namespace
}  // namespace skep
