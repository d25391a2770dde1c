// SPDX-License-Identifier: Apache-2.0
//
// Eight processes hammer one map of each kind; a random one is killed at a random moment and replaced, 1,000 times
// (SKEP_STRESS=10: 10,000 times; a quarter under sanitizers). Every survivor goes on within a second of each kill,
// nobody ever sees a torn value, and at the end every structure is whole and holds exactly max_entries.
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <cstring>
#include <random>
#include <thread>
#include <vector>

#include "memory/test_repeats.h"
#include "shared_map.h"
#include "workload.h"

namespace skep::stress {
namespace {

[[maybe_unused]] const auto* const environment = ::testing::AddGlobalTestEnvironment(new TemporaryInstance);

constexpr uint32_t kProcesses = 8;
constexpr uint32_t kEntries = 64;  // few, so that the processes meet on every bucket

struct Board {
  WorkerReport workers[kProcesses];
};

/// What a process does until it is killed. Keys belong to nobody here: a killed owner could not say what it left.
[[noreturn]] void hammer(const std::vector<SharedMap>& maps, uint64_t seed, WorkerReport& report) {
  std::mt19937_64 random(seed);
  std::vector<unsigned char> value(4096), values(8 * 4096);
  uint32_t keys[kEntries];
  for (;;) {
    const SharedMap& map = maps[random() % maps.size()];
    const uint32_t size = map.user_value_size();
    const auto key = static_cast<uint32_t>(random() % kEntries);
    const auto verify = [&](uint32_t of, const unsigned char* bytes) {
      for (uint32_t part = 0; part < size; part += SharedMap::kValueSize) {
        if (!value_is_whole(of, bytes + part, map.is_array())) report.torn.fetch_add(1);
      }
    };
    int error = 0;
    switch (random() % 8) {
      case 0:
      case 1:
        error = map.lookup(key, value.data());
        if (error == 0) verify(key, value.data());
        break;
      case 2:
      case 3:
      case 4:
        for (uint32_t part = 0; part < size; part += SharedMap::kValueSize) make_value(key, random(), &value[part]);
        error = map.update(key, value.data(), BPF_ANY);
        break;
      case 5:
        error = map.is_array() ? 0 : map.erase(key);
        break;
      case 6:
        error = map.is_array() ? 0 : map.take(key, value.data());
        if (error == 0 && !map.is_array()) verify(key, value.data());
        break;
      default: {
        uint32_t count = kEntries, cursor = 0;
        values.resize(size_t{kEntries} * size);
        const int command =
            !map.is_array() && random() % 8 == 0 ? BPF_MAP_LOOKUP_AND_DELETE_BATCH : BPF_MAP_LOOKUP_BATCH;
        error = map.batch(command, nullptr, &cursor, keys, values.data(), &count);
        for (uint32_t i = 0; i < count; ++i) verify(keys[i], &values[size_t{i} * size]);
        break;
      }
    }
    if (error != 0 && error != ENOENT && report.unexpected.fetch_add(1) == 0) {
      report.first_error = static_cast<uint32_t>(error);
    }
    report.operations.fetch_add(1, std::memory_order_relaxed);
  }
}

/// Fills the map to E2BIG and counts: capacity survives any number of deaths. LRU maps never refuse, but nobody leaves
/// them before they are full.
uint32_t capacity(const SharedMap& map) {
  std::vector<unsigned char> value(map.user_value_size(), 1);
  uint32_t key = 0, found = 0;
  while (map.next_key(nullptr, &key) == 0) EXPECT_EQ(map.erase(key), 0);
  const uint32_t keys = map.type == BPF_MAP_TYPE_LRU_HASH ? map.max_entries : 2 * map.max_entries;
  for (uint32_t i = 0; i < keys; ++i) {
    const int error = map.update(1000 + i, value.data(), BPF_NOEXIST);
    if (error != 0) {
      EXPECT_EQ(error, E2BIG);
    }
  }
  for (uint32_t i = 0; i < keys; ++i) found += map.lookup(1000 + i, value.data()) == 0;
  return found;
}

TEST(KillTest, SurvivorsGoOnAndTheMapsAreWhole) {
  auto maps = all_kinds(kEntries);
  maps.push_back({"LRU_HASH", BPF_MAP_TYPE_LRU_HASH, 0, kEntries});
  maps.push_back({"LRU_HASH, no common lists", BPF_MAP_TYPE_LRU_HASH, BPF_F_NO_COMMON_LRU, kEntries});
  for (auto& map : maps) {
    map.create();
    if (HasFatalFailure()) return;
  }
  void* memory = mmap(nullptr, sizeof(Board), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  ASSERT_NE(memory, MAP_FAILED);
  auto* board = new (memory) Board{};

  std::array<pid_t, kProcesses> children{};
  const auto spawn = [&](uint32_t number, uint64_t seed) {
    const pid_t child = fork();
    if (child == 0) hammer(maps, seed, board->workers[number]);
    children[number] = child;
  };
  for (uint32_t i = 0; i < kProcesses; ++i) spawn(i, i + 1);

  std::mt19937_64 random(42);
  const auto kills = static_cast<uint32_t>(testing::repeats(1000));
  uint32_t stuck = 0;
  double slowest = 0;
  for (uint32_t kill_number = 0; kill_number < kills && stuck == 0; ++kill_number) {
    std::this_thread::sleep_for(std::chrono::microseconds(random() % 3000));
    const auto victim = static_cast<uint32_t>(random() % kProcesses);
    kill(children[victim], SIGKILL);
    int status = 0;
    waitpid(children[victim], &status, 0);
    ASSERT_TRUE(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL) << "process ended by itself, status " << status;

    std::array<uint64_t, kProcesses> before{};
    for (uint32_t i = 0; i < kProcesses; ++i) before[i] = board->workers[i].operations;
    const auto killed = std::chrono::steady_clock::now();
    for (uint32_t i = 0; i < kProcesses; ++i) {
      if (i == victim) continue;
      while (board->workers[i].operations == before[i]) {
        const std::chrono::duration<double> waited = std::chrono::steady_clock::now() - killed;
        slowest = std::max(slowest, waited.count());
        if (waited.count() > 5) {
          ++stuck;
          break;
        }
        std::this_thread::yield();
      }
    }
    spawn(victim, 1000 + kill_number);
  }
  EXPECT_EQ(stuck, 0u) << "survivors that made no progress";
  EXPECT_LT(slowest, 1.0) << "seconds from a kill to a survivor's next operation";
  printf("%u kills; slowest survivor's next operation after %.3f s\n", kills, slowest);

  for (const pid_t child : children) kill(child, SIGKILL);
  for (const pid_t child : children) waitpid(child, nullptr, 0);
  for (uint32_t i = 0; i < kProcesses; ++i) {
    EXPECT_EQ(board->workers[i].torn, 0u);
    EXPECT_EQ(board->workers[i].unexpected, 0u) << strerror(static_cast<int>(board->workers[i].first_error));
  }
  for (const auto& map : maps) {
    // The first operation after the deaths repairs what they left; then every invariant must hold.
    std::vector<unsigned char> value(map.user_value_size());
    for (uint32_t key = 0; key < kEntries; ++key) {
      if (map.lookup(key, value.data()) == 0) {
        EXPECT_EQ(map.update(key, value.data(), BPF_EXIST), 0);
      } else {
        map.erase(key);
      }
    }
    if (!map.is_array()) {
      EXPECT_EQ(capacity(map), kEntries) << map.name;
    }
    EXPECT_EQ(map.check(), "") << map.name;
    close(map.fd);
  }
  munmap(memory, sizeof(Board));
}

}  // namespace
}  // namespace skep::stress
