// SPDX-License-Identifier: Apache-2.0
#include "machine/possible_cpus.h"

#include <gtest/gtest.h>

namespace skep {
namespace {

TEST(PossibleCpusTest, Lists) {
  EXPECT_EQ(count_cpu_list("0\n"), 1U);
  EXPECT_EQ(count_cpu_list("0-1\n"), 2U);
  EXPECT_EQ(count_cpu_list("0-3,8-11,20"), 9U);
  for (const char* bad : {"", "\n", "x", "0-", "3-1", "0;1", "-2"}) EXPECT_EQ(count_cpu_list(bad), 0U) << bad;
}

TEST(PossibleCpusTest, HostHasOne) { EXPECT_GE(possible_cpus(), 1U); }

}  // namespace
}  // namespace skep
