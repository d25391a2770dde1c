// SPDX-License-Identifier: Apache-2.0
// Many owners: twenty maps each, and ones that die by the million while nobody looks. Run with SKEP_STRESS=10 for
// 100,000 owners of twenty elements and for a million dead ones; both tests report their times and what memory is left.
#include <chrono>
#include <cstdio>
#include <vector>

#include "storage/storage_test_support.h"

namespace skep {
namespace {

using testing::StorageTest;
using testing::TestPart;

class StorageManyTest : public StorageTest {
 protected:
  static bool all_gone(const OwnerIdentity&, const OwnerTrace*) { return true; }

  /// Microseconds since the last call.
  double lap() {
    const auto now = std::chrono::steady_clock::now();
    const double passed = std::chrono::duration<double, std::micro>(now - lap_).count();
    lap_ = now;
    return passed;
  }
  void sweep_part(const StoragePart& part, uint32_t cells) {
    const Lease lease(machine());
    part.cells->sweep(lease, cursor_, cells,
                      [&](uint32_t cell, OwnerNumber number) { owners().check_element(lease, part, cell, number); });
    part.cells->trim(lease);
  }
  void expect_next_to_nothing() {
    const Owners::Census census = owners().census();
    EXPECT_EQ(census.problem, "");
    EXPECT_EQ(census.unfinished, 0U);
    EXPECT_EQ(census.owners + census.entries + census.blocks + census.traces, 0U);
    EXPECT_EQ(census.charged, 0U);
    EXPECT_LE(census.chunks, 6U);
  }

 private:
  std::chrono::steady_clock::time_point lap_ = std::chrono::steady_clock::now();
  std::atomic<uint32_t> cursor_{0};
};

TEST_F(StorageManyTest, TwentyMapsEach) {
  constexpr uint32_t kMaps = 20;
  const auto count = static_cast<uint32_t>(testing::repeats(10'000));
  std::vector<std::unique_ptr<TestPart>> parts;
  for (uint32_t i = 1; i <= kMaps; ++i) {
    parts.push_back(std::make_unique<TestPart>(directory(), owners(), i, OwnerKind::kTask));
  }
  lap();
  for (uint64_t id = 1; id <= count; ++id) {
    const Lease lease(machine());
    const Owner who = owner(lease, task(id));
    for (uint32_t i = 0; i < kMaps; ++i) ASSERT_EQ(put(lease, who, **parts[i], id * kMaps + i), 0);
  }
  const double made = lap();
  for (uint64_t id = 1; id <= count; ++id) {
    const Lease lease(machine());
    const Owner who = owners().find(task(id));
    ASSERT_TRUE(who);
    for (uint32_t i = 0; i < kMaps; ++i) ASSERT_EQ(get(lease, who, **parts[i]), static_cast<int64_t>(id * kMaps + i));
  }
  const double found = lap();
  EXPECT_EQ(owners().census().entries, count * kMaps);
  EXPECT_EQ(owners().census().problem, "");
  const uint32_t chunks = owners().census().chunks;
  lap();
  for (uint64_t id = 1; id <= count; ++id) {
    const Lease lease(machine());
    ASSERT_TRUE(owners().destroy(lease, owners().find(task(id)).number));
  }
  const double destroyed = lap();
  for (uint32_t i = 0; i < 3 * chunks; ++i) {
    const Lease lease(machine());
    owners().sweep(lease, 1, all_gone);
  }
  uint32_t cells = 0;
  for (const auto& part : parts) {
    const StoragePart& it = **part;
    for (uint32_t i = 0; i < 3 * it.cells->seen() / it.cells->layout().chunk_cells; ++i) sweep_part(it, 1);
    EXPECT_EQ(it.cells->census().live, 0U);
    cells += it.cells->census().chunks;
    EXPECT_LE(it.cells->census().chunks, 2U);
  }
  expect_next_to_nothing();
  std::printf(
      "%u owners x %u maps: made %.2f, found %.2f us an element, destroyed %.2f us an owner; "
      "%u of %u chunks of owners and %u of elements left\n",
      count, kMaps, made / count / kMaps, found / count / kMaps, destroyed / count, owners().census().chunks, chunks,
      cells);
}

// Owners that die while nobody looks go in steps of bounded length, whatever their number.
TEST_F(StorageManyTest, AMillionDeadLeaveNothing) {
  constexpr uint32_t kStep = 64;
  const auto count = static_cast<uint32_t>(testing::repeats(100'000));
  const TestPart part(directory(), owners(), 1, OwnerKind::kTask);
  const OwnerTrace trace{};
  lap();
  for (uint64_t id = 1; id <= count; ++id) {
    const Lease lease(machine());
    const auto who = owners().find_or_make(lease, task(id), id % 16 == 0 ? &trace : nullptr);
    ASSERT_TRUE(who);
    ASSERT_EQ(put(lease, *who, *part, id), 0);
  }
  const double made = lap();
  const uint32_t chunks = owners().census().chunks;
  lap();
  uint32_t steps = 0;
  double longest = 0;
  double total = 0;
  // Each step looks at 64 owners; memory goes while they do, and is gone a round after them.
  for (const uint32_t most = 3 * (count / kStep + 64); steps < most; ++steps) {
    {
      const Lease lease(machine());
      owners().sweep(lease, kStep, all_gone);
    }
    sweep_part(*part, kStep);
    const double took = lap();
    longest = std::max(longest, took);
    total += took;
  }
  EXPECT_EQ(part->cells->census().live, 0U);
  EXPECT_LE(part->cells->census().chunks, 2U);
  expect_next_to_nothing();
  std::printf(
      "%u dead owners: made in %.2f us each, swept in %u steps of %.1f us, the longest %.0f us; %u of %u chunks "
      "left\n",
      count, made / count, steps, total / steps, longest, owners().census().chunks, chunks);
}

}  // namespace
}  // namespace skep
