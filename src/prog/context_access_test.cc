// SPDX-License-Identifier: Apache-2.0
#include "prog/context_access.h"

#include <cerrno>
#include <cstddef>

#include "prog/program_test_support.h"

namespace skep {
namespace {

using namespace assembler;

class ContextAccessTest : public testing::ProgramTest {
 protected:
  static constexpr int at(size_t offset) { return static_cast<int>(offset); }
  bool skb_readable(uint8_t size, size_t offset, uint32_t type) {
    return run_skb(assemble({load(size, r0, r1, at(offset)), mov(r0, 0), exit_()}), type).error == 0;
  }
  bool skb_writable(uint8_t size, size_t offset, uint32_t type) {
    return run_skb(assemble({mov(r2, 5), store(size, r1, at(offset), r2), mov(r0, 0), exit_()}), type).error == 0;
  }
};

#define FIELD(name) offsetof(UserSkBuff, name)
constexpr uint32_t kFilter = BPF_PROG_TYPE_SOCKET_FILTER, kClassifier = BPF_PROG_TYPE_SCHED_CLS,
                   kCgroup = BPF_PROG_TYPE_CGROUP_SKB;

TEST_F(ContextAccessTest, XdpFields) {
  EXPECT_EQ(
      run_xdp(assemble({load(kW, r2, r1, 0), load(kW, r3, r1, 4), mov(r0, r3), alu(kSub, r0, r2), exit_()})).value,
      64U);
  EXPECT_EQ(run_xdp(assemble({load(kW, r2, r1, 0), load(kB, r0, r2, 63), exit_()})).value, 63U);
  EXPECT_EQ(run_xdp(assemble({load(kW, r0, r1, 12), exit_()})).value, 7U);
  EXPECT_EQ(run_xdp(assemble({load(kW, r0, r1, 16), exit_()})).value, 9U);
  // egress_ifindex belongs to devmap programs; halves, the end and stores are refused.
  EXPECT_EQ(run_xdp(assemble({load(kW, r0, r1, 20), exit_()})).error, EFAULT);
  EXPECT_EQ(run_xdp(assemble({load(kH, r0, r1, 0), exit_()})).error, EFAULT);
  EXPECT_EQ(run_xdp(assemble({load(kDw, r0, r1, 0), exit_()})).error, EFAULT);
  EXPECT_EQ(run_xdp(assemble({load(kW, r0, r1, 24), exit_()})).error, EFAULT);
  EXPECT_EQ(run_xdp(assemble({store(kW, r1, 16, 1), mov(r0, 0), exit_()})).error, EFAULT);
}

TEST_F(ContextAccessTest, PacketBytesOfXdp) {
  const auto at_offset = [this](int off) {
    return run_xdp(assemble({load(kW, r2, r1, 0), load(kDw, r0, r2, off), exit_()})).error;
  };
  EXPECT_EQ(at_offset(56), 0);
  EXPECT_EQ(at_offset(57), EFAULT);
  EXPECT_EQ(at_offset(-1), EFAULT);
  EXPECT_EQ(run_xdp(assemble({load(kW, r2, r1, 0), store(kB, r2, 5, 99), mov(r0, 2), exit_()})).value, 2U);
  EXPECT_EQ(packet_after_.data[5], std::byte{99});
}

TEST_F(ContextAccessTest, PacketBytesOfSkbsByType) {
  const auto read = assemble({load(kW, r2, r1, at(FIELD(data))), load(kB, r0, r2, 3), exit_()});
  const auto write = assemble({load(kW, r2, r1, at(FIELD(data))), store(kB, r2, 3, 1), mov(r0, 0), exit_()});
  EXPECT_EQ(run_skb(read, kClassifier).value, 3U);
  EXPECT_EQ(run_skb(write, kClassifier).error, 0);
  EXPECT_EQ(run_skb(read, kCgroup).value, 3U);
  EXPECT_EQ(run_skb(write, kCgroup).error, EFAULT);
  EXPECT_EQ(run_skb(read, kFilter).error, EFAULT);
  // Not even with an address that comes from elsewhere.
  const auto address = run_skb(assemble({load(kW, r0, r1, at(FIELD(data))), exit_()}), kClassifier).value;
  EXPECT_EQ(run_skb(assemble({load_imm64(r2, address), load(kB, r0, r2, 0), exit_()}), kFilter).error, EFAULT);
}

TEST_F(ContextAccessTest, SkbFieldsByType) {
  for (const uint32_t type : {kFilter, kClassifier, kCgroup}) {
    EXPECT_EQ(run_skb(assemble({load(kW, r0, r1, 0), exit_()}), type).value, 64U);
    EXPECT_TRUE(skb_readable(kB, FIELD(mark) + 1, type));
    EXPECT_FALSE(skb_readable(kDw, FIELD(mark), type));
    EXPECT_FALSE(skb_readable(kH, FIELD(mark) + 1, type)) << "misaligned";
    EXPECT_TRUE(skb_writable(kB, FIELD(cb) + 19, type));
    EXPECT_TRUE(skb_writable(kDw, FIELD(cb) + 4 * sizeof(uint32_t) - 8, type));
    EXPECT_FALSE(skb_writable(kW, FIELD(len), type));
    EXPECT_FALSE(skb_writable(kW, FIELD(hash), type));
    EXPECT_FALSE(skb_readable(kDw, FIELD(flow_keys), type));
    EXPECT_TRUE(skb_readable(kDw, FIELD(sk), type));
    EXPECT_FALSE(skb_readable(kW, FIELD(hwtstamp) + 8, type)) << "behind the end";
    EXPECT_EQ(skb_writable(kW, FIELD(mark), type), type != kFilter);
    EXPECT_EQ(skb_writable(kW, FIELD(priority), type), type != kFilter);
    EXPECT_EQ(skb_writable(kW, FIELD(tc_index), type), type == kClassifier);
    EXPECT_EQ(skb_writable(kH, FIELD(tc_index), type), false);
    EXPECT_EQ(skb_readable(kW, FIELD(tc_classid), type), type == kClassifier);
    EXPECT_EQ(skb_readable(kW, FIELD(data_end), type), type != kFilter);
    EXPECT_EQ(skb_readable(kW, FIELD(data_meta), type), type == kClassifier);
    EXPECT_EQ(skb_readable(kDw, FIELD(tstamp), type), type != kFilter);
    EXPECT_EQ(skb_readable(kW, FIELD(wire_len), type), type == kClassifier);
    EXPECT_EQ(skb_readable(kW, FIELD(family), type), type == kCgroup);
    EXPECT_EQ(skb_readable(kB, FIELD(tstamp_type), type), type == kClassifier);
  }
}

TEST_F(ContextAccessTest, StoresReachTheCallersFields) {
  skb_.fields = {};
  EXPECT_EQ(
      run_skb(assemble({store(kW, r1, at(FIELD(mark)), 0x1234), store(kW, r1, at(FIELD(tc_index)), 0x56789),
                        store(kW, r1, at(FIELD(queue_mapping)), 3), store(kW, r1, at(FIELD(queue_mapping)), 0xffff),
                        load(kW, r0, r1, at(FIELD(tc_index))), exit_()}))
          .value,
      0x6789U);
  EXPECT_EQ(skb_.fields.mark, 0x1234U);
  EXPECT_EQ(skb_.fields.queue_mapping, 3U);
}

TEST_F(ContextAccessTest, BytesAreReadAlignedAndWrittenWhereAllowed) {
  bytes_[8] = std::byte{42};
  EXPECT_EQ(value_of(assemble({load(kDw, r0, r1, 8), exit_()})), 42U);
  EXPECT_EQ(run(assemble({load(kDw, r0, r1, 4), exit_()})).error, EFAULT);
  EXPECT_EQ(run(assemble({load(kDw, r0, r1, 64), exit_()})).error, EFAULT);
  EXPECT_EQ(run(assemble({store(kW, r1, 0, 7), mov(r0, 0), exit_()})).error, 0);
  EXPECT_EQ(bytes_[0], std::byte{7});
  BytesContext registers{.data = bytes_.data(), .size = 64, .writable = false};
  EXPECT_EQ(run_on(&registers, assemble({load(kDw, r0, r1, 8), exit_()}), BPF_PROG_TYPE_KPROBE).value, 42U);
  EXPECT_EQ(run_on(&registers, assemble({store(kW, r1, 0, 7), mov(r0, 0), exit_()}), BPF_PROG_TYPE_KPROBE).error,
            EFAULT);
  BytesContext none;
  EXPECT_EQ(run_on(&none, assemble({load(kB, r0, r1, 0), exit_()}), BPF_PROG_TYPE_SYSCALL).error, EFAULT);
}

TEST_F(ContextAccessTest, TheContextTakesNoAtomics) {
  EXPECT_EQ(run(assemble({mov(r2, 1), atomic(kDw, kAdd, r1, 0, r2), mov(r0, 0), exit_()})).error, EFAULT);
  EXPECT_EQ(run(assemble({load_acquire(kDw, r0, r1, 0), exit_()})).error, EFAULT);
  EXPECT_EQ(run_skb(assemble({mov(r2, 1), atomic(kW, kAdd, r1, at(FIELD(mark)), r2), mov(r0, 0), exit_()})).error,
            EFAULT);
}

TEST_F(ContextAccessTest, AContextOfAnotherTypeIsRefused) {
  XdpContext xdp;
  EXPECT_EQ(run_on(&xdp, assemble({mov(r0, 0), exit_()}), BPF_PROG_TYPE_SYSCALL).error, EINVAL);
}

TEST_F(ContextAccessTest, ClassicPacketLoads) {
  const auto absolute = [this](uint8_t size, int32_t off) {
    return run_skb(assemble({mov(r6, r1), load_absolute(size, off), exit_()}), kFilter);
  };
  EXPECT_EQ(absolute(kB, 5).value, 5U);
  EXPECT_EQ(absolute(kH, 5).value, 0x0506U);
  EXPECT_EQ(absolute(kW, 60).value, 0x3c3d3e3fU);
  EXPECT_EQ(absolute(kW, 61).value, 0U) << "past the end: the program returns 0";
  EXPECT_EQ(absolute(kB, -0x100000 + 1).value, 15U) << "SKF_NET_OFF";
  EXPECT_EQ(absolute(kB, -0x200000 + 1).value, 1U) << "SKF_LL_OFF";
  EXPECT_EQ(absolute(kB, -1).value, 0U);
  EXPECT_EQ(run_skb(assemble({mov(r6, r1), mov(r7, 3), load_indirect(kH, r7, 2), exit_()}), kFilter).value, 0x0506U);
  EXPECT_EQ(run_skb(assemble({mov(r6, 0), load_absolute(kB, 0), exit_()}), kFilter).error, EINVAL);
  EXPECT_NE(refusal(assemble({mov(r6, r1), load_absolute(kB, 0), exit_()}), BPF_PROG_TYPE_XDP), "");
}

}  // namespace
}  // namespace skep
