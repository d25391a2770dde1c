// SPDX-License-Identifier: Apache-2.0
#include <sys/mman.h>

#include <random>
#include <set>
#include <thread>

#include "maps/arena_test_support.h"

namespace skep {
namespace {

using testing::error_of;

class ArenaMapTest : public testing::ArenaTest {};

TEST_F(ArenaMapTest, CreationAsksForWhatTheKernelAsks) {
  EXPECT_EQ(create_error(arena(0)), EINVAL);
  EXPECT_EQ(create_error(arena(1, 0, 0)), EINVAL);
  EXPECT_EQ(create_error(arena((1U << 20) + 1, 0)), E2BIG);
  EXPECT_EQ(create_error(arena(2, kBase + 8)), EINVAL);
  EXPECT_EQ(create_error(arena(2, (uint64_t{1} << 44) - kPageSize)), ERANGE);
  EXPECT_EQ(create_error(arena(2, (uint64_t{1} << 44) - 2 * kPageSize)), 0);
  EXPECT_EQ(create_error(arena(1U << 20, uint64_t{1} << 44)), 0);
}

TEST_F(ArenaMapTest, PagesComeAndGo) {
  const auto map = make_arena(8);
  const Lease lease(machine());
  EXPECT_EQ(map->allocate(lease, 0, 1), page(0));
  EXPECT_EQ(map->allocate(lease, 0, 2), page(1));
  EXPECT_EQ(map->allocate(lease, 0, 6), 0U) << "no room for six in a row";
  EXPECT_EQ(map->allocate(lease, page(2), 1), 0U) << "taken";
  EXPECT_EQ(map->allocate(lease, page(6) + 8, 1), 0U) << "not a page's address";
  EXPECT_EQ(map->allocate(lease, 0, 5), page(3));
  EXPECT_EQ(map->allocate(lease, 0, 1), 0U);
  map->release(lease, page(1) + 17, 1);
  EXPECT_EQ(map->allocate(lease, 0, 1), page(1));
  EXPECT_EQ(map->check().problem, "");
  EXPECT_EQ(map->check().elements, 8U);
}

TEST_F(ArenaMapTest, TheShortestRunIsFilledFirst) {
  const auto map = make_arena(10);
  const Lease lease(machine());
  ASSERT_EQ(map->allocate(lease, 0, 10), page(0));
  map->release(lease, page(0), 3);
  map->release(lease, page(5), 1);
  map->release(lease, page(8), 1);
  EXPECT_EQ(map->allocate(lease, 0, 1), page(8)) << "of two as short, the one that changed last";
  EXPECT_EQ(map->allocate(lease, 0, 1), page(5));
  EXPECT_EQ(map->allocate(lease, 0, 1), page(0));
}

TEST_F(ArenaMapTest, FreedPagesAreGoneAndComeBackAsZeros) {
  const auto map = make_arena(2);
  const Lease lease(machine());
  ASSERT_EQ(map->allocate(lease, 0, 1), page(0));
  word(*map, lease, page(0))->store(77);
  map->release(lease, page(0), 1);
  EXPECT_EQ(word(*map, lease, page(0)), nullptr);
  ASSERT_EQ(map->allocate(lease, 0, 1), page(0));
  EXPECT_EQ(word(*map, lease, page(0))->load(), 0U);
  EXPECT_EQ(word(*map, lease, page(0) - 8), nullptr);
  EXPECT_EQ(map->reach(lease, int64_t{static_cast<uint32_t>(page(1))} - 4, 8), nullptr) << "half of it is missing";
}

TEST_F(ArenaMapTest, ReservedPagesAreNobodys) {
  const auto map = make_arena(4);
  const Lease lease(machine());
  EXPECT_EQ(error_of(map->reserve(lease, page(1), 2)), 0);
  EXPECT_EQ(error_of(map->reserve(lease, page(2), 1)), EBUSY);
  EXPECT_EQ(error_of(map->reserve(lease, page(3), 2)), EINVAL);
  EXPECT_EQ(word(*map, lease, page(1)), nullptr);
  EXPECT_EQ(map->allocate(lease, page(1), 1), 0U);
  map->release(lease, page(1), 1);
  EXPECT_EQ(map->allocate(lease, page(1), 1), page(1));
}

TEST_F(ArenaMapTest, WhatAClientTouchedIsTaken) {
  const auto map = make_arena(4);
  auto* client = static_cast<char*>(mmap(nullptr, 4 * kPageSize, PROT_READ | PROT_WRITE, MAP_SHARED, last_file(), 0));
  ASSERT_NE(client, MAP_FAILED);
  client[0] = 9;
  client[2 * kPageSize] = 9;
  const Lease lease(machine());
  EXPECT_EQ(map->allocate(lease, 0, 1), page(1));
  EXPECT_EQ(map->allocate(lease, page(2), 1), 0U);
  EXPECT_EQ(word(*map, lease, page(0))->load(), 9U);
  map->release(lease, page(2), 1);
  EXPECT_EQ(client[2 * kPageSize], 0) << "the page is gone for the client too; this touches a new one";
  munmap(client, 4 * kPageSize);
}

TEST_F(ArenaMapTest, TheFirstWindowStays) {
  const auto map = make_arena(4, 0);
  const Lease lease(machine());
  EXPECT_EQ(map->window().pages, 0U);
  EXPECT_EQ(map->allocate(lease, 0, 1), 0U) << "nobody knows where";
  EXPECT_TRUE(map->claim_window(kBase, 4));
  EXPECT_TRUE(map->claim_window(kBase, 4));
  EXPECT_FALSE(map->claim_window(kBase + kPageSize, 4));
  EXPECT_FALSE(map->claim_window(kBase, 5));
  EXPECT_EQ(map->allocate(lease, 0, 1), page(0));
}

/// Every page is at most one thread's: each owner writes its own mark and must find it at the end.
TEST_F(ArenaMapTest, ThreadsShareThePages) {
  constexpr uint32_t kPages = 70;
  const auto map = make_arena(kPages);
  std::atomic<uint64_t> wrong = 0, allocations = 0;
  const auto work = [&](uint64_t mark) {
    std::mt19937_64 random(mark);
    std::set<std::pair<uint64_t, uint32_t>> mine;
    for (int step = 0; step < 2000; ++step) {
      const Lease lease(machine());
      if (random() % 2 == 0) {
        const auto count = static_cast<uint32_t>(1 + random() % 5);
        const uint64_t got = map->allocate(lease, 0, count);
        if (got == 0) continue;
        ++allocations;
        for (uint32_t i = 0; i < count; ++i) wrong += word(*map, lease, got + i * kPageSize)->exchange(mark) != 0;
        mine.emplace(got, count);
      } else if (!mine.empty()) {
        const auto [at, count] = *mine.begin();
        mine.erase(mine.begin());
        for (uint32_t i = 0; i < count; ++i) wrong += word(*map, lease, at + i * kPageSize)->load() != mark;
        map->release(lease, at, count);
      }
    }
    const Lease lease(machine());
    for (const auto& [at, count] : mine) map->release(lease, at, count);
  };
  {
    std::vector<std::jthread> threads;
    for (uint64_t mark = 1; mark <= 4; ++mark) threads.emplace_back(work, mark);
  }
  EXPECT_EQ(wrong, 0U);
  EXPECT_GT(allocations, 100U);
  const CheckReport report = map->check();
  EXPECT_EQ(report.problem, "");
  EXPECT_EQ(report.free_elements, kPages);
}

}  // namespace
}  // namespace skep
