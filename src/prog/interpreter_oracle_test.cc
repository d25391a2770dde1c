// SPDX-License-Identifier: Apache-2.0
#include <cstdlib>
#include <random>

#include "prog/kernel_oracle.h"
#include "prog/program_test_support.h"

namespace skep {
namespace {

using namespace assembler;
using testing::KernelProgram;

constexpr int kStackBytes = 64;

/// Random programs that the verifier accepts: numbers only, forward jumps, an initialised piece of stack, one function.
/// They take R0..R5 and R7..R9 from the context and leave them, and the stack, in the context again.
class Generator {
 public:
  explicit Generator(uint64_t seed) : random_(seed) {}

  std::vector<bpf_insn> program() {
    std::vector<Code> main = {mov(r6, r1)};
    for (int i = 0; i < kStackBytes; i += 8) main.push_back(store(kDw, r10, -8 - i, number()));
    for (const Register r : kRegistersUsed) main.push_back(load(kDw, r, r6, r * 8));
    body(main, 40, true);
    for (const Register r : kRegistersUsed) main.push_back(store(kDw, r6, r * 8, r));
    for (int i = 0; i < kStackBytes; i += 8) {
      main.push_back(load(kDw, r1, r10, -8 - i));
      main.push_back(store(kDw, r6, 80 + i, r1));
    }
    main.push_back(mov(r0, 0));
    main.push_back(exit_());

    std::vector<Code> function;
    body(function, 10, false);
    function.push_back(exit_());
    return link(main, function);
  }

 private:
  static constexpr Register kRegistersUsed[] = {r0, r1, r2, r3, r4, r5, r7, r8, r9};

  uint32_t below(uint32_t bound) { return static_cast<uint32_t>(random_() % bound); }
  bool coin() { return below(2) == 0; }
  Register any(bool main) { return main ? kRegistersUsed[below(9)] : static_cast<Register>(1 + below(5)); }
  uint8_t size() { return coin() ? (coin() ? kB : kH) : (coin() ? kW : kDw); }
  static int bytes(uint8_t size) { return size == kB ? 1 : size == kH ? 2 : size == kW ? 4 : 8; }
  int slot(int bytes_wide) {
    return -static_cast<int>((1 + below(static_cast<uint32_t>(kStackBytes / bytes_wide)))) * bytes_wide;
  }

  /// A number of the kind that finds bugs.
  int32_t number() {
    switch (below(6)) {
      case 0:
        return static_cast<int32_t>(below(4)) - 1;
      case 1:
        return INT32_MIN + static_cast<int32_t>(below(2));
      case 2:
        return static_cast<int32_t>(1U << below(31));
      default:
        return static_cast<int32_t>(random_());
    }
  }

  Code arithmetic(bool main) {
    constexpr uint8_t kOperations[] = {kAdd, kSub, kMul, kDiv, kOr, kAnd, kLsh, kRsh, kMod, kXor, kMov, kArsh};
    const uint8_t operation = kOperations[below(12)];
    const bool divides = operation == kDiv || operation == kMod;
    const bool shifts = operation == kLsh || operation == kRsh || operation == kArsh;
    const int off = divides && coin() ? 1 : 0;
    const bool wide = coin();
    const Register dst = any(main);
    if (coin()) {
      const Register src = any(main);
      return wide ? alu(operation, dst, src, off) : alu32(operation, dst, src, off);
    }
    int32_t imm = number();
    if (divides && imm == 0) imm = 3;
    if (shifts) imm = static_cast<int32_t>(below(wide ? 64 : 32));
    return wide ? alu(operation, dst, imm, off) : alu32(operation, dst, imm, off);
  }

  Code other(bool main) {
    const Register dst = any(main), src = any(main);
    constexpr int kWidths[] = {16, 32, 64};
    constexpr int kNarrow[] = {8, 16, 32};
    switch (below(main ? 10 : 6)) {
      case 0:
        return le(dst, kWidths[below(3)]);
      case 1:
        return be(dst, kWidths[below(3)]);
      case 2:
        return bswap(dst, kWidths[below(3)]);
      case 3:
        return coin() ? movsx(dst, src, kNarrow[below(3)]) : movsx32(dst, src, kNarrow[below(2)]);
      case 4:
        return coin() ? negate(dst) : alu32(kNeg, dst, 0);
      case 5:
        return load_imm64(dst, random_());
      case 6: {
        const uint8_t width = size();
        return coin() ? store(width, r10, slot(bytes(width)), src) : store(width, r10, slot(bytes(width)), number());
      }
      case 7: {
        const uint8_t width = size();
        return width != kDw && coin() ? load_signed(width, dst, r10, slot(bytes(width)))
                                      : load(width, dst, r10, slot(bytes(width)));
      }
      default: {
        constexpr int32_t kOperations[] = {kAdd,         kOr,           kAnd,          kXor,  kAdd | kFetch,
                                           kOr | kFetch, kAnd | kFetch, kXor | kFetch, kXchg, kCmpxchg};
        const uint8_t width = coin() ? kW : kDw;
        return atomic(width, kOperations[below(10)], r10, slot(bytes(width)), src);
      }
    }
  }

  /// A conditional or plain jump whose distance is filled in by body().
  Code jump_somewhere(bool main) {
    constexpr uint8_t kConditions[] = {kJeq, kJgt, kJge, kJset, kJne, kJsgt, kJsge, kJlt, kJle, kJslt, kJsle};
    const uint8_t condition = kConditions[below(11)];
    const Register dst = any(main), src = any(main);
    if (coin()) return coin() ? jump_if(condition, dst, src, 0) : jump_if32(condition, dst, src, 0);
    return coin() ? jump_if(condition, dst, number(), 0) : jump_if32(condition, dst, number(), 0);
  }

  void body(std::vector<Code>& out, int length, bool main) {
    if (!main) out.push_back(mov(r0, r1));
    std::vector<std::pair<size_t, uint32_t>> jumps;  // at, over how many codes
    for (int i = 0; i < length; ++i) {
      const uint32_t choice = below(10);
      if (choice < 5) {
        out.push_back(arithmetic(main));
      } else if (choice < 8 || !main) {
        out.push_back(other(main));
      } else if (choice == 8) {
        jumps.emplace_back(out.size(), below(4));
        out.push_back(jump_somewhere(main));
      } else {
        call_at_.push_back(out.size());
        out.push_back(call_function(0));
        // A call leaves R1 to R5 without value.
        for (const Register r : {r1, r2, r3, r4, r5}) out.push_back(load(kDw, r, r6, r * 8));
      }
    }
    const size_t end = out.size();
    for (const auto& [at, over] : jumps) {
      // Not into the reloads after a call: a jump over a call and its reloads lands behind them.
      size_t target = std::min(end, at + 1 + over);
      while (inside_reloads(target)) ++target;
      out[at].first.off = static_cast<int16_t>(slots(out, at + 1, target));
    }
  }
  bool inside_reloads(size_t index) const {
    for (const size_t call : call_at_) {
      if (index > call && index <= call + 5) return true;
    }
    return false;
  }
  static int slots(const std::vector<Code>& codes, size_t from, size_t to) {
    int count = 0;
    for (size_t i = from; i < to; ++i) count += codes[i].wide ? 2 : 1;
    return count;
  }

  std::vector<bpf_insn> link(std::vector<Code>& main, const std::vector<Code>& function) {
    for (const size_t call : call_at_) main[call].first.imm = slots(main, call + 1, main.size());
    if (!call_at_.empty()) main.insert(main.end(), function.begin(), function.end());
    std::vector<bpf_insn> out;
    for (const Code& code : main) {
      out.push_back(code.first);
      if (code.wide) out.push_back(code.second);
    }
    return out;
  }

  std::mt19937_64 random_;
  std::vector<size_t> call_at_;
};

class InterpreterOracleTest : public testing::ProgramTest {};

/// SKEP_ORACLE_PROGRAMS sets how many, SKEP_ORACLE_SEED replays.
TEST_F(InterpreterOracleTest, RandomProgramsEndAsOnTheKernel) {
  if (const auto why = testing::kernel_refuses(); !why.empty()) GTEST_SKIP() << why;
  const char* count_text = std::getenv("SKEP_ORACLE_PROGRAMS");
  const char* seed_text = std::getenv("SKEP_ORACLE_SEED");
  const uint64_t count = count_text != nullptr ? std::strtoull(count_text, nullptr, 10) : 3000;
  const uint64_t seed = seed_text != nullptr ? std::strtoull(seed_text, nullptr, 10) : std::random_device{}();
  std::printf("seed %llu\n", static_cast<unsigned long long>(seed));
  uint64_t compared = 0;
  for (uint64_t i = 0; i < count; ++i) {
    const auto code = Generator(seed + i).program();
    const KernelProgram kernel(code, BPF_PROG_TYPE_SYSCALL);
    if (kernel.error() == E2BIG) continue;  // too complex for the verifier
    ASSERT_EQ(kernel.error(), 0) << "program " << seed + i << "\n" << kernel.log();
    const auto program = prepare(code);
    ASSERT_NE(program, nullptr) << "program " << seed + i;
    std::mt19937_64 random(seed ^ i);
    for (int input = 0; input < 4; ++input) {
      std::array<std::byte, 80 + kStackBytes> mine{};
      for (size_t at = 0; at < 80; at += 8) {
        const uint64_t value = input == 0 ? 0 : random() >> (random() % 64);
        std::memcpy(&mine[at], &value, 8);
      }
      auto theirs = mine;
      ASSERT_EQ(kernel.run(theirs).error, 0);
      BytesContext context{.data = mine.data(), .size = static_cast<uint32_t>(mine.size()), .writable = true};
      const Lease lease(machine(), Lease::Cpu{0});
      const auto result = runner_.run(*program, lease, &context, environment_);
      ASSERT_TRUE(result) << "program " << seed + i << ": " << last_error_sentence();
      ASSERT_EQ(mine, theirs) << "program " << seed + i << " input " << input;
      ++compared;
    }
  }
  std::printf("%llu runs compared\n", static_cast<unsigned long long>(compared));
  EXPECT_GT(compared, count);
}

}  // namespace
}  // namespace skep
