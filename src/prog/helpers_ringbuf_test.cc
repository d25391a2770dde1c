// SPDX-License-Identifier: Apache-2.0
// What only a runtime that checks can answer: programs that the kernel's verifier would have refused.
#include <cstring>

#include "maps/ringbuf_test_support.h"
#include "maps/user_ringbuf_map.h"
#include "prog/program_test_support.h"

namespace skep {
namespace {

using namespace assembler;
using testing::Outcome;
using testing::ProgramTest;

class RingbufHelpersTest : public ProgramTest {
 protected:
  void SetUp() override {
    ProgramTest::SetUp();
    std::shared_ptr<Map> map = make(spec(BPF_MAP_TYPE_RINGBUF, 0, 0, 4096));
    ring_ = static_cast<RingbufMap*>(map.get());
    index_ = add_map(std::move(map));
  }
  std::vector<Code> reserve(int32_t size) const {
    return {load_map(r1, index_), mov(r2, size), mov(r3, 0), call(131), mov(r6, r0)};
  }
  static std::vector<bpf_insn> flat(std::initializer_list<std::vector<Code>> parts) {
    std::vector<bpf_insn> out;
    for (const auto& part : parts) {
      for (const Code& code : part) {
        out.push_back(code.first);
        if (code.wide) out.push_back(code.second);
      }
    }
    return out;
  }
  std::vector<std::string> consume() {
    std::vector<std::string> records;
    testing::RingbufReader(ring_->area()).consume([&](const std::byte* data, uint32_t size) {
      records.emplace_back(reinterpret_cast<const char*>(data), size);
    });
    return records;
  }
  RingbufMap* ring_ = nullptr;
  uint32_t index_ = 0;
};

TEST_F(RingbufHelpersTest, ReserveAndSubmit) {
  EXPECT_EQ(value_of(flat(
                {reserve(8), {store(kDw, r6, 0, 0x6968), mov(r1, r6), mov(r2, 0), call(132), mov(r0, 7), exit_()}})),
            7u);
  EXPECT_EQ(consume(), std::vector<std::string>{std::string("hi\0\0\0\0\0\0", 8)});
}

TEST_F(RingbufHelpersTest, ForgottenRecordIsDiscarded) {
  const Outcome outcome = run(flat({reserve(8), {mov(r0, 0), exit_()}}));
  EXPECT_EQ(outcome.error, EINVAL);
  EXPECT_NE(outcome.reason.find("without submitting"), std::string::npos) << outcome.reason;
  EXPECT_EQ(ring_->query(BPF_RB_AVAIL_DATA), 16u);
  EXPECT_TRUE(consume().empty());
  EXPECT_EQ(ring_->query(BPF_RB_AVAIL_DATA), 0u);
}

TEST_F(RingbufHelpersTest, ADynptrOutlivesNoRecord) {
  const Outcome outcome = run(flat({reserve(16),
                                    {mov(r1, r6), mov(r2, 16), mov(r3, 0), mov(r4, r10), add(r4, -16), call(197),
                                     mov(r1, r6), mov(r2, 0), call(132), mov(r0, 0), exit_()}}));
  EXPECT_EQ(outcome.error, EFAULT);
  EXPECT_NE(outcome.reason.find("bpf_dynptr_from_mem"), std::string::npos) << outcome.reason;
}

TEST_F(RingbufHelpersTest, RecordEndsWithItsBytesAndWithSubmit) {
  EXPECT_EQ(run(flat({reserve(8), {store(kDw, r6, 8, 1), mov(r0, 0), exit_()}})).error, EFAULT);
  EXPECT_EQ(run(flat({reserve(8), {store(kDw, r6, -8, 1), mov(r0, 0), exit_()}})).error, EFAULT) << "its header";
  EXPECT_EQ(
      run(flat({reserve(16),
                {store(kDw, r6, 0, 1), mov(r1, r6), mov(r2, 0), call(132), store(kDw, r6, 0, 2), mov(r0, 0), exit_()}}))
          .error,
      EFAULT);
  EXPECT_EQ(run(flat({reserve(8),
                      {mov(r1, r6), mov(r2, 0), call(132), mov(r1, r6), mov(r2, 0), call(133), mov(r0, 0), exit_()}}))
                .error,
            EINVAL);
  EXPECT_EQ(ring_->check().problem, "");
}

TEST_F(RingbufHelpersTest, MapsOfOtherKinds) {
  const uint32_t array = add_array(8, 1);
  EXPECT_EQ(run(assemble({load_map(r1, array), mov(r2, 8), mov(r3, 0), call(131), mov(r0, 0), exit_()})).error, EINVAL);
  EXPECT_EQ(run(assemble({load_map(r1, array), mov(r2, 0), call(134), exit_()})).error, EINVAL);
}

TEST_F(RingbufHelpersTest, Dynptr) {
  const std::vector<Code> make = {load_map(r1, index_), mov(r2, 8), mov(r3, 0), mov(r4, r10), add(r4, -16), call(198)};
  const std::vector<Code> write = {mov(r1, r10), add(r1, -16), mov(r2, 2), mov(r3, r10),
                                   add(r3, -24), mov(r4, 4),   mov(r5, 0), store(kDw, r10, -24, 0x64636261),
                                   call(202),    mov(r7, r0)};
  const std::vector<Code> submit = {mov(r1, r10), add(r1, -16), mov(r2, 0), call(199), mov(r0, r7), exit_()};
  EXPECT_EQ(value_of(flat({make,
                           {mov(r1, r10), add(r1, -16), mov(r2, 0), mov(r3, 8), call(203), store(kDw, r0, 0, 0)},
                           write,
                           submit})),
            0u);
  EXPECT_EQ(consume(), std::vector<std::string>{std::string("\0\0abcd\0\0", 8)});
  // Its bytes changed, never made, submitted twice, forgotten.
  EXPECT_EQ(run(flat({make, {store(kB, r10, -9, 1)}, submit})).error, EINVAL);
  EXPECT_EQ(run(flat({submit})).error, EINVAL);
  EXPECT_EQ(run(flat({make, {mov(r1, r10), add(r1, -16), mov(r2, 0), call(199)}, submit})).error, EINVAL);
  EXPECT_EQ(run(flat({make, {mov(r0, 0), exit_()}})).error, EINVAL);
  EXPECT_EQ(consume().size(), 1u) << "the one that was submitted before the mistake";
  EXPECT_EQ(ring_->query(BPF_RB_AVAIL_DATA), 0u);
}

}  // namespace
}  // namespace skep
