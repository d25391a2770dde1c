// SPDX-License-Identifier: Apache-2.0
// gotox: jumps to instructions that a table names, and what becomes of any other number.
#include "maps/instruction_array_map.h"
#include "prog/program_test_support.h"

namespace skep {
namespace {

using namespace assembler;

class IndirectJumpTest : public testing::ProgramTest {
 protected:
  /// A frozen table of those instructions, known to the programs; its index among their maps.
  uint32_t add_table(std::initializer_list<uint32_t> offsets) {
    auto map = make(spec(BPF_MAP_TYPE_INSN_ARRAY, 4, 16, static_cast<uint32_t>(offsets.size())));
    uint32_t index = 0;
    const Lease lease(machine());
    for (const uint32_t offset : offsets) {
      const uint32_t value[4] = {offset};
      EXPECT_TRUE(map->update(lease, &index, value, 0));
      ++index;
    }
    map->header().frozen = 1;
    return add_map(std::move(map));
  }
};

TEST_F(IndirectJumpTest, GoesWhereTheTableSays) {
  const uint32_t table = add_table({10, 12, 8});
  const auto program = [&](int32_t index) {
    return assemble({mov(r2, index), alu(kLsh, r2, 3), load_map_value(r1, table, 0), add(r1, r2), load(kDw, r3, r1, 0),
                     gotox(r3),                                                            // 5, 6
                     mov(r0, 7), mov(r0, 10), exit_(), mov(r0, 20), exit_(), mov(r0, 30),  // 7, 8, 9, 10, 11, 12
                     exit_()});
  };
  EXPECT_EQ(value_of(program(0)), 20U);
  EXPECT_EQ(value_of(program(1)), 30U);
  EXPECT_EQ(value_of(program(2)), 10U);
  const testing::Outcome outside = run(program(3));
  EXPECT_EQ(outside.error, EFAULT) << outside.reason;
}

TEST_F(IndirectJumpTest, TheOffsetOfTheTableCounts) {
  const uint32_t table = add_table({6, 4});
  const auto program = [&](uint32_t offset) {
    return assemble({load_map_value(r1, table, offset), load(kDw, r1, r1, 0), gotox(r1),  // 0, 2, 3
                     mov(r0, 1), exit_(), mov(r0, 2), exit_()});
  };
  EXPECT_EQ(value_of(program(0)), 2U);
  EXPECT_EQ(value_of(program(8)), 1U);
  EXPECT_NE(refusal(program(4)), "");
  EXPECT_NE(refusal(program(16)), "");
}

TEST_F(IndirectJumpTest, OtherNumbersEndTheRun) {
  const uint32_t table = add_table({8, 10});
  // r2 is added to the address that the table has of instruction 8.
  const auto program = [&](uint64_t more) {
    return assemble({load_map_value(r1, table, 0), load(kDw, r1, r1, 0), load_imm64(r2, more),  // 0, 2, 3
                     add(r1, r2), gotox(r1), exit_(),                                           // 5, 6, 7
                     mov(r0, 1), exit_(), mov(r0, 2), exit_()});
  };
  EXPECT_EQ(value_of(program(0)), 1U);
  for (const int64_t more : {1L, 8L, 16L, -16L, -64L, 1L << 20, -(1L << 20), INT64_MAX}) {
    const testing::Outcome outcome = run(program(static_cast<uint64_t>(more)));
    EXPECT_EQ(outcome.error, EFAULT) << more;
    EXPECT_NE(outcome.reason.find("gotox"), std::string::npos) << outcome.reason;
  }
  const auto number = [&](uint64_t value) {
    return assemble({load_imm64(r1, value), gotox(r1), exit_(), load_map_value(r2, table, 0), mov(r0, 1), exit_(),
                     mov(r0, 2), mov(r0, 3), exit_()});
  };
  for (const uint64_t value : {uint64_t{0}, uint64_t{8}, UINT64_MAX, uint64_t{1} << 63}) {
    EXPECT_EQ(run(number(value)).error, EFAULT) << value;
  }
  std::vector<bpf_insn> frame = number(0);
  frame[2].dst_reg = r10;
  EXPECT_EQ(run(frame).error, EFAULT);
}

TEST_F(IndirectJumpTest, ProgramsCannotWriteOrLookInto) {
  const uint32_t table = add_table({0});
  EXPECT_EQ(run(assemble({load_map_value(r1, table, 0), mov(r0, 0), store(kDw, r1, 0, r0), exit_()})).error, EFAULT);
  const testing::Outcome lookup =
      run(assemble({store(kW, r10, -4, 0), load_map(r1, table), mov(r2, r10), add(r2, -4), call(1), exit_()}));
  EXPECT_EQ(lookup.error, EINVAL) << lookup.reason;
  EXPECT_EQ(run(assemble({load_map_value(r1, table, 0), load(kDw, r0, r1, 8), exit_()})).error, EFAULT);
}

TEST_F(IndirectJumpTest, AFunctionJumpsToItsOwnInstructions) {
  const auto program = [](uint32_t table, uint32_t offset) {
    return assemble({call_function(1), exit_(),                                           // 0, 1
                     load_map_value(r1, table, offset), load(kDw, r1, r1, 0), gotox(r1),  // 2, 4, 5
                     exit_(), mov(r0, 5), exit_()});                                      // 6, 7, 8
  };
  const uint32_t table = add_table({7, 1});
  EXPECT_EQ(value_of(program(table, 0)), 5U);
  EXPECT_EQ(run(program(table, 8)).error, EFAULT) << "the main function's instruction";
}

TEST_F(IndirectJumpTest, BackwardJumpsAreCharged) {
  const uint32_t table = add_table({0});
  environment_.instruction_limit = 10'000;
  const testing::Outcome outcome =
      run(assemble({mov(r0, 0), load_map_value(r1, table, 0), load(kDw, r1, r1, 0), gotox(r1)}));
  EXPECT_EQ(outcome.error, ELOOP) << outcome.reason;
}

TEST_F(IndirectJumpTest, FormIsChecked) {
  const uint32_t table = add_table({0});
  const auto with = [&](int code, uint8_t src, int off, int imm) {
    std::vector<bpf_insn> all = assemble({load_map_value(r1, table, 0), load(kDw, r1, r1, 0)});
    all.push_back(raw(code, r1, src, off, imm));
    return all;
  };
  EXPECT_EQ(refusal(with(kJmp | kJa | kX, 0, 0, 0)), "");
  EXPECT_NE(refusal(with(kJmp | kJa | kX, 1, 0, 0)), "");
  EXPECT_NE(refusal(with(kJmp | kJa | kX, 0, 1, 0)), "");
  EXPECT_NE(refusal(with(kJmp | kJa | kX, 0, 0, 1)), "");
  EXPECT_NE(refusal(with(kJmp32 | kJa | kX, 0, 0, 0)), "");
}

}  // namespace
}  // namespace skep
