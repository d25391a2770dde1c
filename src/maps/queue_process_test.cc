// SPDX-License-Identifier: Apache-2.0
// QUEUE and STACK between processes that are killed: at every step of each operation, and at random moments with every
// record counted.
#include <signal.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "machine/crash_countdown.h"

#include <chrono>
#include <functional>
#include <random>
#include <set>
#include <thread>

#include "maps/queue_map.cc"
#include "maps/queue_ring.cc"
#include "maps/queue_test_support.h"
#include "maps/stack_map.cc"
#include "memory/test_repeats.h"

namespace skep {
namespace {

class QueueProcessTest : public testing::KeylessTest, public ::testing::WithParamInterface<uint32_t> {
 protected:
  [[nodiscard]] bool queue() const { return GetParam() == BPF_MAP_TYPE_QUEUE; }

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
  /// All that is in the map, popped.
  std::vector<int64_t> drain(Map& map) {
    std::vector<int64_t> values;
    const Lease lease(machine());
    for (int64_t got = 0; (got = pop(map, lease)) != -ENOENT && values.size() < 100;) values.push_back(got);
    return values;
  }
};

INSTANTIATE_TEST_SUITE_P(Kinds, QueueProcessTest, ::testing::Values(BPF_MAP_TYPE_QUEUE, BPF_MAP_TYPE_STACK),
                         [](const auto& kind) { return kind.param == BPF_MAP_TYPE_QUEUE ? "Queue" : "Stack"; });

// For each operation and each state of the map: the process dies at its n-th crash point. What was there before stays,
// but for the value that the operation was about, which is there as before or as after; and the map goes on working.
TEST_P(QueueProcessTest, DeathAtEveryStep) {
  struct Scenario {
    const char* name;
    int filled;
    std::function<void(Map&, const Lease&)> operation;
    std::set<std::vector<int64_t>> outcomes;  // in the order of the queue; the newest value is 9
  };
  const Scenario scenarios[] = {
      {"push", 1, [](Map& m, const Lease& l) { (void)push(m, l, 9); }, {{1}, {1, 9}}},
      {"push into an empty one", 0, [](Map& m, const Lease& l) { (void)push(m, l, 9); }, {{}, {9}}},
      {"pop", 2, [](Map& m, const Lease& l) { (void)pop(m, l); },
       queue() ? std::set<std::vector<int64_t>>{{1, 2}, {2}} : std::set<std::vector<int64_t>>{{1, 2}, {1}}},
      // A producer that drops may die between the drop and the push in a queue; a stack does both in one step.
      {"push that drops", 3, [](Map& m, const Lease& l) { (void)push(m, l, 9, BPF_EXIST); },
       queue() ? std::set<std::vector<int64_t>>{{1, 2, 3}, {2, 3}, {2, 3, 9}}
               : std::set<std::vector<int64_t>>{{1, 2, 3}, {2, 3, 9}}},
  };
  for (const Scenario& scenario : scenarios) {
    for (const int behind : {0, 1}) {  // whether a survivor pushes before anybody looks
      std::set<std::vector<int64_t>> seen;
      bool finished = false;
      for (int step = 1; !finished; ++step) {
        ASSERT_LT(step, 50);
        auto map = make_keyless(GetParam(), 24, 3);
        {
          const Lease lease(machine());
          // Not at the beginning of the ring.
          for (int i = 0; i < 2; ++i) ASSERT_TRUE(push(*map, lease, 5) == 0 && pop(*map, lease) == 5);
          for (int i = 1; i <= scenario.filled; ++i) ASSERT_EQ(push(*map, lease, static_cast<uint64_t>(i)), 0);
        }
        const int status = wait_for(spawn([&] {
          const Lease lease(machine());
          testing::crash_countdown = step;
          scenario.operation(*map, lease);
        }));
        finished = WIFEXITED(status);
        ASSERT_TRUE(finished || WTERMSIG(status) == SIGKILL);
        const auto start = std::chrono::steady_clock::now();
        EXPECT_EQ(map->check().problem, "") << scenario.name << " step " << step;
        std::vector<int64_t> expected_behind;
        if (behind == 1) {
          const Lease lease(machine());
          const int error = push(*map, lease, 77);
          ASSERT_TRUE(error == 0 || error == E2BIG) << error;
          if (error == 0) expected_behind.push_back(77);
        }
        std::vector<int64_t> left = drain(*map);
        if (!queue()) std::reverse(left.begin(), left.end());
        if (!expected_behind.empty()) {
          ASSERT_FALSE(left.empty()) << scenario.name << " step " << step;
          ASSERT_EQ(left.back(), 77) << scenario.name << " step " << step;
          left.pop_back();
        }
        EXPECT_TRUE(scenario.outcomes.contains(left))
            << scenario.name << " step " << step << " left " << ::testing::PrintToString(left);
        seen.insert(left);
        // All of the capacity is there again.
        const Lease lease(machine());
        for (uint64_t i = 0; i < 3; ++i) ASSERT_EQ(push(*map, lease, 20 + i), 0) << scenario.name << " step " << step;
        EXPECT_EQ(push(*map, lease, 30), E2BIG);
        EXPECT_EQ(map->check().problem, "");
        EXPECT_EQ(map->check().elements, 3U);
        EXPECT_LT(std::chrono::steady_clock::now() - start, std::chrono::seconds(2)) << scenario.name << " " << step;
      }
      EXPECT_GE(seen.size(), 2U) << scenario.name << ": deaths before and after the commit were both meant to happen";
    }
  }
}

// A reader that had to claim a cell and died gives the value back.
TEST_P(QueueProcessTest, DeathOfAReaderThatClaimed) {
  if (!queue()) GTEST_SKIP() << "readers of a stack claim nothing";
  int kept = 0, taken = 0;
  for (int step = 1;; ++step) {
    ASSERT_LT(step, 20);
    auto map = make_keyless(GetParam(), 24, 1);
    {
      const Lease lease(machine());
      ASSERT_EQ(push(*map, lease, 1), 0);
    }
    const int status = wait_for(spawn([&] {
      // A signal handler overwrites the value in the middle of each attempt's copy until the reader claims the cell.
      static Map* shared;
      static Machine* shared_machine;
      shared = map.get();
      shared_machine = &machine();
      static int attempts;
      static int dies_at;
      attempts = 0;
      dies_at = step;
      signal(SIGUSR1, [](int) {
        if (++attempts <= static_cast<int>(QueueRing::kAttempts) + 1) {  // the first look does not count
          const Lease lease(*shared_machine);
          (void)push(*shared, lease, 1, BPF_EXIST);
          testing::crash_signal = SIGUSR1;
          testing::crash_countdown = 1;
        } else {
          testing::crash_signal = SIGKILL;
          testing::crash_countdown = dies_at;
        }
      });
      const Lease lease(machine());
      testing::crash_signal = SIGUSR1;
      testing::crash_countdown = 1;
      (void)pop(*map, lease);
    }));
    const std::vector<int64_t> left = drain(*map);
    EXPECT_TRUE(left.empty() || left == std::vector<int64_t>{1}) << step;
    EXPECT_EQ(map->check().problem, "") << step;
    if (WIFEXITED(status)) break;
    (left.empty() ? taken : kept)++;
  }
  EXPECT_GE(kept, 1) << "it died while it held the cell";
  EXPECT_GE(taken, 1) << "it died after its commit";
}

// A process that is stopped with a cell or the lock in hand delays others for a bounded time, and nothing is lost.
TEST_P(QueueProcessTest, StoppedProducer) {
  auto map = make_keyless(GetParam(), 24, 4);
  const pid_t producer = spawn([&] {
    const Lease lease(machine());
    testing::crash_signal = SIGSTOP;
    testing::crash_countdown = queue() ? 2 : 3;
    ASSERT_EQ(push(*map, lease, 1), 0);
  });
  ASSERT_TRUE(WIFSTOPPED(wait_for(producer, WUNTRACED)));
  const Lease lease(machine());
  if (queue()) {
    EXPECT_EQ(pop(*map, lease), -ENOENT) << "nothing has been pushed yet";
    EXPECT_EQ(push(*map, lease, 2), 0) << "other cells are free";
  }
  const auto start = std::chrono::steady_clock::now();
  EXPECT_EQ(pop(*map, lease), -ETIMEDOUT);
  EXPECT_LT(std::chrono::steady_clock::now() - start, std::chrono::seconds(8));
  kill(producer, SIGCONT);
  EXPECT_EQ(wait_for(producer), 0);
  const auto expected = queue() ? std::vector<int64_t>{1, 2} : std::vector<int64_t>{1};
  EXPECT_EQ(drain(*map), expected);
}

// Pushes that stand behind an unfinished one and are not finished either, or never will be, are nothing to wait for;
// a dead one in front of a value is passed over, whatever else is unfinished.
TEST_P(QueueProcessTest, SeveralUnfinishedPushes) {
  if (!queue()) GTEST_SKIP() << "one process at a time changes a stack";
  enum End { kStops, kDies };
  const std::vector<std::vector<End>> cases = {{kStops, kStops}, {kStops, kDies},         {kDies, kStops},
                                               {kDies, kDies},   {kStops, kDies, kStops}, {kDies, kStops, kDies}};
  for (size_t c = 0; c < cases.size(); ++c) {
    SCOPED_TRACE("case " + std::to_string(c));
    auto map = make_keyless(GetParam(), 24, 4);
    const Lease lease(machine());
    for (int i = 0; i < 3; ++i) ASSERT_TRUE(push(*map, lease, 5) == 0 && pop(*map, lease) == 5);
    std::vector<pid_t> stopped;
    std::vector<int64_t> values;
    for (size_t i = 0; i < cases[c].size(); ++i) {
      const pid_t producer = spawn([&] {
        const Lease own(machine());
        testing::crash_signal = cases[c][i] == kStops ? SIGSTOP : SIGKILL;
        testing::crash_countdown = 2;
        ASSERT_EQ(push(*map, own, i + 1), 0);
      });
      const int status = wait_for(producer, WUNTRACED);
      ASSERT_FALSE(WIFEXITED(status));
      if (!WIFSTOPPED(status)) continue;
      stopped.push_back(producer);
      values.push_back(static_cast<int64_t>(i) + 1);
    }
    const auto start = std::chrono::steady_clock::now();
    for (int i = 0; i < 3; ++i) EXPECT_EQ(pop(*map, lease), -ENOENT) << "nothing has been pushed yet";
    EXPECT_EQ(peek(*map), -ENOENT);
    EXPECT_LT(std::chrono::steady_clock::now() - start, std::chrono::seconds(2));
    ASSERT_EQ(push(*map, lease, 9), 0);
    values.push_back(9);
    if (stopped.empty()) {
      EXPECT_EQ(pop(*map, lease), 9);
      values.clear();
    } else if (c == 1) {
      EXPECT_EQ(pop(*map, lease), -ETIMEDOUT) << "what comes first may still come";
    }
    for (const pid_t producer : stopped) {
      kill(producer, SIGCONT);
      EXPECT_EQ(wait_for(producer), 0);
    }
    EXPECT_EQ(map->check().problem, "");
    EXPECT_EQ(drain(*map), values);
    for (uint64_t i = 0; i < 4; ++i) ASSERT_EQ(push(*map, lease, i), 0) << "all of the capacity is there again";
    EXPECT_EQ(push(*map, lease, 30), E2BIG);
  }
}

// Producers and consumers are killed all the time. Every record that a producer knows it pushed comes out once, but for
// those that a dying consumer had in its hands; none comes out that nobody pushed.
TEST_P(QueueProcessTest, EveryRecordIsCounted) {
  constexpr uint64_t kProducers = 3, kConsumers = 2, kRecords = 1 << 20;
  struct Shared {
    std::atomic<uint64_t> begun[kProducers];   // the number that is being pushed
    std::atomic<uint64_t> in_pop[kConsumers];  // 1: within the call, so that a death may take a record with it
    std::atomic<uint64_t> lost_by_deaths;
    std::atomic<uint64_t> popped;
    std::atomic<uint8_t> pushed[kProducers][kRecords];  // 1: the push has returned
    std::atomic<uint8_t> seen[kProducers][kRecords];    // how often it came out
    std::atomic<uint64_t> failed;
  };
  auto* shared = static_cast<Shared*>(
      mmap(nullptr, sizeof(Shared), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0));
  ASSERT_NE(shared, MAP_FAILED);
  for (const uint32_t size : {8U, 200U}) {
    std::memset(static_cast<void*>(shared), 0, sizeof(Shared));
    auto map = make_keyless(GetParam(), size, 5);
    const auto produce = [&](uint64_t number) {
      for (uint64_t record = shared->begun[number] + 1; record < kRecords; ++record) {
        shared->begun[number] = record;
        for (int error = E2BIG; error == E2BIG;) {
          const Lease lease(machine());
          error = push(*map, lease, record * kProducers + number);
          if (error != 0 && error != E2BIG) {
            shared->failed = static_cast<uint64_t>(error);
            _exit(2);
          }
        }
        shared->pushed[number][record] = 1;
      }
    };
    const auto consume = [&](uint64_t number) {
      for (;;) {
        const Lease lease(machine());
        shared->in_pop[number] = 1;
        const int64_t got = pop(*map, lease);
        if (got > 0) {
          const auto value = static_cast<uint64_t>(got);
          if (value == kTorn || value / kProducers >= kRecords) {
            shared->failed = 1000;
            _exit(3);
          }
          if (shared->seen[value % kProducers][value / kProducers]++ != 0) {
            shared->failed = 1001;
            _exit(4);
          }
          ++shared->popped;
        } else if (got != -ENOENT) {
          shared->failed = static_cast<uint64_t>(-got);
          _exit(5);
        }
        shared->in_pop[number] = 0;
      }
    };
    std::vector<pid_t> children;
    const auto start = [&](uint64_t child) {
      return spawn([&] { child < kProducers ? produce(child) : consume(child - kProducers); });
    };
    for (uint64_t i = 0; i < kProducers + kConsumers; ++i) children.push_back(start(i));
    std::mt19937 random(size);
    const uint64_t kills = testing::repeats(50);
    for (uint64_t kill_number = 0; kill_number < kills; ++kill_number) {
      const uint64_t victim = random() % children.size();
      std::this_thread::sleep_for(std::chrono::microseconds(random() % 3000));  // the random moment
      kill(children[victim], SIGKILL);
      const int status = wait_for(children[victim]);
      ASSERT_TRUE(WIFSIGNALED(status)) << "a process ended by itself: " << shared->failed;
      if (victim >= kProducers) {
        // It may have died anywhere between the pop's commit and its own mark.
        shared->lost_by_deaths += shared->in_pop[victim - kProducers].exchange(0);
      }
      children[victim] = start(victim);
      const uint64_t before = shared->popped;
      const auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds(10);
      while (shared->popped == before) {
        ASSERT_LT(std::chrono::steady_clock::now(), deadline) << "nothing moves after kill " << kill_number;
        ASSERT_EQ(shared->failed, 0U);
        std::this_thread::yield();
      }
    }
    for (uint64_t i = 0; i < children.size(); ++i) {
      kill(children[i], SIGKILL);
      EXPECT_TRUE(WIFSIGNALED(wait_for(children[i])));
      if (i >= kProducers) shared->lost_by_deaths += shared->in_pop[i - kProducers];
    }
    for (const int64_t got : drain(*map)) {
      ASSERT_GT(got, 0);
      const auto value = static_cast<uint64_t>(got);
      ASSERT_NE(value, kTorn);
      EXPECT_EQ(shared->seen[value % kProducers][value / kProducers]++, 0) << "twice";
    }
    uint64_t missing = 0, vanished = 0, records = 0;
    for (uint64_t number = 0; number < kProducers; ++number) {
      for (uint64_t record = 1; record <= shared->begun[number]; ++record) {
        ++records;
        const bool lost = shared->seen[number][record] == 0;
        missing += lost && shared->pushed[number][record] == 1;
        vanished += lost && shared->pushed[number][record] == 0;
      }
      EXPECT_EQ(shared->seen[number][shared->begun[number] + 1], 0) << "a record that nobody pushed";
    }
    printf(
        "value %u: %llu records; of those pushed %llu are missing, and %llu consumers died in a pop; %llu vanished "
        "with their producer\n",
        size, static_cast<unsigned long long>(records), static_cast<unsigned long long>(missing),
        static_cast<unsigned long long>(shared->lost_by_deaths.load()), static_cast<unsigned long long>(vanished));
    EXPECT_LE(missing, shared->lost_by_deaths);
    EXPECT_LE(vanished, kills + kProducers);
    EXPECT_GT(records, 1000U);
    EXPECT_EQ(map->check().problem, "");
    EXPECT_EQ(map->check().elements, 0U);
  }
  munmap(shared, sizeof(Shared));
}

}  // namespace
}  // namespace skep
