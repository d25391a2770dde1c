// SPDX-License-Identifier: Apache-2.0
#include "prog/decode.h"

#include <cerrno>

#include "prog/program_test_support.h"

namespace skep {
namespace {

using namespace assembler;

class DecodeTest : public testing::ProgramTest {
 protected:
  /// Whether a program with that instruction at its start is refused.
  bool refused(bpf_insn insn) { return !refusal({insn, mov(r0, 0).first, exit_().first}).empty(); }
};

TEST_F(DecodeTest, ReservedFieldsMustBeZero) {
  EXPECT_FALSE(refused(raw(kAlu64 | kMov | kK, 0, 0, 0, 5)));
  EXPECT_TRUE(refused(raw(kAlu64 | kMov | kK, 0, 1, 0, 5)));
  EXPECT_TRUE(refused(raw(kAlu64 | kMov | kX, 0, 1, 0, 5)));
  EXPECT_TRUE(refused(raw(kAlu64 | kAdd | kX, 0, 1, 1, 0)));
  EXPECT_TRUE(refused(raw(kAlu64 | kDiv | kX, 0, 1, 2, 0)));
  EXPECT_TRUE(refused(raw(kAlu64 | kMov | kX, 0, 1, 24, 0)));
  EXPECT_TRUE(refused(raw(kAlu | kMov | kX, 0, 1, 32, 0)));
  EXPECT_TRUE(refused(raw(kAlu64 | kNeg | kX, 0, 0, 0, 0)));
  EXPECT_TRUE(refused(raw(kAlu | kEnd | kX, 0, 0, 0, 8)));
  EXPECT_TRUE(refused(raw(kAlu64 | kEnd | kX, 0, 0, 0, 16)));
  EXPECT_TRUE(refused(raw(kLdx | kMem | kW, 0, 10, -8, 1)));
  EXPECT_TRUE(refused(raw(kLdx | kMemsx | kDw, 0, 10, -8, 0)));
  EXPECT_TRUE(refused(raw(kLdx | kAbs | kW, 0, 10, -8, 0)));
  EXPECT_TRUE(refused(raw(kSt | kMem | kW, 10, 1, -8, 0)));
  EXPECT_TRUE(refused(raw(kStx | kMem | kW, 10, 1, -8, 1)));
  EXPECT_TRUE(refused(raw(kStx | kAtomic | kB, 10, 1, -8, kAdd)));
  EXPECT_TRUE(refused(raw(kStx | kAtomic | kDw, 10, 1, -8, 0x20)));
  EXPECT_TRUE(refused(raw(kJmp | kJa, 0, 1, 0, 0)));
  EXPECT_TRUE(refused(raw(kJmp32 | kJa, 0, 0, 1, 0)));
  EXPECT_TRUE(refused(raw(kJmp | kJeq | kK, 0, 1, 0, 0)));
  EXPECT_TRUE(refused(raw(kJmp | kJeq | kX, 0, 1, 0, 1)));
  EXPECT_TRUE(refused(raw(kJmp | 0xf0, 0, 0, 0, 0)));
  EXPECT_TRUE(refused(raw(kJmp32 | kCall, 0, 0, 0, 5)));
  EXPECT_TRUE(refused(raw(kJmp | kExit, 0, 0, 0, 1)));
  EXPECT_TRUE(refused(raw(kAlu64 | 0xe0, 0, 0, 0, 0)));
  EXPECT_TRUE(refused(raw(kLd | kMem | kDw, 0, 0, 0, 0)));
}

TEST_F(DecodeTest, RegistersAndConstants) {
  EXPECT_TRUE(refused(raw(kAlu64 | kMov | kK, 11, 0, 0, 5)));
  EXPECT_TRUE(refused(raw(kAlu64 | kMov | kX, 0, 15, 0, 0)));
  EXPECT_TRUE(refused(raw(kAlu64 | kMov | kK, 10, 0, 0, 5)));
  EXPECT_TRUE(refused(raw(kLdx | kMem | kDw, 10, 10, -8, 0)));
  EXPECT_TRUE(refused(raw(kStx | kAtomic | kDw, 1, 10, 0, kXchg)));
  EXPECT_TRUE(refused(raw(kAlu64 | kDiv | kK, 0, 0, 0, 0)));
  EXPECT_TRUE(refused(raw(kAlu | kMod | kK, 0, 0, 0, 0)));
  EXPECT_TRUE(refused(raw(kAlu64 | kLsh | kK, 0, 0, 0, 64)));
  EXPECT_TRUE(refused(raw(kAlu | kLsh | kK, 0, 0, 0, 32)));
  EXPECT_TRUE(refused(raw(kAlu | kArsh | kK, 0, 0, 0, -1)));
}

TEST_F(DecodeTest, EveryByteAsAnOpcodeIsEitherRefusedOrRunsSafely) {
  for (int code = 0; code < 256; ++code) {
    for (const int imm : {0, 1, 16}) {
      const std::vector<bpf_insn> program = {raw(code, 1, 2, 0, imm), mov(r0, 0).first, exit_().first};
      if (refusal(program).empty()) {
        const int error = run(program).error;
        EXPECT_TRUE(error == 0 || error == EFAULT || error == EINVAL) << code << " " << error;
      }
    }
  }
}

TEST_F(DecodeTest, Jumps) {
  EXPECT_EQ(refusal(assemble({jump(0), mov(r0, 0), exit_()})), "");
  EXPECT_NE(refusal(assemble({jump(2), mov(r0, 0), exit_()})), "") << "past the end";
  EXPECT_NE(refusal(assemble({jump(-2), mov(r0, 0), exit_()})), "") << "before the start";
  EXPECT_NE(refusal(assemble({jump(1), load_imm64(r0, 0), exit_()})), "") << "into a wide instruction";
  EXPECT_NE(refusal(assemble({mov(r0, 0)})), "") << "off the end";
  EXPECT_NE(refusal(assemble({jump_long(0x7fffffff), exit_()})), "");
  EXPECT_NE(refusal({}), "");
}

TEST_F(DecodeTest, Functions) {
  EXPECT_EQ(refusal(assemble({call_function(1), exit_(), mov(r0, 0), exit_()})), "");
  EXPECT_NE(refusal(assemble({call_function(2), exit_(), mov(r0, 0), exit_()})), "") << "past the end";
  EXPECT_NE(refusal(assemble({call_function(1), mov(r0, 0), mov(r0, 0), exit_()})), "") << "falls into the function";
  EXPECT_NE(refusal(assemble({call_function(1), jump(1), mov(r0, 0), exit_()})), "") << "jumps into another function";
  EXPECT_NE(refusal(assemble({load_function(r1, 100), mov(r0, 0), exit_()})), "");
}

TEST_F(DecodeTest, WideLoads) {
  bpf_insn second = raw(0, 0, 0, 0, 0);
  second.off = 1;
  EXPECT_NE(refusal({raw(kLd | kImm | kDw, 1, 0, 0, 0), second, mov(r0, 0).first, exit_().first}), "");
  EXPECT_NE(refusal({exit_().first, raw(kLd | kImm | kDw, 1, 0, 0, 0)}), "") << "half of one";
  EXPECT_NE(refusal(assemble({load_map(r1, 0), mov(r0, 0), exit_()})), "") << "no such map";
  EXPECT_NE(refusal(assemble({wide(r1, BPF_PSEUDO_BTF_ID, 1, 0), mov(r0, 0), exit_()})), "");
  EXPECT_EQ(value_of(assemble({load_imm64(r0, 0x123456789abcdef0), exit_()})), 0x123456789abcdef0U);
}

TEST_F(DecodeTest, HelpersByTypeAndLicense) {
  EXPECT_NE(refusal(assemble({call(0), exit_()})), "");
  EXPECT_NE(refusal(assemble({call(100000), exit_()})), "");
  EXPECT_NE(refusal(assemble({call(-1), exit_()})), "");
  EXPECT_NE(refusal(assemble({mov(r2, 0), call(44), exit_()}), BPF_PROG_TYPE_SCHED_CLS), "") << "xdp_adjust_head";
  EXPECT_EQ(refusal(assemble({mov(r2, 0), call(44), exit_()}), BPF_PROG_TYPE_XDP), "");
  EXPECT_NE(refusal(assemble({call(6), exit_()}), BPF_PROG_TYPE_XDP, false), "") << "trace_printk is GPL only";
  EXPECT_EQ(refusal(assemble({call(6), exit_()}), BPF_PROG_TYPE_XDP, true), "");
  EXPECT_NE(refusal({raw(kJmp | kCall, 0, BPF_PSEUDO_KFUNC_CALL, 0, 1), exit_().first}), "");
}

TEST_F(DecodeTest, UnknownTypesAreRefused) {
  EXPECT_FALSE(program_type_supported(0));
  EXPECT_FALSE(program_type_supported(29));
  EXPECT_NE(refusal(assemble({mov(r0, 0), exit_()}), 29), "");
}

}  // namespace
}  // namespace skep
