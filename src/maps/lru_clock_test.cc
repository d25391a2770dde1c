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
      LruClock::Victim victims[LruClock::kMostVictims];
      uint32_t beyond[32];
    } room = {};
    for (uint32_t& number : room.beyond) number = kUntouched;
    const uint32_t found = LruClock(layout_, window_.get()).choose(0, claim_, room.victims);
    EXPECT_LE(found, LruClock::kMostVictims);
    for (const uint32_t number : room.beyond) EXPECT_EQ(number, kUntouched) << "written beyond the victims";
    for (uint32_t i = 0; i < std::min(found, LruClock::kMostVictims); ++i) {
      EXPECT_LE(room.victims[i].element - 1, layout_.elements - 1);
    }
    return found;
  }

  struct Free {
    void operator()(std::byte* memory) const { std::free(memory); }
  };
  std::unique_ptr<std::byte, Free> window_;
  HashLayout layout_{};
  LruUses uses_;
  std::atomic<uint32_t> claim_ = 0;
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
    control->cold = control->warm = control->warm_elements = claim_ = anywhere;
    EXPECT_GT(choose(), 0U);
  }
  set_all(0);
  EXPECT_EQ(choose(), 0U);
}

TEST_P(LruClockTest, VictimsLiveOnUntilTheyGetAnotherKeyOrValue) {
  set_all(LruUses::kInChain);
  LruClock::Victim victims[LruClock::kMostVictims], again[LruClock::kMostVictims];
  const LruClock clock(layout_, window_.get());
  uint32_t found = clock.choose(0, claim_, victims);
  ASSERT_GT(found, 5U);
  for (uint32_t i = 0; i < found; ++i) {
    uses_.touch(victims[i].element);  // or else keys that are always in use could not be evicted
    EXPECT_TRUE(uses_.lives_on(victims[i].element, victims[i].byte));
  }
  uses_.renew(victims[0].element);
  uses_.forget(victims[1].element);
  uses_.begin(victims[1].element);
  uses_.forget_passed(victims[2].element);
  uses_.begin(victims[2].element);
  uses_.inherit(victims[3].element, victims[4].element);
  for (uint32_t i = 0; i < 4; ++i) {
    EXPECT_FALSE(uses_.lives_on(victims[i].element, victims[i].byte)) << i;
    EXPECT_TRUE(uses_.in_chain(victims[i].element)) << i;
  }
  EXPECT_TRUE(uses_.lives_on(victims[4].element, victims[4].byte));
  EXPECT_EQ(uses_.of(victims[0].element) & LruUses::kUses, 2);
  EXPECT_EQ(uses_.of(victims[3].element) & LruUses::kUses, 1);
  // What a writer chose and then left, since it died or others had the chains, is chosen in the next round.
  set_all(LruUses::kInChain);
  found = clock.choose(0, claim_, victims);
  bool met = false;
  for (uint32_t i = 0; i < 2 * kEntries && !met; ++i) {
    const uint32_t count = clock.choose(0, claim_, again);
    for (uint32_t j = 0; j < count; ++j) met |= again[j].element == victims[found - 1].element;
  }
  EXPECT_TRUE(met);
}

TEST_P(LruClockTest, FreshElementsArePassedOnce) {
  set_all(0);
  uses_.forget(100);
  uses_.begin(100);
  uses_.forget_passed(101);
  uses_.begin(101);
  for (uint32_t element = 200; element < 900; ++element) uses_.set(element, LruUses::kInChain);
  EXPECT_TRUE((uses_.of(100) & LruUses::kFresh) != 0 && (uses_.of(101) & LruUses::kFresh) == 0);
  LruClock::Victim victims[LruClock::kMostVictims];
  const LruClock clock(layout_, window_.get());
  std::atomic<uint32_t> claims[2] = {};
  uint32_t went = 0, order = 0, fresh_went = 0, old_went = 0;
  while (went < 702) {
    const uint32_t found = clock.choose(GetParam() == 0 ? 0 : went % 2, claims[went % 2], victims);
    ASSERT_GT(found, 0U);
    for (uint32_t i = 0; i < found; ++i, ++went) {
      ++order;
      if (victims[i].element == 100) fresh_went = order;
      if (victims[i].element == 101) old_went = order;
      uses_.forget_passed(victims[i].element);
    }
  }
  EXPECT_GT(fresh_went, 300U) << "it is passed once, and goes in the next round";
  EXPECT_LT(old_went, fresh_went);
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
