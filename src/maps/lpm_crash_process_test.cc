// SPDX-License-Identifier: Apache-2.0
//
// Every state that a process can die in: the trie is compiled into this test with crash points that kill, and each
// operation is run once for each of its points, in a child; so are the repairs of what that one left.

#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include "machine/crash_countdown.h"

#include <gtest/gtest.h>

#include <functional>
#include <map>

#include "maps/lpm_check.cc"
#include "maps/lpm_grow.cc"
#include "maps/lpm_layout.cc"
#include "maps/lpm_map.cc"
#include "maps/lpm_pool.cc"
#include "maps/lpm_test_support.h"
#include "maps/lpm_trie.cc"
#include "maps/lpm_walk.cc"
#include "maps/lpm_write.cc"
#include "memory/test_repeats.h"

namespace skep {
namespace {

using testing::error_of;
using testing::ipv4;

struct Subject {
  Map& map;
  const Lease& lease;
  int put(const std::string& key, char fill, uint64_t flags = BPF_ANY) const {
    const std::string value(map.spec().value_size, fill);
    return error_of(map.update(lease, key.data(), value.data(), flags));
  }
  int erase(const std::string& key) const { return error_of(map.erase(lease, key.data())); }
};

struct Scenario {
  const char* name;
  uint32_t value_size, max_entries;
  std::function<void(const Subject&)> setup;      // by the parent
  std::function<void(const Subject&)> approach;   // by the child, before it may die
  std::function<void(const Subject&)> operation;  // by the child, which dies in it
};

/// The i-th of 256 prefixes of /24 that differ in their third byte.
std::string net(uint32_t i) { return ipv4(10, 0, static_cast<uint8_t>(i), 0, 24); }

std::vector<Scenario> scenarios() {
  using S = const Subject&;
  const auto nothing = [](S) {};
  const auto nets = [](uint32_t count, uint32_t step = 1) {
    return [=](S s) {
      for (uint32_t i = 0; i < count; ++i) ASSERT_EQ(s.put(net(i * step), 'a'), 0);
    };
  };
  /// Prefixes of twelve bits, which nodes decide by three.
  const auto octal = [](uint32_t i) {
    return ipv4(static_cast<uint8_t>(i >> 4), static_cast<uint8_t>(i << 4), 0, 0, 12);
  };
  /// Leaves no unit free that is not waiting for a grace period.
  const auto exhaust = [](S s) {
    for (int i = 0; i < 80; ++i) s.put(net(0), 'a');
  };
  return {
      {"insert into an empty trie", 8, 16, nothing, nothing, [](S s) { s.put(net(1), 'b'); }},
      {"insert that forks", 8, 16, nets(1), nothing, [](S s) { s.put(net(1), 'b'); }},
      {"insert above", 8, 16, nets(4), nothing, [](S s) { s.put(ipv4(10, 0, 0, 0, 8), 'b'); }},
      {"insert into a node", 8, 16, nets(2), nothing, [](S s) { s.put(ipv4(10, 0, 0, 0, 21), 'b'); }},
      {"replace", 8, 16, nets(4), nothing, [](S s) { s.put(net(2), 'b'); }},
      {"erase the only one", 8, 16, nets(1), nothing, [](S s) { s.erase(net(0)); }},
      {"erase that drops a node", 8, 16, nets(2), nothing, [](S s) { s.erase(net(0)); }},
      {"erase from a node", 8, 16, nets(3), nothing, [](S s) { s.erase(net(0)); }},
      {"insert that widens", 8, 400, nets(256, 1), [](S s) { s.erase(net(255)); },
       [](S s) {
         s.erase(net(3));
         s.put(net(255), 'a');
         for (uint32_t i = 0; i < 4; ++i) s.put(ipv4(10, 0, static_cast<uint8_t>(i * 64), 7, 32), 'b');
       }},
      {"the first inserts of many", 8, 400, nothing, nets(9, 16), [](S s) { s.put(net(200), 'b'); }},
      {"widening", 8, 400, nothing, nets(11, 5),
       [](S s) {
         for (uint32_t i = 0; i < 13; ++i) s.put(net(i * 19 + 3), 'b');
       }},
      {"widening over wide nodes", 8, 4000, nothing,
       [](S s) {
         for (uint32_t i = 0; i < 200; ++i) s.put(net(i), 'a');
       },
       [](S s) {
         for (uint32_t i = 0; i < 7; ++i) {
           for (uint32_t j = 0; j < 2; ++j) {
             s.put(ipv4(10, static_cast<uint8_t>(32 * i + 7), static_cast<uint8_t>(128 * j), 0, 24), 'b');
           }
         }
       }},
      {"widening over a wide node of one branch", 8, 400,
       [=](S s) {
         for (const uint32_t i : {000, 004, 020, 024, 040, 044, 060, 064}) ASSERT_EQ(s.put(octal(i), 'a'), 0);
         for (const uint32_t i : {020, 024, 040, 044, 060, 064}) ASSERT_EQ(s.erase(octal(i)), 0);
         for (const uint32_t i : {0100, 0140, 0200, 0240}) ASSERT_EQ(s.put(octal(i), 'a'), 0);
       },
       nothing,
       [=](S s) {
         s.put(octal(0300), 'b');
         s.put(octal(0340), 'b');
       }},
      {"erases that bring retired units home", 8, 400, nets(200), nothing,
       [](S s) {
         for (uint32_t i = 0; i < 90; ++i) s.erase(net(i));
       }},
      {"replace without memory", 1 << 20, 2, nothing, exhaust, [](S s) { s.put(net(0), 'b'); }},
      {"insert without memory", 1 << 20, 2, nothing, exhaust, [](S s) { s.put(net(1), 'b'); }},
  };
}

class LpmCrashTest : public testing::MapTest {
 protected:
  using Content = std::map<std::string, std::string>;

  static Content content_of(const Map& map) {
    Content content;
    std::string key(map.spec().key_size, '\0'), next = key, value(map.spec().value_size, '\0');
    const void* from = nullptr;
    while (error_of(map.next_key(from, next.data())) == 0) {
      key = next;
      from = key.data();
      EXPECT_EQ(error_of(map.lookup(key.data(), value.data(), 0)), 0);
      EXPECT_EQ(value.find_first_not_of(value[0]), std::string::npos);
      if (!content.emplace(key, value.substr(0, 8)).second) {
        ADD_FAILURE() << "iteration met a key twice";
        break;
      }
    }
    return content;
  }

  std::unique_ptr<Map> prepared(const Scenario& scenario) {
    auto map = make(spec(BPF_MAP_TYPE_LPM_TRIE, 8, scenario.value_size, scenario.max_entries, BPF_F_NO_PREALLOC));
    const Lease lease(machine());
    scenario.setup({*map, lease});
    return map;
  }

  static bool dies(const std::function<void()>& work) {
    const pid_t child = fork();
    if (child == 0) {
      work();
      _exit(0);
    }
    int status = 0;
    waitpid(child, &status, 0);
    return WIFSIGNALED(status);
  }

  bool dies_in_operation(Map& map, const Scenario& scenario, int point) {
    return dies([&] {
      const Lease lease(machine());
      const Subject subject{map, lease};
      scenario.approach(subject);
      testing::crash_countdown = point;
      scenario.operation(subject);
      testing::crash_countdown = 0;
    });
  }

  /// A repairer: it takes the lock, and changes nothing.
  bool dies_in_repair(Map& map, int point) {
    return dies([&] {
      const Lease lease(machine());
      testing::crash_countdown = point;
      Subject{map, lease}.put(ipv4(99, 0, 0, 0, 8), 'x', BPF_EXIST);
      testing::crash_countdown = 0;
    });
  }

  /// That chunks without units in use have no memory, but for one of each pool, which must be a small one.
  void expect_no_memory_left_over(const Map& map) {
    const LpmLayout layout = LpmLayout::of(map.spec());
    for (const LpmLayout::Pool& pool : layout.pools) {
      const auto* chunks = reinterpret_cast<const LpmChunk*>(map.segments().control.data() + pool.table);
      uint32_t idle = 0;
      for (uint32_t c = 0; c < pool.chunks; ++c) {
        const uint64_t first = uint64_t{c} << pool.chunk_shift;
        const uint64_t size = std::min(uint64_t{1} << pool.chunk_shift, pool.capacity - first);
        ASSERT_NE(chunks[c].state, LpmChunk::kMoving);
        if (chunks[c].state == LpmChunk::kReady) {
          idle += chunks[c].free == size;
          continue;
        }
        const uint64_t begin = round_up(kHeaderOffset + pool.units + first * pool.stride, kPageSize);
        const uint64_t end = (kHeaderOffset + pool.units + (first + size) * pool.stride) / kPageSize * kPageSize;
        if (begin >= end) continue;
        const off_t data = lseek(last_file(), static_cast<off_t>(begin), SEEK_DATA);
        ASSERT_TRUE(data < 0 || static_cast<uint64_t>(data) >= end) << "an absent chunk has memory: " << c;
      }
      ASSERT_LE(idle, 1U) << "free chunks that nobody gives back";
    }
  }

  /// Every content that the operation passes through, in order: its own steps are those of whole calls.
  void expect_sound(Map& map, const Content& before, const Content& after) {
    const CheckReport report = map.check();
    ASSERT_EQ(report.problem, "");
    ASSERT_NO_FATAL_FAILURE(expect_no_memory_left_over(map));
    const Content now = content_of(map);
    ASSERT_EQ(report.elements, now.size());
    for (const auto& [key, value] : now) {
      const auto old = before.find(key), wanted = after.find(key);
      ASSERT_TRUE((old != before.end() && old->second == value) || (wanted != after.end() && wanted->second == value));
    }
    for (const auto& [key, value] : before) {
      if (after.contains(key) && !erased_on_the_way_.contains(key)) {
        ASSERT_TRUE(now.contains(key));
      }
    }
    const Lease lease(machine());
    uint64_t added = 0;
    for (uint32_t i = 0; map.spec().value_size < 100; ++i) {
      const int error =
          Subject{map, lease}.put(ipv4(200, static_cast<uint8_t>(i >> 8), static_cast<uint8_t>(i), 1, 32), 'f');
      if (error == ENOSPC) break;
      ASSERT_EQ(error, 0);
      ++added;
    }
    if (map.spec().value_size < 100) {
      ASSERT_EQ(now.size() + added, map.spec().max_entries);
    }
    ASSERT_EQ(map.check().problem, "");
  }

  std::map<std::string, int> erased_on_the_way_;
};

/// 1, or more where a child takes long to start: then of many points some are left out.
const int kStep = std::max(1, 4 / static_cast<int>(testing::repeats(4)));

TEST_F(LpmCrashTest, EveryPointOfEveryOperationAndOfItsRepair) {
  for (const Scenario& scenario : scenarios()) {
    SCOPED_TRACE(scenario.name);
    Content before, after;
    {
      auto map = prepared(scenario);
      const Lease lease(machine());
      scenario.approach({*map, lease});
      before = content_of(*map);
      scenario.operation({*map, lease});
      after = content_of(*map);
    }
    const std::string twice = net(3);
    if (before.contains(twice)) erased_on_the_way_[twice] = 1;
    int repair_point = 1;
    for (int point = 1;; point += point < 64 ? 1 : kStep) {
      SCOPED_TRACE("crash point " + std::to_string(point) + ", of the repair " + std::to_string(repair_point));
      auto map = prepared(scenario);
      const bool died = dies_in_operation(*map, scenario, point);
      content_of(*map);  // readers need no repair
      // Other points of the repair each time round; one that ends before its point begins again with the first.
      repair_point = dies_in_repair(*map, repair_point) ? repair_point + 1 : 1;
      expect_sound(*map, before, after);
      if (HasFatalFailure()) return;
      if (!died) break;
    }
  }
}

// Whoever has a pointer to a value that a dead process was replacing in place sees all of the new one.
TEST_F(LpmCrashTest, PointersToAValueWhoseWriterDied) {
  const std::vector<Scenario> all = scenarios();
  const auto scenario = std::find_if(all.begin(), all.end(),
                                     [](const Scenario& s) { return std::string(s.name) == "replace without memory"; });
  ASSERT_NE(scenario, all.end());
  int in_place = 0;
  for (int point = 1;; ++point) {
    SCOPED_TRACE("crash point " + std::to_string(point));
    auto map = prepared(*scenario);
    const bool died = dies_in_operation(*map, *scenario, point);
    const auto& redo = reinterpret_cast<LpmControl*>(map->segments().control.data() + kControlOffset)->top.redo;
    const bool was_open = (redo.sequence & 1) != 0;
    in_place += was_open;
    const auto reader = open_map(last_file(), Access::kReadOnly, machine());
    ASSERT_TRUE(reader);
    const Lease lease(machine());
    for (const Map* window : {reader->get(), map.get()}) {
      const void* found = window->find(lease, net(0).data());
      ASSERT_NE(found, nullptr);
      const std::string value(static_cast<const char*>(found), scenario->value_size);
      EXPECT_EQ(value.find_first_not_of(value[0]), std::string::npos) << "half a value";
      EXPECT_TRUE(value[0] == 'b' || (died && !was_open));
    }
    EXPECT_EQ(redo.sequence & 1, 0U);
    if (HasFailure()) return;
    if (!died) break;
  }
  EXPECT_GT(in_place, 1) << "no process died with a value half written";
}

TEST_F(LpmCrashTest, EveryPointOfTheRepair) {
  for (const Scenario& scenario : scenarios()) {
    if (scenario.value_size > 100) continue;
    SCOPED_TRACE(scenario.name);
    for (int point = 3; point <= 60; point += 3 * kStep) {
      for (int repair_point = 1;; ++repair_point) {
        SCOPED_TRACE("crash point " + std::to_string(point) + ", of the repair " + std::to_string(repair_point));
        auto map = prepared(scenario);
        if (!dies_in_operation(*map, scenario, point)) break;
        const bool died = dies_in_repair(*map, repair_point);
        ASSERT_EQ(map->check().problem, "");
        ASSERT_EQ(map->check().elements, content_of(*map).size());
        if (!died) break;
        repair_point += 2;
      }
    }
  }
}

}  // namespace
}  // namespace skep
