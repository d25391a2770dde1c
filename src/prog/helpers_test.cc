// SPDX-License-Identifier: Apache-2.0
#include <unistd.h>

#include <cerrno>
#include <cstdint>

#include "prog/print_format.h"
#include "prog/program_test_support.h"

namespace skep {
namespace {

using namespace assembler;

class HelpersTest : public testing::ProgramTest {
 protected:
  static Code immediate(const char (&text)[9], Register dst) {
    uint64_t word;
    std::memcpy(&word, text, 8);
    return load_imm64(dst, word);
  }
};

TEST_F(HelpersTest, MapUpdateAndDelete) {
  const uint32_t map = add_map(make(spec(BPF_MAP_TYPE_HASH, 8, 8, 4)));
  const auto update = [&](int32_t flags) {
    return static_cast<int64_t>(
        value_of(assemble({store(kDw, r10, -8, 1), store(kDw, r10, -16, 42), load_map(r1, map), mov(r2, r10),
                           add(r2, -8), mov(r3, r10), add(r3, -16), mov(r4, flags), call(2), exit_()})));
  };
  const auto erase = [&] {
    return static_cast<int64_t>(
        value_of(assemble({store(kDw, r10, -8, 1), load_map(r1, map), mov(r2, r10), add(r2, -8), call(3), exit_()})));
  };
  EXPECT_EQ(update(BPF_EXIST), -ENOENT);
  EXPECT_EQ(update(BPF_ANY), 0);
  EXPECT_EQ(update(BPF_NOEXIST), -EEXIST);
  const uint64_t key = 1;
  uint64_t value = 0;
  ASSERT_TRUE(maps_[map]->lookup(&key, &value, 0));
  EXPECT_EQ(value, 42U);
  EXPECT_EQ(erase(), 0);
  EXPECT_EQ(erase(), -ENOENT);
}

TEST_F(HelpersTest, ForEachVisitsEveryElementAndStopsWhenTold) {
  const uint32_t map = add_array(8, 10);
  const auto visit = [&](int32_t stop_at) {
    // callback(map, key, value, ctx): *value = *key; *ctx += 1; return *key == stop_at
    return value_of(
        assemble({store(kDw, r10, -8, 0), load_map(r1, map), load_function(r2, 9), mov(r3, r10), add(r3, -8),
                  mov(r4, 0), call(164), load(kDw, r1, r10, -8), alu(kLsh, r1, 8), add(r0, r1), exit_(),
                  load(kW, r5, r2, 0), store(kDw, r3, 0, r5), mov(r1, 1), atomic(kDw, kAdd, r4, 0, r1), mov(r0, 0),
                  jump_if(kJne, r5, stop_at, 1), mov(r0, 1), exit_()}));
  };
  EXPECT_EQ(visit(-1), 10U << 8 | 10U);
  EXPECT_EQ(visit(3), 4U << 8 | 4U);
  const uint32_t key = 9;
  uint64_t value = 0;
  ASSERT_TRUE(maps_[map]->lookup(&key, &value, 0));
  EXPECT_EQ(value, 9U);
}

TEST_F(HelpersTest, Loop) {
  const auto loop = [&](int32_t count, int32_t stop_at, int32_t flags) {
    return static_cast<int64_t>(
        value_of(assemble({mov(r1, count), load_function(r2, 5), mov(r3, 0), mov(r4, flags), call(181), exit_(),
                           mov(r0, 0), jump_if(kJne, r1, stop_at, 1), mov(r0, 1), exit_()})));
  };
  EXPECT_EQ(loop(10, -1, 0), 10);
  EXPECT_EQ(loop(10, 4, 0), 5);
  EXPECT_EQ(loop(0, 0, 0), 0);
  EXPECT_EQ(loop(10, -1, 1), -EINVAL);
  EXPECT_EQ(loop((1 << 23) + 1, -1, 0), -E2BIG);
}

TEST_F(HelpersTest, TraceLinesLookLikeTheKernels) {
  EXPECT_EQ(value_of(assemble({immediate("n=%d %s\0", r1), store(kDw, r10, -16, r1), immediate("text\0\0\0\0", r1),
                               store(kDw, r10, -8, r1), mov(r1, r10), add(r1, -16), mov(r2, 8), mov(r3, 42),
                               mov(r4, r10), add(r4, -8), call(6), exit_()})),
            9U);
  ASSERT_EQ(trace_.lines.size(), 1U);
  const std::string& line = trace_.lines[0];
  EXPECT_EQ(line.substr(16, 1), "-");
  EXPECT_NE(line.find("-" + std::to_string(gettid())), std::string::npos) << line;
  EXPECT_NE(line.find("[000] ....."), std::string::npos) << line;
  EXPECT_TRUE(line.ends_with(": bpf_trace_printk: n=42 text")) << line;
}

TEST_F(HelpersTest, PrintErrors) {
  char out[64];
  const uint64_t arguments[] = {1};
  for (const char* format : {"%", "%l", "%q", "%d%d", "%5", "%pZ", "%pI5", "%sx", "\x01", "%.3d", "%*d", "%hd"}) {
    EXPECT_EQ(format_print(out, sizeof out, format, arguments), -EINVAL) << format;
  }
  EXPECT_EQ(format_print(nullptr, 0, "abc", {}), 3);
}

TEST_F(HelpersTest, Identity) {
  EXPECT_EQ(value_of(assemble({call(14), exit_()})),
            uint64_t{static_cast<uint32_t>(getpid())} << 32 | static_cast<uint32_t>(gettid()));
  EXPECT_EQ(value_of(assemble({call(15), exit_()})), uint64_t{getgid()} << 32 | getuid());
  EXPECT_EQ(value_of(assemble({call(8), exit_()})), 0U);
}

TEST_F(HelpersTest, ProbeReadsNeverFault) {
  const auto read = [&](int32_t helper, uint64_t address, int32_t size) {
    return static_cast<int64_t>(value_of(assemble({store(kDw, r10, -8, -1), mov(r1, r10), add(r1, -8), mov(r2, size),
                                                   load_imm64(r3, address), call(helper), exit_()})));
  };
  static const char text[] = "hi";
  EXPECT_EQ(read(113, reinterpret_cast<uint64_t>(text), 3), 0);
  EXPECT_EQ(read(115, reinterpret_cast<uint64_t>(text), 8), 3);
  EXPECT_EQ(read(115, reinterpret_cast<uint64_t>(text), 2), 2);
  EXPECT_EQ(read(113, 8, 8), -EFAULT);
  EXPECT_EQ(read(115, uint64_t{1} << 62, 8), -EFAULT);
  EXPECT_EQ(read(148, UINT64_MAX, 8), -EFAULT);
}

}  // namespace
}  // namespace skep
