// SPDX-License-Identifier: Apache-2.0
// Memory that somebody has scribbled over: every operation ends, touches nothing beyond the windows, and says
// something.
#include <fcntl.h>

#include <chrono>
#include <random>

#include "storage/storage_test_support.h"

namespace skep {
namespace {

using testing::StorageTest;
using testing::TestPart;

class StorageDamageTest : public StorageTest {
 protected:
  /// Writes numbers that mean something to nobody, or too much, over one word in `every`.
  static void scribble(std::byte* begin, uint64_t length, uint32_t every, std::mt19937& random) {
    constexpr uint64_t kFavourites[] = {0,          1,          2,          uint64_t{1} << 32 | 1, UINT32_MAX,
                                        UINT64_MAX, 1ULL << 62, 1ULL << 63, uint64_t{7} << 32 | 3, 0x7fffffff};
    for (uint64_t at = 0; at + 8 <= length; at += 8) {
      if (random() % every != 0) continue;
      const uint64_t word = random() % 4 == 0 ? random() : kFavourites[random() % std::size(kFavourites)];
      reinterpret_cast<std::atomic<uint64_t>*>(begin + at)->store(word);
    }
  }
  static void scribble_slab(std::byte* base, const SlabLayout& slab, uint32_t every, std::mt19937& random) {
    const uint64_t cells = uint64_t{slab.chunk_cells} * 2;
    scribble(base + slab.head, slab.fixed_bytes(), every, random);
    scribble(base + slab.states, cells * 8, every, random);
    scribble(base + slab.cells, cells * slab.stride, every, random);
  }
};

TEST_F(StorageDamageTest, EverythingEnds) {
  const int fd = openat(directory().fd(), "owners", O_RDWR | O_CLOEXEC);
  const OwnersLayout layout(machine().slots());
  const Segment window = Segment::map(fd, kHeaderOffset, layout.size(), Access::kReadWrite).value();
  close(fd);
  const TestPart one(directory(), owners(), 1, OwnerKind::kTask);
  const TestPart two(directory(), owners(), 2, OwnerKind::kTask);
  const auto start = std::chrono::steady_clock::now();
  for (uint32_t seed = 1, seeds = static_cast<uint32_t>(testing::repeats(40)); seed <= seeds; ++seed) {
    std::mt19937 random(seed);
    const auto use = [&] {
      for (int i = 0; i < 40; ++i) {
        const Lease lease(machine());
        const auto who = owners().find_or_make(lease, task(1 + random() % 8), nullptr);
        if (!who) continue;
        const std::byte* value = LocalStorage(owners(), *who).find(lease, *one);
        if (value != nullptr) static_cast<void>(*reinterpret_cast<const volatile uint8_t*>(value));
        const StoragePart& part = random() % 2 == 0 ? *one : *two;
        if (const auto cell = part.cells->claim(lease)) {
          if (!LocalStorage(owners(), *who).link(lease, part, *cell, Expect::kAny)) part.cells->give_back(*cell);
        }
        if (random() % 4 == 0) static_cast<void>(LocalStorage(owners(), *who).unlink(lease, part));
        if (random() % 8 == 0) static_cast<void>(owners().destroy(lease, who->number));
        if (random() % 8 == 0) static_cast<void>(owners().destroy(lease, random()));
        owners().sweep(lease, 8, [](const OwnerIdentity&, const OwnerTrace*) { return false; });
        std::atomic<uint32_t> cursor{static_cast<uint32_t>(random())};
        part.cells->sweep(lease, cursor, 8, [&](uint32_t cell, OwnerNumber number) {
          owners().check_element(lease, part, cell, number);
        });
        part.cells->trim(lease);
      }
      static_cast<void>(owners().census());
      static_cast<void>(owners().problem_of(*one));
    };
    use();
    auto& control = *reinterpret_cast<OwnersControl*>(window.data());
    auto* const begin = reinterpret_cast<std::byte*>(&control.serial);
    const uint32_t every = 1 + random() % 64;
    scribble(begin, sizeof control - static_cast<uint64_t>(begin - window.data()), every, random);
    for (const SlabLayout* slab : {&layout.records, &layout.blocks, &layout.traces}) {
      scribble_slab(window.data(), *slab, every, random);
    }
    const SlabLayout& elements = one->cells->layout();
    scribble_slab(one->cells->bytes(0) - elements.cells, elements, every, random);
    use();
  }
  EXPECT_LT(std::chrono::steady_clock::now() - start, std::chrono::minutes(5));
}

}  // namespace
}  // namespace skep
