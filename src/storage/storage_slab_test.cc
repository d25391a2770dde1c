// SPDX-License-Identifier: Apache-2.0
// Slabs: cells that are claimed, published, retired and claimed again; chunks that come and go; file systems that get
// full.
#include <atomic>
#include <cstring>
#include <optional>
#include <set>
#include <thread>
#include <vector>

#include "machine/reader_section.h"
#include "memory/small_tmpfs.h"
#include "storage/storage_test_support.h"

namespace skep {
namespace {

using testing::TestSlab;

constexpr uint64_t kStride = 64;
constexpr uint32_t kCells = 64;  // of a chunk
constexpr uint32_t kCapacity = 16 * kCells;

class StorageSlabTest : public ::testing::Test {
 protected:
  void SetUp() override { slab_.emplace(directory_, *machine_, kStride, kCapacity, kStride * kCells); }

  [[nodiscard]] Machine& machine() const { return *machine_; }
  [[nodiscard]] Slab& slab() const { return **slab_; }
  uint32_t claim(const Lease& lease) const {
    const auto cell = slab().claim(lease);
    EXPECT_TRUE(cell);
    return cell.value_or(0);
  }
  uint32_t make(const Lease& lease, uint64_t meaning) const {
    const uint32_t cell = claim(lease);
    std::memcpy(slab().bytes(cell), &meaning, sizeof meaning);
    slab().publish(cell, meaning);
    return cell;
  }
  [[nodiscard]] uint64_t content(uint32_t cell) const {
    uint64_t value;
    std::memcpy(&value, slab().bytes(cell), sizeof value);
    return value;
  }
  void trim_all() const {
    for (uint32_t i = 0; i < 8 * kCapacity / kCells; ++i) {
      const Lease lease(machine());
      slab().trim(lease);
    }
  }

 private:
  TestDirectory directory_;
  std::shared_ptr<Machine> machine_ = open_machine(directory_);
  std::optional<TestSlab> slab_;
};

TEST_F(StorageSlabTest, ACellIsWhatItsWordSays) {
  const Lease lease(machine());
  const uint32_t cell = claim(lease);
  EXPECT_EQ(slab().meaning(cell), 0U);
  EXPECT_EQ(slab().census().claimed, 1U);
  slab().publish(cell, 4711);
  EXPECT_EQ(slab().meaning(cell), 4711U);
  EXPECT_EQ(slab().census().live, 1U);
  EXPECT_FALSE(slab().retire_once(cell, 4712));
  EXPECT_TRUE(slab().retire_once(cell, 4711));
  EXPECT_FALSE(slab().retire_once(cell, 4711));
  EXPECT_EQ(slab().meaning(cell), 0U);
  EXPECT_EQ(slab().census().retired, 1U);
  const uint32_t other = claim(lease);
  EXPECT_NE(other, cell);
  slab().give_back(other);
  EXPECT_EQ(slab().census().claimed, 0U);
}

TEST_F(StorageSlabTest, ARetiredCellWaitsForThoseWhoMaySeeIt) {
  std::atomic<int> stage{0};
  uint32_t cell = 0;
  {
    const Lease lease(machine());
    cell = make(lease, 7);
  }
  std::thread reader([&] {
    const ReaderSection section(machine());
    stage = 1;
    EXPECT_TRUE(eventually([&] { return stage.load() == 2; }));
    EXPECT_EQ(content(cell), 7U);
  });
  ASSERT_TRUE(eventually([&] { return stage.load() == 1; }));
  for (int round = 0; round < 3; ++round) {
    const Lease lease(machine());
    if (round == 0) {
      slab().retire(cell);
    }
    for (uint32_t i = 0; i < 3 * kCells; ++i) {
      const uint32_t other = make(lease, 8);
      EXPECT_NE(other, cell);
      slab().retire(other);
    }
    slab().trim(lease);
  }
  stage = 2;
  reader.join();
  std::set<uint32_t> cells;
  for (uint32_t i = 0; i < kCapacity; ++i) {
    const Lease lease(machine());
    cells.insert(make(lease, 9));
  }
  EXPECT_TRUE(cells.contains(cell));
}

TEST_F(StorageSlabTest, EveryCellCanBeHadOnceAndAgain) {
  for (int round = 0; round < 3; ++round) {
    std::set<uint32_t> cells;
    for (uint64_t i = 0; i < kCapacity; ++i) {
      const Lease lease(machine());
      cells.insert(make(lease, i + 1));
    }
    EXPECT_EQ(cells.size(), kCapacity);
    const Lease lease(machine());
    EXPECT_EQ(to_int(slab().claim(lease).error()), ENOMEM);
    EXPECT_EQ(slab().census().live, kCapacity);
    for (const uint32_t cell : cells) slab().retire(cell);
    // The lease under which a grace period begins is waited for too.
    EXPECT_FALSE(slab().claim(lease));
  }
}

TEST_F(StorageSlabTest, EmptyChunksGiveTheirMemoryBack) {
  std::vector<uint32_t> cells;
  for (uint64_t i = 0; i < kCapacity; ++i) {
    const Lease lease(machine());
    cells.push_back(make(lease, i + 1));
  }
  EXPECT_EQ(slab().census().chunks, kCapacity / kCells);
  trim_all();
  EXPECT_EQ(slab().census().chunks, kCapacity / kCells);
  const uint32_t kept = cells[5 * kCells];
  for (const uint32_t cell : cells) {
    if (cell != kept) slab().retire(cell);
  }
  trim_all();
  EXPECT_EQ(slab().census().chunks, 2U);
  EXPECT_EQ(content(kept), 5 * kCells + 1);
  for (uint64_t i = 0; i + 1 < kCapacity; ++i) {
    const Lease lease(machine());
    make(lease, i + 1);
  }
  EXPECT_EQ(content(kept), 5 * kCells + 1);
}

// Counts of free cells are only hints: what they miss does not keep the memory.
TEST_F(StorageSlabTest, ChunksWhoseCountsAreWrongAreGivenBackToo) {
  std::vector<uint32_t> cells;
  for (uint64_t i = 0; i < kCapacity; ++i) {
    const Lease lease(machine());
    cells.push_back(claim(lease));
  }
  const Lease lease(machine());
  EXPECT_FALSE(slab().claim(lease));
  for (const uint32_t cell : cells) slab().give_back(cell);
  trim_all();
  EXPECT_EQ(slab().census().chunks, 1U);
}

TEST_F(StorageSlabTest, ASweepMeetsEveryLiveCell) {
  std::set<uint64_t> expected;
  for (uint64_t i = 0; i < 5 * kCells / 2; ++i) {
    const Lease lease(machine());
    make(lease, i + 1);
    expected.insert(i + 1);
  }
  const Lease lease(machine());
  std::atomic<uint32_t> cursor{4'000'000'000};
  std::set<uint64_t> met;
  for (int i = 0; i < 30; ++i) {
    slab().sweep(lease, cursor, 7, [&](uint32_t, uint64_t meaning) { met.insert(meaning); });
  }
  EXPECT_EQ(met, expected);
  std::set<uint64_t> walked;
  slab().for_each_live(0, [&](uint32_t, uint64_t meaning) { return walked.insert(meaning).second; });
  EXPECT_EQ(walked, expected);
}

// Threads that claim, fill, check and retire at once, and one that gives memory back.
TEST_F(StorageSlabTest, NobodyGetsWhatAnotherHas) {
  std::atomic<bool> stop{false};
  std::atomic<uint64_t> wrong{0};
  std::vector<std::thread> threads;
  for (uint64_t thread = 1; thread <= 3; ++thread) {
    threads.emplace_back([&, thread] {
      for (uint64_t i = 0, rounds = testing::repeats(400); i < rounds; ++i) {
        std::vector<std::pair<uint32_t, uint64_t>> mine;
        for (uint64_t n = 0; n < 2 * kCells; ++n) {
          const Lease lease(machine());
          const auto cell = slab().claim(lease);
          if (!cell) break;
          const uint64_t value = thread << 48 | i << 16 | n;
          std::memcpy(slab().bytes(*cell), &value, sizeof value);
          slab().publish(*cell, value);
          mine.emplace_back(*cell, value);
        }
        const Lease lease(machine());
        for (const auto& [cell, value] : mine) {
          wrong += content(cell) != value || slab().meaning(cell) != value ? 1 : 0;
          slab().retire(cell);
        }
      }
    });
  }
  std::thread trimmer([&] {
    while (!stop) {
      const Lease lease(machine());
      slab().trim(lease);
    }
  });
  for (auto& thread : threads) thread.join();
  stop = true;
  trimmer.join();
  EXPECT_EQ(wrong.load(), 0U);
  EXPECT_EQ(slab().census().live + slab().census().claimed, 0U);
  trim_all();
  EXPECT_EQ(slab().census().chunks, 1U);
}

// Whoever finds the file system full takes nothing from those who got the last of it.
TEST(StorageSlabFullTest, LiveCellsKeepTheirMemory) {
  TestDirectory place;
  const auto machine = open_machine(place);
  TestDirectory directory;
  SKEP_EXPECT_HOLDS_ON_SMALL_TMPFS(directory, [&](int) {
    TestDirectory* const nested = &directory;
    const int fd = ::open(nested->path().c_str(), O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
    const SlabLayout layout = SlabLayout::make(0, 1024, 1 << 20, 64 << 10, machine->slots());
    if (!size_file(fd, layout.end)) return false;
    const Segment window = Segment::map(fd, 0, layout.end, Access::kReadWrite).value();
    if (!window.reserve(0, layout.fixed_bytes())) return false;
    Slab slab(layout, window, *machine);
    bool good = true;
    for (int round = 0; round < 20; ++round) {
      std::atomic<uint64_t> wrong{0};
      std::atomic<uint64_t> made{0};
      std::vector<std::thread> threads;
      for (uint64_t thread = 1; thread <= 4; ++thread) {
        threads.emplace_back([&, thread] {
          std::vector<uint32_t> mine;
          for (;;) {
            const Lease lease(*machine);
            const auto cell = slab.claim(lease);
            if (!cell) break;
            std::memset(slab.bytes(*cell), static_cast<int>(thread), 1024);
            slab.publish(*cell, thread);
            mine.push_back(*cell);
          }
          made += mine.size();
          const Lease lease(*machine);
          for (const uint32_t cell : mine) {
            for (uint32_t i = 0; i < 1024; i += 256) wrong += slab.bytes(cell)[i] != std::byte(thread) ? 1 : 0;
            slab.retire(cell);
          }
        });
      }
      for (auto& thread : threads) thread.join();
      good = good && wrong == 0 && made > 100 && slab.census().live == 0 && slab.census().claimed == 0;
      for (int i = 0; i < 100; ++i) {
        const Lease lease(*machine);
        slab.trim(lease);
      }
      good = good && slab.census().chunks <= 1;
    }
    close(fd);
    return good;
  });
}

}  // namespace
}  // namespace skep
