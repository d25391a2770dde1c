// SPDX-License-Identifier: Apache-2.0
// Processes that put stacks into one map and are killed at random moments.
#include <signal.h>
#include <sys/prctl.h>
#include <sys/wait.h>

#include <array>

#include "maps/map_test_support.h"
#include "maps/stack_trace_map.h"

namespace skep {
namespace {

constexpr uint32_t kFrames = 4;
constexpr uint32_t kStacks = 64;
using Stack = std::array<uint64_t, kFrames>;

/// A stack that verifies itself: each frame follows from the one before.
Stack stack_of(uint64_t first) {
  Stack stack{first | 1};
  for (uint32_t i = 1; i < kFrames; ++i) stack[i] = stack[i - 1] * 0x9e3779b97f4a7c15 | 1;
  return stack;
}

[[noreturn]] void keep_stacks(StackTraceMap& map, Machine& machine, uint64_t seed) {
  for (uint64_t i = seed;; i += 7) {
    const Stack stack = stack_of(i);
    const Lease lease(machine);
    const auto number = map.keep(lease, stack.data(), kFrames, stack.data(), i % 3 == 0 ? StackTraceMap::kReuse : 0);
    if (number && i % 5 == 0) (void)map.erase(lease, &*number);
  }
}

class StackTraceProcessTest : public testing::MapTest {};

// Every stack that is found is whole, whoever died, and no room is lost.
TEST_F(StackTraceProcessTest, KilledWriters) {
  const auto made = make(spec(BPF_MAP_TYPE_STACK_TRACE, 4, kFrames * 8, kStacks));
  auto& map = static_cast<StackTraceMap&>(*made);
  for (uint32_t round = 0; round < 60; ++round) {
    std::array<pid_t, 2> children{};
    for (uint32_t i = 0; i < children.size(); ++i) {
      children[i] = fork();
      if (children[i] == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        keep_stacks(map, machine(), round * 1000 + i);
      }
      ASSERT_GT(children[i], 0);
    }
    uint32_t seen = 0;
    for (uint32_t tries = 0; seen < 200 && tries < 2'000'000; ++tries) {
      const uint32_t number = tries % kStacks;
      Stack found{};
      if (!map.lookup(&number, found.data(), 0)) continue;
      ++seen;
      ASSERT_EQ(found, stack_of(found[0])) << "a torn stack";
    }
    for (const pid_t child : children) {
      kill(child, SIGKILL);
      ASSERT_EQ(waitpid(child, nullptr, 0), child);
    }
  }
  EXPECT_EQ(map.check().problem, "");
  uint32_t number = 0;
  const Lease lease(machine());
  while (map.next_key(nullptr, &number)) ASSERT_TRUE(map.erase(lease, &number));
  EXPECT_EQ(map.check().elements, 0U);
  EXPECT_EQ(map.check().free_elements, kStacks) << "room that the dead took with them";
}

}  // namespace
}  // namespace skep
