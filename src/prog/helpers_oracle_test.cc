// SPDX-License-Identifier: Apache-2.0
#include <cstdio>
#include <functional>

#include "prog/kernel_oracle.h"
#include "prog/program_test_support.h"

namespace skep {
namespace {

using namespace assembler;
using testing::KernelMap;
using testing::KernelProgram;

constexpr int32_t kSnprintf = 165, kStrtol = 105, kStrtoul = 106, kStrncmp = 182, kCsumDiff = 28;

/// The same helper calls here and on the kernel: results and everything written compared.
class HelpersOracleTest : public testing::ProgramTest {
 protected:
  void SetUp() override {
    ProgramTest::SetUp();
    if (const auto why = testing::kernel_refuses(); !why.empty()) GTEST_SKIP() << why;
  }

  using Maker = std::function<std::vector<bpf_insn>(uint32_t map)>;

  /// As SYSCALL programs on 256 bytes of context that begin with `input`; `text` is the value of a read-only map.
  void compare(const std::string& what, const std::string& text, const std::string& input, const Maker& maker) {
    std::array<std::byte, 256> theirs{};
    std::memcpy(theirs.data(), input.data(), std::min(input.size(), theirs.size()));
    auto mine = theirs;
    char value[64] = {};
    text.copy(value, sizeof value);
    const KernelMap kernel_map(value, sizeof value);
    const KernelProgram kernel(maker(static_cast<uint32_t>(kernel_map.fd())), BPF_PROG_TYPE_SYSCALL);
    ASSERT_EQ(kernel.error(), 0) << what << "\n" << kernel.log();
    ASSERT_EQ(kernel.run(theirs).error, 0) << what;

    const uint32_t map = add_array(sizeof value, 1, BPF_F_RDONLY_PROG);
    const uint32_t key = 0;
    {
      const Lease lease(machine());
      ASSERT_TRUE(maps_[map]->update(lease, &key, value, 0));
    }
    BytesContext context{.data = mine.data(), .size = 256, .writable = true};
    const auto outcome = run_on(&context, maker(map), BPF_PROG_TYPE_SYSCALL);
    ASSERT_EQ(outcome.error, 0) << what << ": " << outcome.reason;
    int64_t result_mine, result_theirs;
    std::memcpy(&result_mine, mine.data(), 8);
    std::memcpy(&result_theirs, theirs.data(), 8);
    EXPECT_EQ(result_mine, result_theirs) << what;
    EXPECT_EQ(std::string(reinterpret_cast<char*>(mine.data()) + 8, 248),
              std::string(reinterpret_cast<char*>(theirs.data()) + 8, 248))
        << what;
  }

  static void append(std::vector<bpf_insn>& code, std::initializer_list<Code> more) {
    const auto tail = assemble(more);
    code.insert(code.end(), tail.begin(), tail.end());
  }
  /// Fills `size` bytes of the frame from `off` with zeros, or with the context from byte `context`.
  static void fill_frame(std::vector<bpf_insn>& code, int off, int size, int context = -1) {
    for (int i = 0; i < size; i += 8) {
      append(code, {context < 0 ? mov(r1, 0) : load(kDw, r1, r6, context + i), store(kDw, r10, off + i, r1)});
    }
  }
  /// Copies `size` bytes of the frame from `off` to the context from byte 8, R0 to its start, and ends the program.
  static void finish(std::vector<bpf_insn>& code, int off, int size) {
    append(code, {store(kDw, r6, 0, r0)});
    for (int i = 0; i < size; i += 8) append(code, {load(kDw, r1, r10, off + i), store(kDw, r6, 8 + i, r1)});
    append(code, {mov(r0, 0), exit_()});
  }

  /// snprintf(out, size, format, {a, b, c}); with `bytes`, a is the address of those 16 bytes.
  void compare_print(const std::string& format, uint64_t a, uint64_t b = 0, uint64_t c = 0, int size = 200,
                     int arguments = 3, const char* bytes = nullptr) {
    const std::string input = std::string(16, '\0') + (bytes != nullptr ? std::string(bytes, 16) : "");
    compare(format, format, input, [&](uint32_t map) {
      std::vector<bpf_insn> code = assemble({mov(r6, r1)});
      fill_frame(code, -248, 200);
      fill_frame(code, -40, 16, 16);
      append(code, {mov(r1, r10), bytes != nullptr ? add(r1, -40) : load_imm64(r1, a), store(kDw, r10, -24, r1),
                    load_imm64(r1, b), store(kDw, r10, -16, r1), load_imm64(r1, c), store(kDw, r10, -8, r1),
                    mov(r1, r10), add(r1, -248), mov(r2, size), load_map_value(r3, map, 0), mov(r4, r10), add(r4, -24),
                    mov(r5, arguments * 8), call(kSnprintf)});
      finish(code, -248, 200);
      return code;
    });
  }

  /// strtol or strtoul of the first `length` bytes of `text`.
  void compare_number(int32_t helper, const std::string& text, int length, int32_t flags) {
    char bytes[64] = {};
    text.copy(bytes, sizeof bytes);
    char what[160];
    std::snprintf(what, sizeof what, "helper %d of '%s', %d bytes, flags %d", helper, text.c_str(), length, flags);
    compare(what, "", std::string(16, '\0') + std::string(bytes, sizeof bytes), [&](uint32_t) {
      std::vector<bpf_insn> code = assemble({mov(r6, r1)});
      fill_frame(code, -72, 64, 16);
      append(code, {mov(r1, r10), add(r1, -72), mov(r2, length), mov(r3, flags), store(kDw, r10, -8, 7), mov(r4, r10),
                    add(r4, -8), call(helper)});
      finish(code, -8, 8);
      return code;
    });
  }

  void compare_packet(const std::string& what, std::vector<bpf_insn> code, uint32_t type) {
    const KernelProgram kernel(code, type);
    ASSERT_EQ(kernel.error(), 0) << what << "\n" << kernel.log();
    const PacketBuffer before = packet();
    const auto theirs = kernel.run_packet({before.data, before.length()});
    ASSERT_EQ(theirs.error, 0) << what;
    const auto mine = type == BPF_PROG_TYPE_XDP ? run_xdp(std::move(code)) : run_skb(std::move(code), type);
    ASSERT_EQ(mine.error, 0) << what << ": " << mine.reason;
    EXPECT_EQ(static_cast<int32_t>(mine.value), static_cast<int32_t>(theirs.value)) << what;
    EXPECT_EQ(std::vector<std::byte>(packet_after_.data_meta, packet_after_.data_end), theirs.data) << what;
  }
};

TEST_F(HelpersOracleTest, PrintedNumbers) {
  const uint64_t values[] = {0, 1, 42, 0x7fffffff, 0x80000000, 0xffffffff, 0x123456789a, UINT64_MAX, uint64_t{1} << 63};
  for (const char* format :
       {"%d",     "%i",    "%u",     "%x",     "%X",    "%ld",    "%lu",   "%lx",    "%lli",     "%lld",
        "%llu",   "%llx",  "%llX",   "%5d|",   "%-5d|", "%05d|",  "%+d",   "% d",    "%020lld|", "%-20llx|",
        "% +5u|", "%08x|", "%0-8x|", "%12lu|", "%px",   "%30px|", "100%%", "%d%%|%%"}) {
    for (const uint64_t value : values) compare_print(format, value);
  }
  compare_print("%d %u %llx", 1, 2, 3);
  compare_print("no argument", 1, 2, 3);
}

TEST_F(HelpersOracleTest, PrintedStringsAndAddresses) {
  for (const char* format :
       {"%s", "%s|", "[%s]", "%10s|", "%-10s|", "%pks", "%pks|", "%pI4", "%pi4", "%pI6", "%pi6", "%20pI4|"}) {
    compare_print(format, 0, 0, 0, 200, 3, "hello\0\xfe\x01\x02\x03\x04\x05\x06\x07\x08\x09");
  }
  compare_print("%s %d", 0, 5, 0, 200, 3, "fifteen letters");
  for (const char* format : {"%s", "%pks", "%pus", "%pI4", "%pI6"}) compare_print(format, 0);
  for (const uint64_t c : {0x41U, 0x7fU, 0x80U, 0x141U}) compare_print("%c|%5c|%-5c|", c, c, c);
  compare_print("%p", 0);
}

TEST_F(HelpersOracleTest, PrintsThatAreCutOrWrong) {
  for (const int size : {1, 2, 5, 10, 11}) compare_print("%d-%d-%d", 123, 456, 789, size);
  compare_print("%d", 1, 2, 3, 200, 1);
}

TEST_F(HelpersOracleTest, NumbersFromText) {
  for (const char* text : {"",
                           "0",
                           "1",
                           "-1",
                           "+1",
                           " 12",
                           "\t\n-12x",
                           "0x1f",
                           "0X1F",
                           "0x",
                           "0xg",
                           "017",
                           "08",
                           "--1",
                           "- 1",
                           "abc",
                           "ff",
                           "9223372036854775807",
                           "9223372036854775808",
                           "-9223372036854775808",
                           "-9223372036854775809",
                           "18446744073709551615",
                           "18446744073709551616",
                           "99999999999999999999999",
                           "12 34",
                           "-0",
                           "-",
                           "0x-1",
                           "00000000000000000000000000000000000000000000000000000000000000012"}) {
    for (const int32_t flags : {0, 8, 10, 16}) {
      compare_number(kStrtol, text, 64, flags);
      compare_number(kStrtoul, text, 64, flags);
      compare_number(kStrtoul, text, 2, flags);
      compare_number(kStrtol, text, 1, flags);
    }
  }
  for (const int32_t flags : {1, 2, 32, 7, 0x20, 0x2a}) compare_number(kStrtol, "12", 8, flags);
}

TEST_F(HelpersOracleTest, ComparedStrings) {
  for (const char* first : {"", "a", "abc", "abd", "abcd", "\xff"}) {
    for (const char* second : {"", "a", "abc", "b"}) {
      for (const int size : {1, 2, 3, 4, 8}) {
        char bytes[16] = {};
        std::strncpy(bytes, first, sizeof bytes - 1);
        compare(std::string(first) + " and " + second, second, std::string(16, '\0') + std::string(bytes, sizeof bytes),
                [&](uint32_t map) {
                  std::vector<bpf_insn> code = assemble({mov(r6, r1)});
                  fill_frame(code, -16, 16, 16);
                  append(code, {mov(r1, r10), add(r1, -16), mov(r2, size), load_map_value(r3, map, 0), call(kStrncmp),
                                movsx(r0, r0, 32)});
                  finish(code, -16, 8);
                  return code;
                });
      }
    }
  }
}

TEST_F(HelpersOracleTest, ChecksumDifferences) {
  for (const int from : {0, 4, 20}) {
    for (const int to : {0, 4, 16, 28}) {
      for (const int32_t seed : {0, 1, 0xffff, -1, 0x12345678}) {
        std::vector<bpf_insn> code = assemble({mov(r6, r1)});
        for (int off = -64; off < 0; off += 8) {
          const auto fill = assemble(
              {load_imm64(r1, 0x9e3779b97f4a7c15 * static_cast<uint64_t>(off + 100)), store(kDw, r10, off, r1)});
          code.insert(code.end(), fill.begin(), fill.end());
        }
        const auto call_it = assemble({mov(r1, r10), add(r1, -64), mov(r2, from), mov(r3, r10), add(r3, -32),
                                       mov(r4, to), mov(r5, seed), call(kCsumDiff), exit_()});
        code.insert(code.end(), call_it.begin(), call_it.end());
        compare_packet("csum_diff " + std::to_string(from) + " " + std::to_string(to) + " " + std::to_string(seed),
                       code, BPF_PROG_TYPE_SCHED_CLS);
      }
    }
  }
}

TEST_F(HelpersOracleTest, SkbBytesAndChecksums) {
  constexpr int32_t kStore = 9, kL3 = 10, kL4 = 11, kLoad = 26, kRelative = 68, kPull = 39;
  constexpr uint32_t kType = BPF_PROG_TYPE_SCHED_CLS;
  for (const int32_t off : {0, 1, 33, 62, 63, 64, 70000, -1}) {
    compare_packet("load " + std::to_string(off),
                   assemble({mov(r2, off), store(kDw, r10, -8, -1), mov(r3, r10), add(r3, -8), mov(r4, 2), call(kLoad),
                             load(kH, r1, r10, -8), add(r0, r1), exit_()}),
                   kType);
    compare_packet("store " + std::to_string(off),
                   assemble({mov(r2, off), store(kDw, r10, -8, -1), mov(r3, r10), add(r3, -8), mov(r4, 2), mov(r5, 0),
                             call(kStore), exit_()}),
                   kType);
    for (const int32_t flags : {0, 2, 4, 3, 0x10, 0x12, 0x14, 0x20, 0x34, 0x60, 0x80, 0x100}) {
      for (const int32_t from : {0, 0x1234}) {
        const std::string what =
            "csum " + std::to_string(off) + " " + std::to_string(flags) + " " + std::to_string(from);
        compare_packet("l3 " + what,
                       assemble({mov(r2, off), mov(r3, from), mov(r4, 0x777), mov(r5, flags), call(kL3), exit_()}),
                       kType);
        compare_packet("l4 " + what,
                       assemble({mov(r2, off), mov(r3, from), mov(r4, 0x777), mov(r5, flags), call(kL4), exit_()}),
                       kType);
      }
    }
  }
  for (const int32_t from : {0, 1, 2}) {
    compare_packet("relative " + std::to_string(from),
                   assemble({mov(r2, 3), store(kDw, r10, -8, -1), mov(r3, r10), add(r3, -8), mov(r4, 2), mov(r5, from),
                             call(kRelative), load(kH, r1, r10, -8), add(r0, r1), exit_()}),
                   kType);
  }
  for (const int32_t length : {0, 64, 65}) {
    compare_packet("pull " + std::to_string(length), assemble({mov(r2, length), call(kPull), exit_()}), kType);
  }
}

TEST_F(HelpersOracleTest, XdpPackets) {
  constexpr int32_t kHead = 44, kMeta = 54, kTail = 65, kLength = 188, kLoad = 189, kStore = 190;
  constexpr uint32_t kType = BPF_PROG_TYPE_XDP;
  for (const int32_t delta : {0, 1, -1, 50, 51, 52, -200, -216, -217, -256, 200, 1000, -50, -51, 319, 320}) {
    const std::string text = std::to_string(delta);
    compare_packet("head " + text, assemble({mov(r2, delta), call(kHead), exit_()}), kType);
    compare_packet("meta " + text, assemble({mov(r2, delta), call(kMeta), exit_()}), kType);
    if (delta <= 0) compare_packet("tail " + text, assemble({mov(r2, delta), call(kTail), exit_()}), kType);
    compare_packet("length after head " + text,
                   assemble({mov(r6, r1), mov(r2, delta), call(kHead), mov(r1, r6), call(kLength), exit_()}), kType);
  }
  for (const int32_t meta : {-4, -8, -2, -216, -252, -256, 4}) {
    compare_packet("head after meta " + std::to_string(meta),
                   assemble({mov(r6, r1), mov(r2, meta), call(kMeta), mov(r7, r0), mov(r1, r6), mov(r2, -4),
                             call(kHead), alu(kLsh, r7, 8), add(r0, r7), exit_()}),
                   kType);
  }
  compare_packet("grown tail", assemble({mov(r2, 16), call(kTail), exit_()}), kType);
  for (const int32_t off : {0, 1, 62, 63, 64, 65535, 65536, -1}) {
    compare_packet("load " + std::to_string(off),
                   assemble({mov(r2, off), store(kDw, r10, -8, -1), mov(r3, r10), add(r3, -8), mov(r4, 2), call(kLoad),
                             load(kH, r1, r10, -8), add(r0, r1), exit_()}),
                   kType);
    compare_packet(
        "store " + std::to_string(off),
        assemble({mov(r2, off), store(kDw, r10, -8, -1), mov(r3, r10), add(r3, -8), mov(r4, 2), call(kStore), exit_()}),
        kType);
  }
}

}  // namespace
}  // namespace skep
