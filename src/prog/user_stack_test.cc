// SPDX-License-Identifier: Apache-2.0
#include "prog/user_stack.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <cstring>
#include <vector>

#include "maps/stack_trace_map.h"
#include "prog/program_test_support.h"

namespace skep {
namespace {

using namespace assembler;
using testing::error_of;

constexpr int32_t kGetStackId = 27, kGetStack = 67;
constexpr int32_t kUserStack = 256, kFastCompare = 512, kReuse = 1024, kUserBuildId = 2048;

[[gnu::noinline]] uint32_t deeper(int levels, std::vector<uint64_t>& addresses) {
  if (levels == 0) {
    return user_stack(__builtin_frame_address(0), addresses.data(), static_cast<uint32_t>(addresses.size()));
  }
  const uint32_t count = deeper(levels - 1, addresses);
  return count + static_cast<uint32_t>(addresses.empty());  // no tail call
}

TEST(UserStackTest, OneAddressPerCallInnermostFirst) {
  std::vector<uint64_t> five(100), six(100);
  const uint32_t shallow = deeper(5, five), deep = deeper(6, six);
  ASSERT_GT(shallow, 6U);
  EXPECT_EQ(deep, shallow + 1);
  for (uint32_t i = 1; i < 4; ++i) EXPECT_EQ(five[i], five[1]) << "a level of the recursion";
  EXPECT_EQ(six[deep - 1], five[shallow - 1]) << "both began at the same place";
  EXPECT_EQ(user_stack(__builtin_frame_address(0), five.data(), 2), 2U);
}

TEST(UserStackTest, BuildIdAndOffsetOfAnAddress) {
  EXPECT_EQ(build_id_of(12).status, BuildIdFrame::kAddress);
  EXPECT_EQ(build_id_of(12).offset, 12U);
  // Functions of the C library that no sanitizer has a version of.
  const BuildIdFrame one = build_id_of(reinterpret_cast<uint64_t>(&::sysconf));
  const BuildIdFrame other = build_id_of(reinterpret_cast<uint64_t>(&::getpagesize));
  ASSERT_EQ(one.status, BuildIdFrame::kValid) << "the C library has a build id";
  ASSERT_EQ(other.status, BuildIdFrame::kValid);
  EXPECT_NE(one.offset, other.offset);
  EXPECT_EQ(std::memcmp(one.build_id, other.build_id, 20), 0);
}

class StackHelpersTest : public testing::ProgramTest {
 protected:
  StackTraceMap& add_stacks(uint32_t frames, uint32_t entries, uint32_t flags = 0) {
    const uint32_t size = (flags & BPF_F_STACK_BUILD_ID) != 0 ? 32 : 8;
    map_ = add_map(make(spec(BPF_MAP_TYPE_STACK_TRACE, 4, size * frames, entries, flags)));
    return static_cast<StackTraceMap&>(*maps_[map_]);
  }
  int64_t get_stackid(int32_t flags) {
    return static_cast<int64_t>(value_of(assemble({load_map(r2, map_), mov(r3, flags), call(kGetStackId), exit_()})));
  }
  int64_t get_stack(int32_t size, int32_t flags) {
    return static_cast<int64_t>(value_of(assemble(
        {mov(r6, r1), store(kDw, r10, -8, -1), store(kDw, r10, -16, -1), store(kDw, r10, -24, -1),
         store(kDw, r10, -32, -1), mov(r2, r10), add(r2, -32), mov(r3, size), mov(r4, flags), call(kGetStack),
         load(kDw, r1, r10, -32), store(kDw, r6, 0, r1), load(kDw, r1, r10, -8), store(kDw, r6, 8, r1), exit_()})));
  }
  uint64_t seen(size_t at) {
    uint64_t value;
    std::memcpy(&value, bytes_.data() + at, 8);
    return value;
  }
  uint32_t map_ = 0;
};

TEST_F(StackHelpersTest, TheSameStackHasTheSameNumber) {
  StackTraceMap& map = add_stacks(20, 64);
  int64_t ids[3];
  for (int64_t& id : ids) id = get_stackid(kUserStack);
  ASSERT_GE(ids[0], 0);
  EXPECT_EQ(ids[1], ids[0]);
  EXPECT_EQ(ids[2], ids[0]);
  EXPECT_EQ(map.check().elements, 1U);
  uint64_t frames[20];
  const auto id = static_cast<uint32_t>(ids[0]);
  ASSERT_TRUE(map.lookup(&id, frames, 0));
  EXPECT_NE(frames[0], 0U);
  EXPECT_NE(frames[1], 0U);
  uint32_t key = 0;
  ASSERT_TRUE(map.next_key(nullptr, &key));
  EXPECT_EQ(key, id);
  EXPECT_EQ(error_of(map.next_key(&key, &key)), ENOENT);
}

TEST_F(StackHelpersTest, CollisionsAreToldOrReplaced) {
  StackTraceMap& map = add_stacks(20, 1);
  EXPECT_EQ(get_stackid(kUserStack), 0);
  EXPECT_EQ(get_stackid(kUserStack | 1), -EEXIST);
  EXPECT_EQ(get_stackid(kUserStack | 1 | kFastCompare), -EEXIST);
  EXPECT_EQ(get_stackid(kUserStack | 1 | kReuse), 0);
  EXPECT_EQ(get_stackid(kUserStack), -EEXIST) << "the other stack has the number now";
  EXPECT_EQ(map.check().problem, "");
}

TEST_F(StackHelpersTest, NoMoreThanMaxEntriesStacks) {
  StackTraceMap& map = add_stacks(20, 1);
  const uint64_t addresses[] = {1};
  const Lease lease(machine());
  std::vector<std::byte> value(160);
  ASSERT_TRUE(map.keep(lease, addresses, 1, value.data(), 0));
  StackTraceMap& three = add_stacks(20, 3);
  uint32_t stored = 0, full = 0;
  for (uint64_t i = 1; i < 200; ++i) {
    std::memcpy(value.data(), &i, sizeof i);
    const auto kept = three.keep(lease, &i, 1, value.data(), 0);
    stored += kept.has_value();
    full += error_of(kept) == ENOMEM;
    EXPECT_TRUE(kept || error_of(kept) == EEXIST || error_of(kept) == ENOMEM);
  }
  EXPECT_EQ(stored, 3U);
  EXPECT_GT(full, 0U);
  EXPECT_EQ(three.check().elements, 3U);
  EXPECT_EQ(three.check().problem, "");
}

TEST_F(StackHelpersTest, Refusals) {
  add_stacks(20, 8);
  EXPECT_EQ(get_stackid(0), -EFAULT) << "there is no kernel stack";
  EXPECT_EQ(get_stackid(kUserStack | 4096), -EINVAL);
  EXPECT_EQ(get_stackid(kUserStack | 255), -EFAULT);
  EXPECT_EQ(get_stack(32, kUserStack), 32);
  EXPECT_NE(seen(0), 0U);
  EXPECT_NE(seen(8), UINT64_MAX);
  EXPECT_EQ(get_stack(12, kUserStack), -EINVAL);
  EXPECT_EQ(get_stack(32, kUserBuildId), -EINVAL);
  EXPECT_EQ(seen(0), 0U) << "what was refused leaves zeros";
  EXPECT_EQ(get_stack(32, kUserStack | 4096), -EINVAL);
  EXPECT_EQ(get_stack(32, 0), -EFAULT);
  EXPECT_EQ(get_stack(32, kUserStack | kUserBuildId), 32);
  add_array(8, 1);
  map_ = static_cast<uint32_t>(maps_.size() - 1);
  EXPECT_EQ(run(assemble({load_map(r2, map_), mov(r3, 0), call(kGetStackId), exit_()})).error, EINVAL);
}

TEST_F(StackHelpersTest, BuildIdsInsteadOfAddresses) {
  StackTraceMap& map = add_stacks(20, 8, BPF_F_STACK_BUILD_ID);
  int64_t ids[2];
  for (int64_t& id : ids) id = get_stackid(kUserStack);
  ASSERT_GE(ids[0], 0);
  EXPECT_EQ(ids[1], ids[0]);
  BuildIdFrame frames[20];
  const auto key = static_cast<uint32_t>(ids[0]);
  ASSERT_TRUE(map.lookup(&key, frames, 0));
  EXPECT_TRUE(frames[0].status == BuildIdFrame::kValid || frames[0].status == BuildIdFrame::kAddress);
}

}  // namespace
}  // namespace skep
