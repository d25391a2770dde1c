// SPDX-License-Identifier: Apache-2.0
//
// The hands of LRU maps, while others use, insert and remove elements between any two of their steps.

#include <functional>

namespace skep::testing {
inline std::function<void()> at_crash_point;
}  // namespace skep::testing
#define SKEP_CRASH_POINT() (::skep::testing::at_crash_point ? ::skep::testing::at_crash_point() : void())

#include <gtest/gtest.h>

#include <cstdlib>
#include <random>

#include "maps/lru_clock.cc"
#include "skep/abi.h"

namespace skep {
namespace {

class LruClockTest : public ::testing::TestWithParam<uint32_t> {
 protected:
  static constexpr uint32_t kEntries = 1024;

  void SetUp() override {
    MapSpec spec = {};
    spec.type = BPF_MAP_TYPE_LRU_HASH;
    spec.key_size = spec.value_size = 8;
    spec.max_entries = kEntries;
    spec.flags = GetParam();
    layout_ = *HashLayout::of(spec, {.cpus = 2, .slots = 8}, false);
    window_.reset(static_cast<std::byte*>(std::aligned_alloc(64, layout_.bucket_table)));
    std::memset(window_.get(), 0, layout_.bucket_table);
    uses_ = LruUses(reinterpret_cast<std::atomic<uint8_t>*>(window_.get() + layout_.lru_uses));
  }
  void TearDown() override { testing::at_crash_point = nullptr; }

  void set_all(uint8_t byte) {
    for (uint32_t element = 1; element <= layout_.elements; ++element) uses_.set(element, byte);
  }
  /// The victims, after checks that they are elements and no more than there is room for.
  uint32_t choose() {
    constexpr uint32_t kUntouched = 0xabcdabcd;
    struct {
      uint32_t victims[LruClock::kMostVictims];
      uint32_t beyond[32];
    } room;
    for (uint32_t& number : room.beyond) number = kUntouched;
    const uint32_t found = LruClock(layout_, window_.get()).choose(0, room.victims);
    EXPECT_LE(found, LruClock::kMostVictims);
    for (const uint32_t number : room.beyond) EXPECT_EQ(number, kUntouched) << "written beyond the victims";
    for (uint32_t i = 0; i < std::min(found, LruClock::kMostVictims); ++i) {
      EXPECT_LE(room.victims[i] - 1, layout_.elements - 1);
    }
    return found;
  }

  struct Free {
    void operator()(std::byte* memory) const { std::free(memory); }
  };
  std::unique_ptr<std::byte, Free> window_;
  HashLayout layout_{};
  LruUses uses_;
};

TEST_P(LruClockTest, ElementsThatLoseTheirUsesBehindTheHand) {
  set_all(LruUses::kInChain);
  for (uint32_t element = 1; element <= layout_.elements; element += 4) uses_.set(element, LruUses::kInChain | 1);
  testing::at_crash_point = [this] { set_all(LruUses::kInChain); };
  for (uint32_t i = 0; i < 2 * kEntries; ++i) choose();
}

TEST_P(LruClockTest, BytesThatChangeAtAnyTime) {
  std::mt19937 random(4);
  testing::at_crash_point = [&] {
    for (uint32_t i = 0; i < 64; ++i) {
      uses_.set(1 + static_cast<uint32_t>(random() % layout_.elements), static_cast<uint8_t>(random()));
    }
  };
  testing::at_crash_point();
  for (uint32_t i = 0; i < 2000; ++i) choose();
}

TEST_P(LruClockTest, HandsThatPointAnywhere) {
  set_all(LruUses::kInChain | LruUses::kWarm | LruUses::kUses);
  auto* control = reinterpret_cast<LruControl*>(window_.get() + layout_.lru_controls);
  for (const uint32_t anywhere : {layout_.elements, layout_.elements + 17, UINT32_MAX, 0x80000000U}) {
    control->cold = control->warm = control->warm_elements = anywhere;
    EXPECT_GT(choose(), 0U);
  }
  set_all(0);
  EXPECT_EQ(choose(), 0U);
}

TEST_P(LruClockTest, TheOnlyElementIsFoundInWhoeversListItIs) {
  for (uint32_t element = 1; element <= layout_.elements; ++element) {
    set_all(0);
    uses_.set(element, LruUses::kInChain);
    EXPECT_EQ(choose(), 1U) << element;
  }
}

INSTANTIATE_TEST_SUITE_P(Lists, LruClockTest, ::testing::Values(0U, uint32_t{BPF_F_NO_COMMON_LRU}),
                         [](const auto& flags) { return flags.param == 0 ? "Common" : "Apart"; });

}  // namespace
}  // namespace skep
