// SPDX-License-Identifier: Apache-2.0
// Local storage in threads that create, replace, delete, read, destroy owners, sweep, and make and free maps, all at
// once. Values name their owner and map: nobody ever sees another's.
#include <array>
#include <atomic>
#include <memory>
#include <mutex>
#include <random>
#include <thread>
#include <vector>

#include "storage/storage_test_support.h"

namespace skep {
namespace {

using testing::StorageTest;
using testing::TestPart;

bool never_gone(const OwnerIdentity&, const OwnerTrace*) { return false; }

class StorageThreadsTest : public StorageTest {
 protected:
  static constexpr uint64_t kOwners = 16;
  static constexpr uint32_t kSeats = 20;  // maps at a time

  /// The map of a seat, which another thread may free: it stays as long as this is held.
  std::shared_ptr<TestPart> sit(uint32_t seat) {
    const std::lock_guard lock(seats_mutex_);
    return seats_[seat];
  }
  /// Another map in that seat; the old one is gone when the last one who holds it lets go.
  void renew(uint32_t seat) {
    auto made = std::make_shared<TestPart>(directory(), owners(), ++last_map_, OwnerKind::kTask, 8, 1 << 16);
    {
      const std::lock_guard lock(seats_mutex_);
      seats_[seat].swap(made);
    }
    if (!made) return;
    const uint32_t map = (*made)->map;
    while (made.use_count() > 1) sched_yield();  // as the object layer, which waits for the last reference
    made.reset();
    owners().unregister_map(map);
  }
  static uint64_t mark(uint64_t id, uint32_t map) { return id << 56 | uint64_t{map} << 24; }
  static constexpr uint64_t kSerial = (1 << 24) - 1;

  void expect_nothing() {
    std::atomic<uint32_t> cursor{0};
    for (int round = 0; round < 2; ++round) {
      const Lease lease(machine());
      owners().sweep_all(lease, [](const OwnerIdentity&, const OwnerTrace*) { return true; });
      for (const auto& part : seats_) {
        const StoragePart& it = **part;
        it.cells->sweep(lease, cursor, it.cells->seen(),
                        [&](uint32_t cell, OwnerNumber number) { owners().check_element(lease, it, cell, number); });
      }
    }
    const Owners::Census census = owners().census();
    EXPECT_EQ(census.problem, "");
    EXPECT_EQ(census.unfinished, 0U);
    EXPECT_EQ(census.owners + census.entries + census.blocks + census.traces, 0U);
    EXPECT_EQ(census.charged, 0U);
    for (const auto& part : seats_) {
      EXPECT_EQ((*part)->cells->census().live, 0U);
      EXPECT_EQ((*part)->cells->census().claimed, 0U);
    }
  }

  std::mutex seats_mutex_;
  std::array<std::shared_ptr<TestPart>, kSeats> seats_;
  uint32_t last_map_ = 0;
};

TEST_F(StorageThreadsTest, NobodySeesAnothersValue) {
  for (uint32_t seat = 0; seat < kSeats; ++seat) renew(seat);
  std::atomic<bool> stop{false};
  std::atomic<uint64_t> wrong{0};
  std::atomic<uint64_t> seen{0};
  std::vector<std::thread> threads;
  const uint64_t rounds = testing::repeats(100'000);
  for (uint32_t thread = 0; thread < 3; ++thread) {
    threads.emplace_back([&, thread] {
      std::mt19937 random(thread);
      const OwnerTrace trace{};
      for (uint64_t serial = 0; serial < rounds; ++serial) {
        const auto part = sit(static_cast<uint32_t>(random() % kSeats));
        const uint64_t id = 1 + random() % kOwners;
        const Lease lease(machine());
        const auto who = owners().find_or_make(lease, task(id), &trace);
        if (!who) {
          ++wrong;
          continue;
        }
        const uint64_t expected = mark(id, (**part).map);
        switch (random() % 8) {
          case 0:
          case 1:
          case 2: {
            const int result =
                put(lease, *who, **part, expected | (serial & kSerial), static_cast<Expect>(random() % 3));
            wrong += result != 0 && result != -ENOENT && result != -EEXIST ? 1 : 0;
            break;
          }
          case 3:
            drop(lease, *who, **part);
            break;
          case 4:
            if (random() % 4 == 0 && !owners().destroy(lease, who->number)) ++wrong;
            break;
          default:
            for (int i = 0; i < 3; ++i) {
              const int64_t value = get(lease, *who, **part);
              if (value == -1) continue;
              wrong += (static_cast<uint64_t>(value) & ~kSerial) != expected ? 1 : 0;
              ++seen;
            }
        }
      }
    });
  }
  std::thread sweeper([&] {
    while (!stop) {
      const Lease lease(machine());
      owners().sweep(lease, 16, never_gone);
    }
  });
  std::thread mapper([&] {
    for (uint32_t seat = 0; !stop; seat = (seat + 1) % kSeats) renew(seat);
  });
  for (auto& thread : threads) thread.join();
  stop = true;
  sweeper.join();
  mapper.join();
  EXPECT_EQ(wrong.load(), 0U);
  EXPECT_GT(seen.load(), 0U);
  EXPECT_EQ(owners().census().problem, "");
  expect_nothing();
}

// Owners that somebody has just made are nobody's to sweep, nor is what tells whether they are gone.
TEST_F(StorageThreadsTest, SweepsLeaveTheNewbornAlone) {
  for (uint32_t seat = 0; seat < kSeats; ++seat) renew(seat);
  std::atomic<bool> stop{false};
  std::vector<std::thread> sweepers;
  for (int i = 0; i < 2; ++i) {
    sweepers.emplace_back([&] {
      while (!stop) {
        const Lease lease(machine());
        owners().sweep(lease, 64, [](const OwnerIdentity& identity, const OwnerTrace* trace) {
          return trace == nullptr || trace->space != identity.words[0];
        });
      }
    });
  }
  std::vector<std::thread> makers;
  for (uint64_t maker = 0; maker < 2; ++maker) {
    makers.emplace_back([&, maker] {
      for (uint64_t i = 1, rounds = testing::repeats(20'000); i <= rounds; ++i) {
        const Lease lease(machine());
        const OwnerIdentity identity = task(i << 1 | maker);
        const OwnerTrace trace{.space = identity.words[0], .text = {}};
        const auto who = owners().find_or_make(lease, identity, &trace);
        ASSERT_TRUE(who);
        ASSERT_EQ(put(lease, *who, **seats_[0], i), 0);
        ASSERT_EQ(get(lease, owners().find(identity), **seats_[0]), static_cast<int64_t>(i));
        const auto object = owners().make(lease, {.kind = OwnerKind::kObject, .words = {0, machine().self().value, i}});
        ASSERT_TRUE(object);
        ASSERT_EQ(put(lease, *object, **seats_[1], i), 0);
        ASSERT_TRUE(owners().destroy(lease, who->number));
        ASSERT_TRUE(owners().destroy(lease, object->number));
      }
    });
  }
  for (auto& thread : makers) thread.join();
  stop = true;
  for (auto& thread : sweepers) thread.join();
  expect_nothing();
}

}  // namespace
}  // namespace skep
