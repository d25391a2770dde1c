// SPDX-License-Identifier: Apache-2.0
// The elements of owners, in one thread: against a model, the rules of flags and charges, the deaths of owners and
// maps.
#include "storage/local_storage.h"

#include <map>
#include <random>
#include <vector>

#include "storage/storage_test_support.h"

namespace skep {
namespace {

using testing::StorageTest;
using testing::TestPart;

class LocalStorageTest : public StorageTest {};

TEST_F(LocalStorageTest, AnElementForEachOwnerAndMap) {
  const TestPart ages(directory(), owners(), 1, OwnerKind::kTask);
  const TestPart names(directory(), owners(), 2, OwnerKind::kTask);
  const Lease lease(machine());
  const Owner one = owner(lease, task(1));
  const Owner two = owner(lease, task(2));
  EXPECT_EQ(get(lease, one, *ages), -1);
  EXPECT_EQ(put(lease, one, *ages, 10), 0);
  EXPECT_EQ(put(lease, two, *ages, 20), 0);
  EXPECT_EQ(put(lease, one, *names, 30), 0);
  EXPECT_EQ(get(lease, one, *ages), 10);
  EXPECT_EQ(get(lease, two, *ages), 20);
  EXPECT_EQ(get(lease, one, *names), 30);
  EXPECT_EQ(get(lease, two, *names), -1);
  EXPECT_EQ(drop(lease, one, *ages), 0);
  EXPECT_EQ(drop(lease, one, *ages), -ENOENT);
  EXPECT_EQ(get(lease, one, *ages), -1);
  EXPECT_EQ(get(lease, two, *ages), 20);
  EXPECT_EQ(owners().census().problem, "");
}

TEST_F(LocalStorageTest, ThePointerThatSomebodyHasShowsTheOldValue) {
  const TestPart part(directory(), owners(), 1, OwnerKind::kTask);
  const Lease lease(machine());
  const Owner one = owner(lease, task(1));
  ASSERT_EQ(put(lease, one, *part, 1), 0);
  const std::byte* old = LocalStorage(owners(), one).find(lease, *part);
  ASSERT_EQ(put(lease, one, *part, 2), 0);
  EXPECT_EQ(get(lease, one, *part), 2);
  for (uint64_t i = 0; i < 10'000; ++i) ASSERT_EQ(put(lease, one, *part, i), 0);
  ASSERT_EQ(drop(lease, one, *part), 0);
  EXPECT_EQ(*reinterpret_cast<const uint64_t*>(old), 1U);
}

TEST_F(LocalStorageTest, FlagsAskForPresenceOrAbsence) {
  const TestPart part(directory(), owners(), 1, OwnerKind::kTask);
  const Lease lease(machine());
  const Owner one = owner(lease, task(1));
  EXPECT_EQ(put(lease, one, *part, 1, Expect::kPresent), -ENOENT);
  EXPECT_EQ(put(lease, one, *part, 1, Expect::kAbsent), 0);
  EXPECT_EQ(put(lease, one, *part, 2, Expect::kAbsent), -EEXIST);
  EXPECT_EQ(get(lease, one, *part), 1);
  EXPECT_EQ(put(lease, one, *part, 2, Expect::kPresent), 0);
  EXPECT_EQ(get(lease, one, *part), 2);
  EXPECT_EQ(part->cells->census().claimed, 0U);
}

// The kernel's numbers of elements that fit on a socket, with its default for net.core.optmem_max.
TEST_F(LocalStorageTest, ASocketHoldsWhatTheKernelAllows) {
  const struct { uint32_t value_size, elements; } rows[] = {{8, 1636}, {64, 962}, {100, 761}, {256, 399}, {1000, 122}};
  if (!ChargeRule::allows(OwnerKind::kSocket, 0, 131071, 0) || ChargeRule::allows(OwnerKind::kSocket, 0, 131072, 0)) {
    GTEST_SKIP() << "net.core.optmem_max is not 131072 here";
  }
  for (const auto& row : rows) {
    std::vector<std::unique_ptr<TestPart>> parts;
    const Lease lease(machine());
    const Owner one = owner(lease, socket(row.value_size));
    uint32_t fit = 0;
    for (int result = 0; result == 0;) {
      parts.push_back(std::make_unique<TestPart>(directory(), owners(), static_cast<uint32_t>(parts.size()) + 1,
                                                 OwnerKind::kSocket, row.value_size, 64));
      result = put(lease, one, **parts.back(), 1);
      fit += result == 0 ? 1 : 0;
      if (result != 0) {
        EXPECT_EQ(result, -ENOMEM);
      }
    }
    EXPECT_EQ(fit, row.elements) << row.value_size;
    // A replacement is charged while the old one is still there, as in the kernel.
    EXPECT_EQ(put(lease, one, **parts.front(), 2), -ENOMEM);
    EXPECT_EQ(drop(lease, one, **parts.front()), 0);
    EXPECT_EQ(put(lease, one, **parts.front(), 2), 0);
    EXPECT_EQ(owners().census().problem, "");
    for (const auto& part : parts) owners().unregister_map((*part)->map);
    ASSERT_TRUE(owners().destroy(lease, one.number));
  }
  EXPECT_EQ(owners().census().charged, 0U);
}

TEST_F(LocalStorageTest, MapsThatAreGoneDoNotCount) {
  const Lease lease(machine());
  const Owner one = owner(lease, socket(1));
  uint32_t id = 0;
  for (int round = 0; round < 3; ++round) {
    std::vector<std::unique_ptr<TestPart>> parts;
    for (uint32_t i = 0; i < 122; ++i) {
      parts.push_back(std::make_unique<TestPart>(directory(), owners(), ++id, OwnerKind::kSocket, 1000, 8));
      ASSERT_EQ(put(lease, one, **parts.back(), id), 0) << round << " " << i;
    }
    for (const auto& part : parts) owners().unregister_map((*part)->map);
  }
  const TestPart another(directory(), owners(), ++id, OwnerKind::kSocket, 1000, 8);
  EXPECT_EQ(get(lease, one, *another), -1);
  EXPECT_EQ(put(lease, one, *another, 7), 0);
  EXPECT_EQ(get(lease, one, *another), 7);
  EXPECT_LE(owners().census().blocks, 122 / EntryBlock::kEntries + 1);
  EXPECT_EQ(owners().census().problem, "");
}

TEST_F(LocalStorageTest, AnOwnersDeathFreesItsElementsOnly) {
  std::vector<std::unique_ptr<TestPart>> parts;
  for (uint32_t i = 1; i <= 20; ++i) {
    parts.push_back(std::make_unique<TestPart>(directory(), owners(), i, OwnerKind::kTask));
  }
  const Lease lease(machine());
  const Owner one = owner(lease, task(1));
  const Owner two = owner(lease, task(2));
  for (const auto& part : parts) {
    ASSERT_EQ(put(lease, one, **part, 1), 0);
    ASSERT_EQ(put(lease, two, **part, 2), 0);
  }
  ASSERT_TRUE(owners().destroy(lease, one.number));
  ASSERT_TRUE(owners().destroy(lease, one.number));
  EXPECT_FALSE(owners().find(task(1)));
  EXPECT_FALSE(owners().find(one.number));
  for (const auto& part : parts) {
    EXPECT_EQ((*part)->cells->census().live, 1U);
    EXPECT_EQ(get(lease, two, **part), 2);
    EXPECT_EQ(get(lease, one, **part), -1);
    EXPECT_EQ(put(lease, one, **part, 3), -ENOENT);
  }
  EXPECT_EQ(owners().census().owners, 1U);
  EXPECT_EQ(owners().census().problem, "");
}

// Sixteen cache slots for forty maps: each is right whichever was asked for last.
TEST_F(LocalStorageTest, MapsShareCacheSlots) {
  std::vector<std::unique_ptr<TestPart>> parts;
  std::array<int, kCacheSlots> uses{};
  for (uint32_t i = 1; i <= 40; ++i) {
    parts.push_back(std::make_unique<TestPart>(directory(), owners(), i, OwnerKind::kTask));
    ++uses[(*parts.back())->cache_slot];
  }
  for (const int use : uses) EXPECT_TRUE(use == 2 || use == 3);
  const Lease lease(machine());
  const Owner one = owner(lease, task(1));
  for (uint64_t i = 0; i < 40; ++i) ASSERT_EQ(put(lease, one, **parts[i], i), 0);
  for (int round = 0; round < 2; ++round) {
    for (int64_t i = 0; i < 40; ++i) EXPECT_EQ(get(lease, one, **parts[static_cast<size_t>(i)]), i);
  }
  EXPECT_EQ(owners().census().problem, "");
}

TEST_F(LocalStorageTest, AgreesWithAModel) {
  std::mt19937 random(4);
  std::vector<std::unique_ptr<TestPart>> parts;
  for (uint32_t i = 1; i <= 24; ++i) {
    parts.push_back(std::make_unique<TestPart>(directory(), owners(), i, OwnerKind::kTask));
  }
  std::map<std::pair<uint64_t, size_t>, int64_t> model;
  for (uint64_t step = 0, steps = testing::repeats(200'000); step < steps; ++step) {
    const Lease lease(machine());
    const uint64_t id = 1 + random() % 50;
    const size_t part = random() % parts.size();
    const auto known = model.find({id, part});
    const Owner who = owner(lease, task(id));
    switch (random() % 8) {
      case 0:
      case 1: {
        const auto expect = static_cast<Expect>(random() % 3);
        const bool refused = known == model.end() ? expect == Expect::kPresent : expect == Expect::kAbsent;
        ASSERT_EQ(put(lease, who, **parts[part], step, expect), !refused               ? 0
                                                                : known == model.end() ? -ENOENT
                                                                                       : -EEXIST);
        if (!refused) model[{id, part}] = static_cast<int64_t>(step);
        break;
      }
      case 2:
        ASSERT_EQ(drop(lease, who, **parts[part]), known == model.end() ? -ENOENT : 0);
        model.erase({id, part});
        break;
      case 3:
        if (random() % 50 != 0) break;
        ASSERT_TRUE(owners().destroy(lease, who.number));
        std::erase_if(model, [&](const auto& element) { return element.first.first == id; });
        break;
      case 4:
        owners().sweep(lease, 4, [](const OwnerIdentity&, const OwnerTrace*) { return false; });
        break;
      default:
        ASSERT_EQ(get(lease, who, **parts[part]), known == model.end() ? -1 : known->second);
    }
  }
  uint32_t live = 0;
  for (const auto& part : parts) live += (*part)->cells->census().live;
  EXPECT_EQ(live, model.size());
  EXPECT_EQ(owners().census().entries, model.size());
  EXPECT_EQ(owners().census().problem, "");
}

// A million owners one after the other leave nothing behind.
TEST_F(LocalStorageTest, WhatComesAndGoesLeavesNothing) {
  const TestPart part(directory(), owners(), 1, OwnerKind::kTask);
  const uint64_t count = testing::repeats(100'000);
  for (uint64_t i = 1; i <= count; ++i) {
    const Lease lease(machine());
    const Owner who = owner(lease, task(i));
    ASSERT_EQ(put(lease, who, *part, i), 0);
    ASSERT_TRUE(owners().destroy(lease, who.number));
  }
  EXPECT_EQ(owners().census().owners, 0U);
  EXPECT_EQ(part->cells->census().live, 0U);
  EXPECT_LE(part->cells->census().chunks, 3U);
}

}  // namespace
}  // namespace skep
