// SPDX-License-Identifier: Apache-2.0
#include "prog/timer_table.h"

#include <gtest/gtest.h>

#include <map>
#include <random>
#include <vector>

namespace skep {
namespace {

uint32_t take(TimerTable& table, uint64_t word) {
  const uint32_t number = table.take().value();
  table.record(number).word = word;
  return number;
}

TEST(TimerTableTest, DueInTheOrderOfTime) {
  TimerTable table;
  const uint32_t a = take(table, 1), b = take(table, 2), c = take(table, 3);
  EXPECT_TRUE(table.arm(table.record(a), a, 30));
  EXPECT_TRUE(table.arm(table.record(b), b, 10));
  EXPECT_FALSE(table.arm(table.record(c), c, 20));
  EXPECT_EQ(table.next_look(), 10u);
  EXPECT_EQ(table.pop_due(9), std::nullopt);
  EXPECT_EQ(table.pop_due(25), b);
  EXPECT_EQ(table.pop_due(25), c);
  EXPECT_EQ(table.pop_due(25), std::nullopt);
  EXPECT_EQ(table.pop_due(30), a);
  EXPECT_EQ(table.next_look(), TimerTable::kNever);
}

TEST(TimerTableTest, LaterTimesReplaceEarlierOnes) {
  TimerTable table;
  const uint32_t a = take(table, 1);
  table.arm(table.record(a), a, 10);
  for (uint64_t due = 11; due < 1000; ++due) EXPECT_FALSE(table.arm(table.record(a), a, due));
  EXPECT_EQ(table.queued(), 1u) << "pushing a deadline back touches no queue";
  EXPECT_EQ(table.pop_due(998), std::nullopt);
  EXPECT_EQ(table.next_look(), 999u);
  EXPECT_EQ(table.pop_due(999), a);
}

TEST(TimerTableTest, ACancelledTimerIsNotDue) {
  TimerTable table;
  const uint32_t a = take(table, 1);
  table.arm(table.record(a), a, 10);
  TimerTable::disarm(table.record(a));
  EXPECT_EQ(table.pop_due(100), std::nullopt);
  table.arm(table.record(a), a, 10);
  EXPECT_EQ(table.pop_due(100), a);
}

TEST(TimerTableTest, ARecordInItsNextUseIsAnotherTimer) {
  TimerTable table;
  const uint32_t a = table.take().value();
  const uint64_t first = TimerField::make({7}, 1, table.record(a).turn, a);
  table.record(a).word = first;
  table.arm(table.record(a), a, 10);
  (void)table.give_back(a);
  EXPECT_EQ(table.find(first), nullptr);
  ASSERT_EQ(table.take(), a);
  const uint64_t second = TimerField::make({7}, 1, table.record(a).turn, a);
  EXPECT_NE(first, second);
  table.record(a).word = second;
  EXPECT_EQ(table.pop_due(100), std::nullopt) << "what the first use was armed for";
  EXPECT_EQ(table.find(second), &table.record(a));
}

TEST(TimerTableTest, HostileWordsFindNothing) {
  TimerTable table;
  take(table, TimerField::make({7}, 1, 0, 0));
  for (const uint64_t word : {uint64_t{1}, UINT64_MAX, TimerField::make({7}, 1, 0, 5), TimerField::make({7}, 1, 1, 0),
                              TimerField::make({8}, 1, 0, 0)}) {
    EXPECT_EQ(table.find(word), nullptr) << word;
  }
}

/// Random operations against a map from timers to times.
TEST(TimerTableTest, LikeAModel) {
  std::mt19937 random(7);
  TimerTable table;
  std::map<uint32_t, uint64_t> model;  // armed ones
  std::vector<uint32_t> used;
  uint64_t now = 0;
  for (int step = 0; step < 200'000; ++step) {
    const auto pick = [&] { return used[random() % used.size()]; };
    switch (random() % 8) {
      case 0:
        if (used.size() < 300) used.push_back(take(table, step + 1u));
        break;
      case 1:
        if (!used.empty() && random() % 4 == 0) {
          const size_t at = random() % used.size();
          (void)table.give_back(used[at]);
          model.erase(used[at]);
          used.erase(used.begin() + static_cast<int64_t>(at));
        }
        break;
      case 2:
        if (!used.empty()) {
          const uint32_t number = pick();
          TimerTable::disarm(table.record(number));
          model.erase(number);
        }
        break;
      case 3:
        now += random() % 20;
        for (;;) {
          const auto due = table.pop_due(now);
          if (!due) break;
          ASSERT_TRUE(model.contains(*due));
          ASSERT_LE(model[*due], now);
          model.erase(*due);
          TimerTable::disarm(table.record(*due));
        }
        for (const auto& [number, due] : model) ASSERT_GT(due, now) << number;
        break;
      default:
        if (!used.empty()) {
          const uint32_t number = pick();
          const uint64_t due = now + random() % 500;
          table.arm(table.record(number), number, due);
          model[number] = due;
        }
    }
    ASSERT_LE(table.queued(), 2 * table.size() + 65);
    for (const auto& [number, due] : model) ASSERT_LE(table.next_look(), due) << number;
  }
}

}  // namespace
}  // namespace skep
