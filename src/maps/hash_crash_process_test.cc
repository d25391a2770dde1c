// SPDX-License-Identifier: Apache-2.0
//
// Every state that a process can die in: the hash maps are those of skep_crashing_hash_maps, and each operation is run
// once for each of its points, in a child.

#include "maps/hash_crash_support.h"
#include "memory/test_repeats.h"

#include <functional>
#include <thread>

namespace skep {
namespace {

using testing::colliding;
using testing::Content;
using testing::content_of;
using testing::error_of;
using testing::fill_value;
using testing::hash;
using testing::key_of;
using testing::locked_hash;
using testing::put_colliding;
using testing::put_first;
using testing::Subject;

struct Scenario {
  const char* name;
  MapSpec spec;
  std::function<void(const Subject&)> setup;      // by the parent, on slot 0
  std::function<void(const Subject&)> approach;   // by the child, on slot 1, before it may die
  std::function<void(const Subject&)> operation;  // by the child, which dies in it
  bool erases_all = false;                        // also what is there again afterwards
};

void nothing(const Subject&) {}

/// Lets `slots` slots replace a value, so that each keeps a spare.
void keep_all_spares(const Subject& s, uint32_t slots) {
  s.put(slots, 1);
  if (slots == 1) return;
  std::thread([&s, slots] {
    const Lease other(s.lease.machine());
    keep_all_spares({s.map, other}, slots - 1);
  }).join();
}

std::vector<Scenario> scenarios() {
  using S = const Subject&;
  const auto chain = [](uint64_t count) { return [count](S s) { put_colliding(s, count); }; };
  const auto fill = [](uint64_t count) { return [count](S s) { put_first(s, count); }; };
  const uint32_t percpu = BPF_MAP_TYPE_PERCPU_HASH;
  struct DropAll final : BatchSink {
    bool put(const void*, const void*, uint32_t) override { return true; }
  };
  const auto take_all = [](S s) {
    DropAll sink;
    uint32_t cursor;
    s.map.take_batch(s.lease, nullptr, &cursor, UINT32_MAX, 0, sink);
  };
  std::vector<Scenario> all = {
      {"insert into an empty map", hash(8, 64), nothing, nothing, [](S s) { s.put(1, 2); }},
      {"insert with elements at hand", hash(8, 64), nothing, [](S s) { s.put(7, 1); }, [](S s) { s.put(1, 2); }},
      {"insert that grows a chain", hash(8, 64), chain(11), nothing, [](S s) { s.put(colliding(11), 2); }},
      {"insert that grows a longer chain", hash(8, 64), chain(21), nothing, [](S s) { s.put(colliding(21), 2); }},
      {"insert that steals", hash(8, 20), fill(6),
       [](S s) {
         for (uint64_t i = 6; i < 12; ++i) s.put(i, 1);
       },
       [](S s) { s.put(12, 2); }},
      {"insert into a full map", hash(8, 20), fill(20), nothing, [](S s) { s.put(77, 2); }},
      {"replace", hash(8, 64), fill(10), nothing, [](S s) { s.put(3, 2); }},
      {"replace at a chain's end", hash(24, 64), chain(25), nothing, [](S s) { s.put(colliding(24), 2); }},
      {"replace a large value", hash(5000, 16), fill(16), nothing, [](S s) { s.put(3, 2); }},
      {"replace a large value with a spare that another slot has kept", hash(5000, 16),
       [](S s) {
         put_first(s, 16);
         keep_all_spares(s, s.lease.machine().shape().cpus);
       },
       nothing, [](S s) { s.put(3, 2); }},
      {"insert that has an overflow bucket but no element", hash(8, 16),
       [](S s) {
         for (uint64_t i = 0; i < 11; ++i) s.put(colliding(i, 2), 1);
         for (uint64_t i = 0; s.put(3'000'000 + i, 1) == 0; ++i) {
         }
       },
       nothing,
       [](S s) {
         s.put(colliding(11, 2), 2);
         s.erase(colliding(0, 2));
         s.put(colliding(11, 2), 2);
         s.put(colliding(0, 2), 2);
       }},
      {"erase that gives up two overflow buckets", hash(8, 64), chain(22), nothing,
       [](S s) {
         for (uint64_t i = 22; i-- > 9;) s.erase(colliding(i));
       }},
      {"replace with a full map", hash(8, 16, BPF_F_NO_PREALLOC), fill(16), nothing, [](S s) { s.put(3, 2); }},
      {"erase", hash(8, 64), fill(10), nothing, [](S s) { s.erase(4); }},
      {"erase the last", hash(8, 64), fill(1), nothing, [](S s) { s.erase(0); }},
      {"erase that moves and drops a bucket", hash(8, 64), chain(12), nothing,
       [](S s) {
         s.erase(colliding(0));
         s.erase(colliding(1));
       }},
      {"erase that moves in a long chain", hash(8, 64), chain(33), nothing, [](S s) { s.erase(colliding(12)); }},
      {"erase a chain's end", hash(8, 64), chain(12), nothing,
       [](S s) {
         s.erase(colliding(11));
         s.erase(colliding(10));
       }},
      {"erase with a full magazine", hash(8, 64), fill(64),
       [](S s) {
         for (uint64_t i = 0; i < 28; ++i) s.erase(i);
       },
       [](S s) {
         s.erase(40);
         s.erase(41);
       }},
      {"take", hash(8, 64), fill(10), nothing,
       [](S s) {
         std::string value(8, '\0');
         s.map.take(s.lease, key_of(4, 8).data(), value.data(), 0);
       }},
      {"take all", hash(8, 64), chain(33), nothing, take_all},
      {"take all and fill again", hash(8, 64, BPF_F_NO_PREALLOC), chain(33), nothing,
       [take_all](S s) {
         take_all(s);
         put_colliding(s, 14);
       },
       true},
      {"write under the value's lock", locked_hash(), fill(5), nothing, [](S s) { s.put(2, 2, BPF_F_LOCK); }},
      {"modify", hash(40, 64), fill(5), nothing,
       [](S s) { s.map.modify(s.lease, key_of(2, 8).data(), [](void* v) { fill_value(v, 40, 2, 2); }); }},
      {"the first memory of a chunk", hash(70000, 8, BPF_F_NO_PREALLOC), nothing, nothing, [](S s) { s.put(1, 2); }},
      {"chunks retire and return", hash(70000, 14, BPF_F_NO_PREALLOC), fill(14), nothing,
       [](S s) {
         for (uint64_t i = 0; i < 12; ++i) s.erase(i);
         s.put(0, 2);
       },
       true},
      {"per CPU: insert", hash(16, 64, 0, percpu), nothing, nothing, [](S s) { s.put(1, 2); }},
      {"per CPU: all parts", hash(16, 64, 0, percpu), fill(3), nothing, [](S s) { s.put(1, 2); }},
      {"per CPU: all parts of a large value", hash(5000, 16, 0, percpu), fill(3), nothing, [](S s) { s.put(1, 2); }},
      {"per CPU: one part", hash(40, 64, BPF_F_NO_PREALLOC, percpu), fill(3), nothing,
       [](S s) { s.put(1, 2, BPF_F_CPU | uint64_t{1} << 32); }},
      {"per CPU: erase", hash(16, 64, 0, percpu), fill(3), nothing, [](S s) { s.erase(1); }},
  };
  return all;
}

class HashCrashTest : public testing::MapTest {
 protected:
  /// Lets go of the files of maps that are gone.
  void files_clear() {
    for (const int fd : files_) close(fd);
    files_.clear();
  }

  /// By one lookup batch, before anybody repairs what a dead process left.
  static Content content_by_batch(const Map& map) {
    struct Elements final : BatchSink {
      explicit Elements(const Map& whose) : key_size(whose.spec().key_size), value_size(whose.user_value_size()) {}
      bool put(const void* keys, const void* values, uint32_t count) override {
        for (uint32_t i = 0; i < count; ++i) {
          const std::string key(static_cast<const char*>(keys) + i * key_size, key_size);
          const std::string value(static_cast<const char*>(values) + i * value_size, value_size);
          EXPECT_TRUE(content.emplace(key, value).second) << "a batch met a key twice";
        }
        return true;
      }
      const uint64_t key_size, value_size;
      Content content;
    } elements(map);
    uint32_t cursor = 0;
    EXPECT_EQ(map.lookup_batch(nullptr, &cursor, UINT32_MAX, 0, elements).error, ENOENT);
    return elements.content;
  }

  std::unique_ptr<Map> prepared(const Scenario& scenario) {
    auto map = make(scenario.spec);
    const Lease lease(machine(), Lease::Cpu{0});
    scenario.setup({*map, lease});
    return map;
  }

  /// Runs `work` in a child that dies at its `point`-th crash point after work's first part; whether it died.
  static bool dies(Map& map, const std::function<void(Map&)>& work) {
    const pid_t child = fork();
    if (child == 0) {
      work(map);
      _exit(0);
    }
    int status = 0;
    waitpid(child, &status, 0);
    return WIFSIGNALED(status);
  }

  bool dies_in_operation(Map& map, const Scenario& scenario, int point) {
    return dies(map, [&](Map& m) {
      const Lease lease(machine(), Lease::Cpu{1});
      const Subject subject{m, lease};
      scenario.approach(subject);
      testing::crash_countdown = point;
      scenario.operation(subject);
      testing::crash_countdown = 0;
    });
  }

  void expect_sound(Map& map, const Scenario& scenario, const Content& before, const Content& after) {
    const CheckReport report = map.check();
    ASSERT_EQ(report.problem, "");
    const Content now = content_of(map);
    for (const auto& [key, value] : now) {
      const auto old = before.find(key), wanted = after.find(key);
      ASSERT_TRUE((old != before.end() && old->second == value) || (wanted != after.end() && wanted->second == value));
    }
    for (const auto& [key, value] : before) {
      if (!scenario.erases_all && after.contains(key)) {
        ASSERT_TRUE(now.contains(key)) << "a key that was never erased is gone";
      }
    }
    fill_up(map, now.size());
  }

  void fill_up(Map& map, uint64_t present) {
    const Lease lease(machine(), Lease::Cpu{0});
    const Subject subject{map, lease};
    uint64_t added = 0;
    for (uint64_t number = 1'000'000;; ++number) {
      const int error = subject.put(number, 1, BPF_NOEXIST);
      if (error == E2BIG) break;
      ASSERT_EQ(error, 0) << present << " there, " << added << " added";
      ++added;
    }
    ASSERT_EQ(present + added, map.spec().max_entries)
        << present << " there, " << map.check().problem << map.check().free_elements << " free";
    ASSERT_EQ(map.check().problem, "");
  }

  Content content_after(const Scenario& scenario, Content& before) {
    auto map = prepared(scenario);
    {
      const Lease lease(machine(), Lease::Cpu{1});
      scenario.approach({*map, lease});
    }
    before = content_of(*map);
    const Lease lease(machine(), Lease::Cpu{1});
    scenario.operation({*map, lease});
    return content_of(*map);
  }
};

TEST_F(HashCrashTest, EveryPointOfEveryOperation) {
  for (const Scenario& scenario : scenarios()) {
    SCOPED_TRACE(scenario.name);
    Content before;
    const Content after = content_after(scenario, before);
    int point = 1;
    for (bool died = true; died; ++point) {
      SCOPED_TRACE("crash point " + std::to_string(point));
      auto map = prepared(scenario);
      died = dies_in_operation(*map, scenario, point);
      ASSERT_EQ(content_by_batch(*map), content_of(*map));
      switch (point % 3) {  // who repairs: the check, whoever needs the room, or the next tenant of the slot
        case 0:
          break;
        case 1:
          fill_up(*map, content_of(*map).size());
          break;
        default: {
          const Lease lease(machine(), Lease::Cpu{1});
          const Subject subject{*map, lease};
          const bool full = content_of(*map).size() == scenario.spec.max_entries;
          ASSERT_EQ(subject.put(999'999, 1), full ? E2BIG : 0);
          if (content_of(*map).contains(key_of(999'999, 8))) {
            ASSERT_EQ(subject.erase(999'999), 0);
          }
        }
      }
      if (point % 3 == 1) {
        const Lease lease(machine(), Lease::Cpu{0});
        for (uint64_t number = 1'000'000; Subject{*map, lease}.erase(number) == 0; ++number) {
        }
      }
      expect_sound(*map, scenario, before, after);
      if (HasFatalFailure()) return;
    }
    EXPECT_GT(point, 3) << "the operation has no crash points";
    files_clear();
  }
}

TEST_F(HashCrashTest, RepairersDieToo) {
  for (const Scenario& scenario : scenarios()) {
    SCOPED_TRACE(scenario.name);
    Content before;
    const Content after = content_after(scenario, before);
    const int step = std::max(1, 72 / static_cast<int>(testing::repeats(8)));
    bool died = true;
    for (int point = 1; died; point += step) {
      bool repairer_died = true;
      for (int repair_point = 1 + point % 3; repairer_died; repair_point += step == 1 ? 1 : 5) {
        SCOPED_TRACE("crash points " + std::to_string(point) + ", " + std::to_string(repair_point));
        auto map = prepared(scenario);
        died = dies_in_operation(*map, scenario, point);
        repairer_died = dies(*map, [&](Map& m) {
          testing::crash_countdown = repair_point;
          static_cast<void>(m.check());
        });
        expect_sound(*map, scenario, before, after);
        if (HasFatalFailure()) return;
      }
      files_clear();
    }
  }
}

/// What a value's fields own ends with the value, also where its deleter died before it came to that: whoever is about
/// to act for such a field settles the value first.
TEST_F(HashCrashTest, FieldsOfValuesThatTheDeadUnlinked) {
  MapSpec with_timer = hash(24, 16);
  with_timer.fields.timer = 0;
  const std::function<void(const Subject&)> operations[] = {[](const Subject& s) { s.erase(3); },
                                                            [](const Subject& s) { s.put(3, 2); }};
  for (const auto& operation : operations) {
    int left_armed = 0;
    int point = 1;
    for (bool died = true; died; ++point) {
      SCOPED_TRACE("crash point " + std::to_string(point));
      auto map = make(with_timer);
      const auto key = key_of(3, 8);
      uint64_t* value = nullptr;
      {
        const Lease lease(machine(), Lease::Cpu{0});
        put_first({*map, lease}, 10);
        value = static_cast<uint64_t*>(map->find(lease, key.data()));
        __atomic_store_n(value, 0x1234, __ATOMIC_RELAXED);
      }
      died = dies(*map, [&](Map& m) {
        const Lease lease(machine(), Lease::Cpu{1});
        testing::crash_countdown = point;
        operation({m, lease});
        testing::crash_countdown = 0;
      });
      const Lease lease(machine(), Lease::Cpu{0});
      const bool gone = map->find(lease, key.data()) != value;
      left_armed += gone && *value != 0;
      map->settle_dead(lease, value);
      if (map->find(lease, key.data()) == value) {
        EXPECT_EQ(*value, 0x1234u);
        EXPECT_FALSE(gone);
      } else {
        EXPECT_EQ(*value, 0u);
      }
    }
    EXPECT_GT(left_armed, 0);
    files_clear();
  }
}

}  // namespace
}  // namespace skep
