// SPDX-License-Identifier: Apache-2.0
#include "memory/available_memory.h"

#include <gtest/gtest.h>

namespace skep {
namespace {

TEST(AvailableMemoryTest, NumberAfter) {
  constexpr std::string_view kText = "MemTotal:       100 kB\nMemAvailable:   42 kB\nshmem 7\nbad x\n";
  EXPECT_EQ(number_after(kText, "MemAvailable:", 0), 42U);
  EXPECT_EQ(number_after(kText, "shmem ", 0), 7U);
  EXPECT_EQ(number_after(kText, "Available:", 5), 5U);
  EXPECT_EQ(number_after(kText, "bad ", 5), 5U);
  EXPECT_EQ(number_after("max\n", "", UINT64_MAX), UINT64_MAX);
  EXPECT_EQ(number_after("1234\n", "", 0), 1234U);
  EXPECT_EQ(number_after("", "", 9), 9U);
}

TEST(AvailableMemoryTest, ThisMachineHasSome) { EXPECT_GT(available_memory(), uint64_t{1} << 20); }

}  // namespace
}  // namespace skep
