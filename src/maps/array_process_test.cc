// SPDX-License-Identifier: Apache-2.0
// Processes that share arrays and are killed: at every step of a write, and at random moments.
#include <signal.h>
#include <sys/prctl.h>
#include <sys/wait.h>

#include <chrono>
#include <functional>
#include <random>
#include <thread>

#include "maps/map_test_support.h"
#include "maps/striped_values.h"
#include "maps/value_lock.h"

namespace skep {
namespace {

using testing::fill_verifiable;
using testing::verify;

/// Kills this process at the n-th step of a write.
struct KillingProbe {
  static constexpr bool kEnabled = true;
  int* countdown;
  void operator()() const {
    if (--*countdown == 0) raise(SIGKILL);
  }
};

class ArrayProcessTest : public testing::MapTest {
 protected:
  /// Runs `body` in a child; it ends with _exit(0) unless it dies before.
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
  static int wait_for(pid_t child) {
    int status = 0;
    EXPECT_EQ(waitpid(child, &status, 0), child);
    return status;
  }
};

// O3 with real deaths: whoever comes next finds the old or the new value, at once, and the stripe is usable.
TEST_F(ArrayProcessTest, DeathAtEveryStepOfAWrite) {
  constexpr uint32_t kSize = 64;
  constexpr uint32_t kEntries = 1;
  auto map = make(spec(BPF_MAP_TYPE_ARRAY, 4, kSize, kEntries));
  const auto plan = StripedValues::plan(kEntries, 1, kSize);
  const ValuePlaces places = {.base = map->segments().user.data(),
                              .elements = kEntries,
                              .element_stride = kSize,
                              .piece_stride = 0,
                              .pieces = 1,
                              .piece_room = kSize};
  const uint32_t index = 0;
  const std::vector<unsigned char> old_value(kSize, 0x11), new_value(kSize, 0x22);
  bool finished = false;
  int old_seen = 0, new_seen = 0;
  for (int step = 1; !finished; ++step) {
    ASSERT_LT(step, 100);
    {
      const Lease lease(machine());
      ASSERT_TRUE(map->update(lease, &index, old_value.data(), 0)) << "the stripe of a dead holder was not taken over";
    }
    const int status = wait_for(spawn([&] {
      int countdown = step;
      StripedValues values(map->segments().control.data() + kControlOffset, plan, places, FieldGaps(ValueFields{}),
                           true, machine());
      const Lease lease(machine());
      (void)values.write(lease, {0, 0, 1, kSize}, new_value.data(), 0, KillingProbe{&countdown});
    }));
    finished = WIFEXITED(status);
    std::vector<unsigned char> before(kSize), after(kSize);
    ASSERT_TRUE(map->lookup(&index, before.data(), 0));
    EXPECT_TRUE(before == old_value || before == new_value) << "torn at step " << step;
    EXPECT_EQ(map->check().problem, "") << step;
    {
      const Lease lease(machine());
      map->settle(lease, map->find(lease, &index));
      EXPECT_EQ(std::memcmp(map->find(lease, &index), before.data(), kSize), 0) << "not in place after settle()";
    }
    ASSERT_TRUE(map->lookup(&index, after.data(), 0));
    EXPECT_EQ(after, before) << step;
    (before == old_value ? old_seen : new_seen)++;
  }
  EXPECT_GE(old_seen, 3);
  EXPECT_GE(new_seen, 4);
}

// A writer that is stopped in the middle of a write delays no reader.
TEST_F(ArrayProcessTest, StoppedWriterDoesNotStopReaders) {
  constexpr uint32_t kSize = 128;
  auto map = make(spec(BPF_MAP_TYPE_ARRAY, 4, kSize, 1));
  const pid_t writer = spawn([&] {
    std::vector<unsigned char> value(kSize);
    const uint32_t index = 0;
    for (uint64_t i = 1;; ++i) {
      fill_verifiable(value, i);
      const Lease lease(machine());
      (void)map->update(lease, &index, value.data(), 0);
    }
  });
  ASSERT_GT(writer, 0);
  std::vector<unsigned char> value(kSize);
  const uint32_t index = 0;
  for (int round = 0; round < 50; ++round) {
    kill(writer, SIGSTOP);
    int status = 0;
    ASSERT_EQ(waitpid(writer, &status, WUNTRACED), writer);
    const auto start = std::chrono::steady_clock::now();
    for (int i = 0; i < 100; ++i) {
      ASSERT_TRUE(map->lookup(&index, value.data(), 0));
      ASSERT_TRUE(verify(value.data(), kSize));
    }
    EXPECT_LT(std::chrono::steady_clock::now() - start, std::chrono::seconds(1));
    kill(writer, SIGCONT);
    std::this_thread::yield();
  }
  kill(writer, SIGKILL);
  wait_for(writer);
}

TEST_F(ArrayProcessTest, ValueLockOfADeadProcessIsTakenOver) {
  MapSpec locked = spec(BPF_MAP_TYPE_ARRAY, 4, 16, 1);
  locked.fields.spin_lock = 0;
  auto map = make(locked);
  const uint32_t index = 0;
  std::atomic<uint32_t>* word = nullptr;
  {
    const Lease lease(machine());
    word = &ValueLock::of(map->find(lease, &index), locked.fields);
  }
  wait_for(spawn([&] {
    const Lease lease(machine());
    (void)ValueLock::acquire(machine(), *word);
    raise(SIGKILL);
  }));
  EXPECT_NE(word->load(), 0U);
  const Lease lease(machine());
  const uint64_t value[2] = {5, 6};
  const auto start = std::chrono::steady_clock::now();
  EXPECT_TRUE(map->update(lease, &index, value, BPF_F_LOCK));
  EXPECT_LT(std::chrono::steady_clock::now() - start, std::chrono::seconds(1));
  EXPECT_EQ(word->load(), 0U);
}

// A lookup that takes the value's lock over from a dead writer gives it back with the write completed: programs look
// at the value in its place.
TEST_F(ArrayProcessTest, LockedLookupCompletesADeadWritersWrite) {
  constexpr uint32_t kSize = 64;
  MapSpec locked = spec(BPF_MAP_TYPE_ARRAY, 4, kSize, 1);
  locked.fields.spin_lock = 0;
  auto map = make(locked);
  const uint32_t index = 0;
  const auto plan = StripedValues::plan(1, 1, kSize);
  const ValuePlaces places = {.base = map->segments().user.data(),
                              .elements = 1,
                              .element_stride = kSize,
                              .piece_stride = 0,
                              .pieces = 1,
                              .piece_room = kSize};
  const std::vector<unsigned char> new_value(kSize, 0x22);
  bool finished = false;
  int new_seen = 0;
  for (int step = 1; !finished; ++step) {
    ASSERT_LT(step, 100);
    {
      const Lease lease(machine());
      const std::vector<unsigned char> old_value(kSize, 0x11);
      ASSERT_TRUE(map->update(lease, &index, old_value.data(), BPF_F_LOCK));
    }
    const int status = wait_for(spawn([&] {
      int countdown = step;
      StripedValues values(map->segments().control.data() + kControlOffset, plan, places, FieldGaps(locked.fields),
                           true, machine());
      const Lease lease(machine());
      auto& word = ValueLock::of(map->find(lease, &index), locked.fields);
      (void)ValueLock::acquire(machine(), word);
      (void)values.write(lease, {0, 0, 1, kSize}, new_value.data(), 0, KillingProbe{&countdown});
      ValueLock::release(word);
    }));
    finished = WIFEXITED(status);
    std::vector<unsigned char> seen(kSize);
    ASSERT_TRUE(map->lookup(&index, seen.data(), BPF_F_LOCK));
    const Lease lease(machine());
    EXPECT_EQ(std::memcmp(map->find(lease, &index), seen.data(), kSize), 0) << "not in place at step " << step;
    new_seen += seen[8] == 0x22;
  }
  EXPECT_GE(new_seen, 4);
}

// Four processes hammer both kinds while random ones are killed: nothing is torn, nobody is stuck.
TEST_F(ArrayProcessTest, RandomKills) {
  constexpr uint32_t kSize = 200;
  constexpr uint32_t kEntries = 5;
  constexpr int kProcesses = 4;
  constexpr int kKills = 100;
  auto array = make(spec(BPF_MAP_TYPE_ARRAY, 4, kSize, kEntries));
  auto percpu = make(spec(BPF_MAP_TYPE_PERCPU_ARRAY, 4, kSize, kEntries));
  auto progress = make(spec(BPF_MAP_TYPE_ARRAY, 4, 8, kProcesses));
  const uint64_t percpu_size = percpu->user_value_size();

  const auto hammer = [&](uint32_t number, unsigned seed) {
    std::mt19937_64 random(seed);
    std::vector<unsigned char> value(percpu_size);
    for (;;) {
      const auto index = static_cast<uint32_t>(random() % kEntries);
      fill_verifiable(value, random() | 1);
      const Lease lease(machine());
      if (!array->update(lease, &index, value.data(), 0) || !percpu->update(lease, &index, value.data(), 0)) _exit(2);
      if (!array->lookup(&index, value.data(), 0) || !verify(value.data(), kSize)) _exit(3);
      if (!percpu->lookup(&index, value.data(), 0) || !verify(value.data(), percpu_size)) _exit(4);
      if (!progress->modify(lease, &number, [](void* count) { ++*static_cast<uint64_t*>(count); })) _exit(5);
    }
  };
  const auto progress_of = [&](uint32_t number) {
    uint64_t count = 0;
    EXPECT_TRUE(progress->lookup(&number, &count, 0));
    return count;
  };

  std::mt19937 random(1);
  std::vector<pid_t> children;
  for (uint32_t i = 0; i < kProcesses; ++i) children.push_back(spawn([&] { hammer(i, i); }));
  for (int kills = 0; kills < kKills; ++kills) {
    const auto victim = static_cast<uint32_t>(random() % kProcesses);
    std::this_thread::sleep_for(std::chrono::microseconds(random() % 3000));  // the random moment
    kill(children[victim], SIGKILL);
    const int status = wait_for(children[victim]);
    ASSERT_TRUE(WIFSIGNALED(status)) << "a process ended by itself with " << WEXITSTATUS(status);
    children[victim] = spawn([&] { hammer(victim, static_cast<unsigned>(kills) + 100); });
    for (uint32_t i = 0; i < kProcesses; ++i) {
      const uint64_t before = progress_of(i);
      const auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds(10);
      while (progress_of(i) == before) {
        ASSERT_LT(std::chrono::steady_clock::now(), deadline) << "process " << i << " is stuck after kill " << kills;
        std::this_thread::yield();
      }
    }
  }
  for (const pid_t child : children) {
    kill(child, SIGKILL);
    EXPECT_TRUE(WIFSIGNALED(wait_for(child)));
  }
  std::vector<unsigned char> value(percpu_size);
  const Lease lease(machine());
  for (uint32_t i = 0; i < kEntries; ++i) {
    ASSERT_TRUE(array->lookup(&i, value.data(), 0));
    EXPECT_TRUE(verify(value.data(), kSize));
    EXPECT_TRUE(array->update(lease, &i, value.data(), 0));
  }
  EXPECT_EQ(array->check().problem, "");
  EXPECT_EQ(percpu->check().problem, "");
}

}  // namespace
}  // namespace skep
