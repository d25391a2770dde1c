// SPDX-License-Identifier: Apache-2.0
//
// LRU maps under threads: exact capacity, no key lost, duplicated or torn.

#include <gtest/gtest.h>

#include <atomic>
#include <thread>

#include "maps/lru_test_support.h"
#include "memory/test_repeats.h"

namespace skep {
namespace {

using testing::kApart;
using testing::kLru;
using testing::kLruPerCpu;
using testing::LruShape;

class LruThreadsTest : public testing::LruTest, public ::testing::WithParamInterface<LruShape> {
 protected:
  void SetUp() override {
    MapTest::SetUp();
    make_lru(GetParam());
  }
  static constexpr uint64_t kThreads = 4;
};

TEST_P(LruThreadsTest, NothingGoesBeforeTheMapIsFull) {
  for (uint64_t round = 0; round < testing::repeats(5); ++round) {
    make_lru(GetParam());
    std::atomic<int> errors = 0;
    {
      std::vector<std::jthread> threads;
      for (uint64_t t = 0; t < kThreads; ++t) {
        threads.emplace_back([&, t] {
          const Lease lease(machine());
          for (uint64_t k = t; k < entries_; k += kThreads) errors += put(lease, k, BPF_NOEXIST) != 0;
        });
      }
    }
    EXPECT_EQ(errors, 0);
    ASSERT_EQ(check_content(), entries_);
  }
}

TEST_P(LruThreadsTest, EverythingAtOnce) {
  const uint64_t operations = testing::repeats(40'000);
  const uint64_t keys = entries_ * 3 + 10;
  constexpr uint64_t kNotMany = 64;  // the cold part of the smallest list here has 90 elements, writers hold a few
  std::atomic<uint64_t> bad = 0, torn = 0, lost = 0, inserts = 0;
  {
    std::vector<std::jthread> threads;
    for (uint64_t t = 0; t < kThreads; ++t) {
      threads.emplace_back([&, t] {
        std::mt19937_64 random(t);
        std::string copy(map_->user_value_size(), '\0');
        for (uint64_t i = 0; i < operations; ++i) {
          const uint64_t k = random() % keys;
          const auto nonce = static_cast<uint32_t>(i);
          switch (random() % 8) {
            case 0: {
              const Lease lease(machine());
              const int error = erase(lease, k);
              bad += error != 0 && error != ENOENT;
              break;
            }
            case 1: {
              const Lease lease(machine());
              const auto taken = map_->take(lease, key(k).data(), copy.data(), 0);
              bad += !taken && taken.error() != Errno{ENOENT};
              if (taken) torn += !testing::value_is_whole(copy.data(), copy.size(), k);
              break;
            }
            case 2: {
              const Lease lease(machine());
              static_cast<void>(map_->find(lease, key(k).data()));
              break;
            }
            case 3:
              torn += look(k) == Found::kTorn;
              break;
            case 4: {  // a key of this thread's own, which nobody else erases, and which goes only for many others
              const Lease lease(machine());
              const uint64_t own = 1'000'000 + t, before = ++inserts;
              bad += put(lease, own, BPF_ANY, nonce) != 0;
              const bool there = look(own) == Found::kWhole;
              lost += entries_ > 500 && !there && inserts - before < kNotMany;
              break;
            }
            default: {
              const Lease lease(machine());
              ++inserts;
              const int error = put(lease, k, random() % 3, nonce);
              bad += error != 0 && error != EEXIST && error != ENOENT;
            }
          }
        }
      });
    }
  }
  EXPECT_EQ(bad, 0U);
  EXPECT_EQ(torn, 0U);
  EXPECT_EQ(lost, 0U);
  EXPECT_LE(check_content(), entries_);
  expect_full_use();
}

INSTANTIATE_TEST_SUITE_P(
    Shapes, LruThreadsTest,
    ::testing::Values(LruShape{"One", kLru, 8, 16, 1, 0}, LruShape{"Few", kLru, 8, 16, 5, 0},
                      LruShape{"Some", kLru, 8, 24, 100, 0}, LruShape{"Many", kLru, 8, 16, 2000, 0},
                      LruShape{"Large", kLru, 12, 2000, 100, 0}, LruShape{"Apart", kLru, 8, 16, 600, kApart},
                      LruShape{"ApartFew", kLru, 8, 16, 4, kApart}, LruShape{"PerCpu", kLruPerCpu, 8, 16, 300, 0}),
    [](const auto& shape) { return shape.param.name; });

}  // namespace
}  // namespace skep
