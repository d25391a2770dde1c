// SPDX-License-Identifier: Apache-2.0
#include <cerrno>
#include <cstdint>

#include "prog/program_test_support.h"

namespace skep {
namespace {

using namespace assembler;

class InterpreterTest : public testing::ProgramTest {
 protected:
  /// R0 after `code` with R1 = a, R2 = b, R0 = a.
  uint64_t after(uint64_t a, uint64_t b, Code code) {
    return value_of(assemble({load_imm64(r1, a), load_imm64(r2, b), mov(r0, r1), code, exit_()}));
  }
  uint64_t binary(uint8_t operation, uint64_t a, uint64_t b, int off = 0) {
    const uint64_t by_register = after(a, b, alu(operation, r0, r2, off));
    const auto immediate = static_cast<int32_t>(b);
    const bool fits = static_cast<uint64_t>(int64_t{immediate}) == b;
    const bool refused = (b == 0 && (operation == kDiv || operation == kMod)) ||
                         (b > 63 && (operation == kLsh || operation == kRsh || operation == kArsh));
    if (fits && !refused) {
      EXPECT_EQ(after(a, 0, alu(operation, r0, immediate, off)), by_register);
    }
    return by_register;
  }
  uint64_t binary32(uint8_t operation, uint64_t a, uint32_t b, int off = 0) {
    const uint64_t by_register = after(a, 0xdeadbeef00000000 | b, alu32(operation, r0, r2, off));
    const bool refused = (b == 0 && (operation == kDiv || operation == kMod)) ||
                         (b > 31 && (operation == kLsh || operation == kRsh || operation == kArsh));
    if (!refused) {
      EXPECT_EQ(after(a, 0, alu32(operation, r0, static_cast<int32_t>(b), off)), by_register);
    }
    return by_register;
  }
  bool jumps(Code jump) { return value_of(assemble({jump, mov(r0, 0), exit_(), mov(r0, 1), exit_()})) == 1; }
  bool taken(uint8_t condition, uint64_t a, uint64_t b) {
    return value_of(assemble({load_imm64(r1, a), load_imm64(r2, b), jump_if(condition, r1, r2, 2), mov(r0, 0), exit_(),
                              mov(r0, 1), exit_()})) == 1;
  }
  bool taken32(uint8_t condition, uint64_t a, uint64_t b) {
    return value_of(assemble({load_imm64(r1, a), load_imm64(r2, b), jump_if32(condition, r1, r2, 2), mov(r0, 0),
                              exit_(), mov(r0, 1), exit_()})) == 1;
  }
};

constexpr uint64_t kMin64 = uint64_t{1} << 63;
constexpr uint64_t kMinusOne = UINT64_MAX;

TEST_F(InterpreterTest, Arithmetic64) {
  EXPECT_EQ(binary(kAdd, 5, kMinusOne), 4U);
  EXPECT_EQ(binary(kSub, 5, 7), static_cast<uint64_t>(-2));
  EXPECT_EQ(binary(kMul, 0x100000001, 0x100000001), 0x0000000200000001U);
  EXPECT_EQ(binary(kOr, 0xf0, 0x0f), 0xffU);
  EXPECT_EQ(binary(kAnd, 0xff, 0x18), 0x18U);
  EXPECT_EQ(binary(kXor, 0xff, kMinusOne), ~uint64_t{0xff});
  EXPECT_EQ(binary(kLsh, 3, 62), uint64_t{3} << 62);
  EXPECT_EQ(binary(kRsh, kMin64, 63), 1U);
  EXPECT_EQ(binary(kArsh, kMin64, 63), kMinusOne);
  EXPECT_EQ(binary(kMov, 1, static_cast<uint64_t>(-5)), static_cast<uint64_t>(-5));
  EXPECT_EQ(after(7, 0, negate(r0)), static_cast<uint64_t>(-7));
}

TEST_F(InterpreterTest, ShiftCountsWrap) {
  EXPECT_EQ(binary(kLsh, 1, 65), 2U);
  EXPECT_EQ(binary(kRsh, 4, 65), 2U);
  EXPECT_EQ(binary32(kLsh, 1, 33), 2U);
  EXPECT_EQ(binary32(kArsh, 0x80000000, 33), 0xc0000000U);
}

TEST_F(InterpreterTest, DivisionNeverTraps) {
  EXPECT_EQ(binary(kDiv, 7, 2), 3U);
  EXPECT_EQ(binary(kDiv, 7, 0), 0U);
  EXPECT_EQ(binary(kMod, 7, 4), 3U);
  EXPECT_EQ(binary(kMod, 7, 0), 7U);
  EXPECT_EQ(binary(kDiv, static_cast<uint64_t>(-7), 2, 1), static_cast<uint64_t>(-3));
  EXPECT_EQ(binary(kMod, static_cast<uint64_t>(-7), 4, 1), static_cast<uint64_t>(-3));
  EXPECT_EQ(binary(kDiv, kMin64, kMinusOne, 1), kMin64);
  EXPECT_EQ(binary(kMod, kMin64, kMinusOne, 1), 0U);
  EXPECT_EQ(binary(kDiv, 9, 0, 1), 0U);
  EXPECT_EQ(binary(kMod, 9, 0, 1), 9U);
  EXPECT_EQ(binary32(kDiv, 0xffffffff00000007, 0), 0U);
  EXPECT_EQ(binary32(kMod, 0xffffffff00000007, 0), 7U);
  EXPECT_EQ(binary32(kDiv, 0x80000000, 0xffffffff, 1), 0x80000000U);
  EXPECT_EQ(binary32(kMod, 0x80000000, 0xffffffff, 1), 0U);
  EXPECT_EQ(binary32(kDiv, 0xfffffff9, 2, 1), 0xfffffffdU);
}

TEST_F(InterpreterTest, Arithmetic32ZeroesTheUpperHalf) {
  EXPECT_EQ(binary32(kAdd, 0xffffffffffffffff, 2), 1U);
  EXPECT_EQ(binary32(kSub, 0, 1), 0xffffffffU);
  EXPECT_EQ(binary32(kMul, 0x10001, 0x10001), 0x20001U);
  EXPECT_EQ(binary32(kMov, 0, 0x80000000), 0x80000000U);
  EXPECT_EQ(binary32(kXor, 0xffffffff00000000, 0), 0U);
  EXPECT_EQ(binary32(kArsh, 0x80000000, 4), 0xf8000000U);
  EXPECT_EQ(binary32(kRsh, 0xff80000000, 4), 0x08000000U);
  EXPECT_EQ(after(7, 0, alu32(kNeg, r0, 0)), 0xfffffff9U);
}

TEST_F(InterpreterTest, SignExtendingMoves) {
  const uint64_t value = 0x1122334455cc8899;
  EXPECT_EQ(after(value, 0, movsx(r0, r1, 8)), 0xffffffffffffff99U);
  EXPECT_EQ(after(value, 0, movsx(r0, r1, 16)), 0xffffffffffff8899U);
  EXPECT_EQ(after(value, 0, movsx(r0, r1, 32)), 0x55cc8899U);
  EXPECT_EQ(after(value, 0, movsx32(r0, r1, 8)), 0xffffff99U);
  EXPECT_EQ(after(value, 0, movsx32(r0, r1, 16)), 0xffff8899U);
}

TEST_F(InterpreterTest, ByteOrder) {
  const uint64_t value = 0x1122334455667788;
  EXPECT_EQ(after(value, 0, be(r0, 16)), 0x8877U);
  EXPECT_EQ(after(value, 0, be(r0, 32)), 0x88776655U);
  EXPECT_EQ(after(value, 0, be(r0, 64)), 0x8877665544332211U);
  EXPECT_EQ(after(value, 0, le(r0, 16)), 0x7788U);
  EXPECT_EQ(after(value, 0, le(r0, 32)), 0x55667788U);
  EXPECT_EQ(after(value, 0, le(r0, 64)), value);
  EXPECT_EQ(after(value, 0, bswap(r0, 16)), 0x8877U);
  EXPECT_EQ(after(value, 0, bswap(r0, 32)), 0x88776655U);
  EXPECT_EQ(after(value, 0, bswap(r0, 64)), 0x8877665544332211U);
}

TEST_F(InterpreterTest, Conditions) {
  const uint64_t values[] = {0, 1, 2, 0x7fffffff, 0x80000000, 0xffffffff, 0x100000001, kMin64, kMinusOne};
  for (const uint64_t a : values) {
    for (const uint64_t b : values) {
      const auto sa = static_cast<int64_t>(a), sb = static_cast<int64_t>(b);
      EXPECT_EQ(taken(kJeq, a, b), a == b);
      EXPECT_EQ(taken(kJne, a, b), a != b);
      EXPECT_EQ(taken(kJgt, a, b), a > b);
      EXPECT_EQ(taken(kJge, a, b), a >= b);
      EXPECT_EQ(taken(kJlt, a, b), a < b);
      EXPECT_EQ(taken(kJle, a, b), a <= b);
      EXPECT_EQ(taken(kJset, a, b), (a & b) != 0);
      EXPECT_EQ(taken(kJsgt, a, b), sa > sb);
      EXPECT_EQ(taken(kJsge, a, b), sa >= sb);
      EXPECT_EQ(taken(kJslt, a, b), sa < sb);
      EXPECT_EQ(taken(kJsle, a, b), sa <= sb);
      const auto ua = static_cast<uint32_t>(a), ub = static_cast<uint32_t>(b);
      EXPECT_EQ(taken32(kJeq, a, b), ua == ub);
      EXPECT_EQ(taken32(kJgt, a, b), ua > ub);
      EXPECT_EQ(taken32(kJset, a, b), (ua & ub) != 0);
      EXPECT_EQ(taken32(kJsgt, a, b), static_cast<int32_t>(ua) > static_cast<int32_t>(ub));
      EXPECT_EQ(taken32(kJsle, a, b), static_cast<int32_t>(ua) <= static_cast<int32_t>(ub));
    }
  }
}

TEST_F(InterpreterTest, ImmediateConditionsAreSignExtended) {
  EXPECT_EQ(value_of(assemble({mov(r1, -1), jump_if(kJeq, r1, -1, 2), mov(r0, 0), exit_(), mov(r0, 1), exit_()})), 1U);
  EXPECT_EQ(value_of(assemble({mov(r1, -1), jump_if(kJgt, r1, 5, 2), mov(r0, 0), exit_(), mov(r0, 1), exit_()})), 1U);
  EXPECT_EQ(value_of(assemble({load_imm64(r1, 0xaaaaaaaaffffffff), jump_if32(kJeq, r1, -1, 2), mov(r0, 0), exit_(),
                               mov(r0, 1), exit_()})),
            1U);
}

TEST_F(InterpreterTest, Jumps) {
  EXPECT_TRUE(jumps(jump(2)));
  EXPECT_TRUE(jumps(jump_long(2)));
  // Backwards, over a wide instruction whose halves count as two.
  EXPECT_EQ(value_of(assemble({mov(r0, 0), mov(r1, 10), load_imm64(r2, 3), add(r0, r2), add(r1, -1),
                               jump_if(kJne, r1, 0, -5), exit_()})),
            30U);
}

TEST_F(InterpreterTest, MayGotoEndsAnEndlessLoop) {
  EXPECT_EQ(value_of(assemble({mov(r0, 0), may_goto(2), add(r0, 1), jump(-3), exit_()})), uint64_t{1} << 23);
}

TEST_F(InterpreterTest, LoadsAndStoresOfAllSizes) {
  for (const uint8_t size : {kB, kH, kW, kDw}) {
    const int bits = size == kB ? 8 : size == kH ? 16 : size == kW ? 32 : 64;
    const uint64_t mask = bits == 64 ? kMinusOne : (uint64_t{1} << bits) - 1;
    const uint64_t value = 0x99aabbccddeeff88;
    // Through the frame pointer, whose accesses are resolved when the program is prepared, and through a copy of it.
    for (const Register base : {r10, r3}) {
      EXPECT_EQ(value_of(assemble({load_imm64(r1, value), mov(r3, r10), store(kDw, r10, -16, 0),
                                   store(size, base, -16, r1), load(size, r0, base, -16), exit_()})),
                value & mask);
      EXPECT_EQ(value_of(assemble({mov(r3, r10), store(size, base, -8, -2), load(kDw, r0, base, -8), exit_()})),
                static_cast<uint64_t>(-2) & mask);
      if (size == kDw) continue;
      const uint64_t extended = static_cast<uint64_t>(static_cast<int64_t>(value << (64 - bits)) >> (64 - bits));
      EXPECT_EQ(value_of(assemble({load_imm64(r1, value), mov(r3, r10), store(kDw, r10, -16, r1),
                                   load_signed(size, r0, base, -16), exit_()})),
                extended);
    }
  }
}

TEST_F(InterpreterTest, Atomics) {
  const auto on_stack = [this](uint8_t size, int32_t operation, uint64_t memory, uint64_t source, uint64_t r0_before,
                               Code result) {
    return value_of(
        assemble({load_imm64(r1, memory), store(kDw, r10, -8, r1), load_imm64(r2, source), load_imm64(r0, r0_before),
                  atomic(size, operation, r10, -8, r2), load(kDw, r3, r10, -8), result, exit_()}));
  };
  const Code memory = mov(r0, r3), source = mov(r0, r2), keep = mov(r0, r0);
  EXPECT_EQ(on_stack(kDw, kAdd, 5, 7, 0, memory), 12U);
  EXPECT_EQ(on_stack(kW, kAdd, 0x1ffffffff, 1, 0, memory), 0x100000000U);
  EXPECT_EQ(on_stack(kDw, kOr, 5, 8, 0, memory), 13U);
  EXPECT_EQ(on_stack(kDw, kAnd, 5, 4, 0, memory), 4U);
  EXPECT_EQ(on_stack(kDw, kXor, 5, 4, 0, memory), 1U);
  EXPECT_EQ(on_stack(kDw, kAdd, 5, 7, 0, source), 7U);
  EXPECT_EQ(on_stack(kDw, kAdd | kFetch, 5, 7, 0, source), 5U);
  EXPECT_EQ(on_stack(kW, kAdd | kFetch, 0x1ffffffff, 1, 0, source), 0xffffffffU);
  EXPECT_EQ(on_stack(kDw, kXchg, 5, 7, 0, source), 5U);
  EXPECT_EQ(on_stack(kDw, kXchg, 5, 7, 0, memory), 7U);
  EXPECT_EQ(on_stack(kDw, kCmpxchg, 5, 7, 5, memory), 7U);
  EXPECT_EQ(on_stack(kDw, kCmpxchg, 5, 7, 5, keep), 5U);
  EXPECT_EQ(on_stack(kDw, kCmpxchg, 5, 7, 6, memory), 5U);
  EXPECT_EQ(on_stack(kDw, kCmpxchg, 5, 7, 6, keep), 5U);
  EXPECT_EQ(on_stack(kW, kCmpxchg, 0xaaaaaaaa00000005, 7, 0xbbbbbbbb00000005, memory), 0xaaaaaaaa00000007U);
  EXPECT_EQ(on_stack(kW, kCmpxchg, 0xaaaaaaaa00000005, 7, 0xbbbbbbbb00000005, keep), 5U);
}

TEST_F(InterpreterTest, AcquireAndRelease) {
  EXPECT_EQ(value_of(assemble({mov(r1, -1), store(kDw, r10, -8, 0), store_release(kH, r10, -8, r1),
                               load_acquire(kDw, r0, r10, -8), exit_()})),
            0xffffU);
  EXPECT_EQ(value_of(assemble({store(kDw, r10, -8, 0x1234), load_acquire(kB, r0, r10, -8), exit_()})), 0x34U);
}

TEST_F(InterpreterTest, CallsKeepTheCallersRegisters) {
  EXPECT_EQ(value_of(assemble({mov(r6, 100), mov(r1, 1), mov(r2, 2), store(kDw, r10, -8, 1000), call_function(4),
                               add(r0, r6), load(kDw, r1, r10, -8), add(r0, r1), exit_(),
                               // f(a, b): a + 2 b, with its own frame
                               mov(r6, 55), store(kDw, r10, -8, r2), load(kDw, r0, r10, -8), add(r0, r0), add(r0, r1),
                               exit_()})),
            1105U);
}

TEST_F(InterpreterTest, AFunctionMayUseTheCallersFrame) {
  EXPECT_EQ(value_of(assemble({mov(r1, r10), add(r1, -8), store(kDw, r10, -8, 4), call_function(2),
                               load(kDw, r0, r10, -8), exit_(), store(kDw, r1, 0, 9), mov(r0, 0), exit_()})),
            9U);
}

TEST_F(InterpreterTest, FramesAreZeroedOnEntry) {
  EXPECT_EQ(value_of(assemble({call_function(2), call_function(4), exit_(), store(kDw, r10, -8, 77), mov(r0, 0),
                               exit_(), load(kDw, r0, r10, -8), exit_()})),
            0U);
}

TEST_F(InterpreterTest, EightFramesAreAllowedAndNineAreNot) {
  // f(n): n == 0 ? 7 : f(n - 1)
  const auto depth = [this](int n) {
    return run(assemble({mov(r1, n), call_function(1), exit_(), jump_if(kJeq, r1, 0, 3), add(r1, -1), call_function(-3),
                         exit_(), mov(r0, 7), exit_()}));
  };
  EXPECT_EQ(depth(6).value, 7U);
  EXPECT_EQ(depth(7).error, EOVERFLOW);
}

TEST_F(InterpreterTest, TheInstructionLimitEndsALoop) {
  environment_.instruction_limit = 1000;
  const auto outcome = run(assemble({mov(r0, 0), add(r0, 1), jump(-2), exit_()}));
  EXPECT_EQ(outcome.error, ELOOP);
  EXPECT_NE(outcome.reason.find("insn "), std::string::npos) << outcome.reason;
  EXPECT_LE(runner_.instructions(), 1002U);
}

TEST_F(InterpreterTest, TheInstructionLimitEndsAJumpToItself) {
  environment_.instruction_limit = 1000;
  EXPECT_EQ(run(assemble({mov(r0, 0), jump(-1), exit_()})).error, ELOOP);
  EXPECT_EQ(run(assemble({mov(r0, 0), jump_if(kJge, r0, 0, -1), exit_()})).error, ELOOP);
}

TEST_F(InterpreterTest, TheChargeCoversWhatWasExecuted) {
  EXPECT_EQ(value_of(assemble({mov(r0, 0), add(r0, 1), jump_if(kJne, r0, 1000, -2), exit_()})), 1000U);
  EXPECT_GE(runner_.instructions(), 2002U);
}

}  // namespace
}  // namespace skep
