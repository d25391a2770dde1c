// SPDX-License-Identifier: Apache-2.0
#include "prog/program_image.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <cstring>
#include <random>

#include "btf/btf_file.h"
#include "memory/test_directory.h"
#include "prog/assembler.h"

namespace skep {
namespace {

using namespace assembler;

ProgramImage sample() {
  ProgramImage image;
  image.facts.type = BPF_PROG_TYPE_XDP;
  image.facts.load_time = 12345;
  std::memcpy(image.facts.name, "sample", 7);
  image.instructions = assemble({load_map(r1, 1), load_map_value(r2, 0, 8), load_function(r3, 4), call_function(2),
                                 exit_(), mov(r0, 0), mov(r0, 0), exit_()});
  image.maps = {70, 71};
  image.functions = {{0, {1}}, {9, {2}}};
  image.function_infos = {{0, 5}, {9, 6}};
  image.line_infos = {{0, 1, 2, 3}};
  return image;
}

class ProgramImageTest : public testing::Test {
 protected:
  ~ProgramImageTest() override { ::close(fd_); }
  TestDirectory directory_;
  int fd_ = directory_.make_file();
};

TEST_F(ProgramImageTest, ComesBackAsItWas) {
  const ProgramImage image = sample();
  ASSERT_TRUE(write_program_file(fd_, image));
  const auto read = read_program_file(fd_);
  ASSERT_TRUE(read) << last_error_sentence();
  EXPECT_STREQ(read->facts.name, "sample");
  EXPECT_EQ(read->facts.load_time, 12345U);
  EXPECT_EQ(read->maps, image.maps);
  ASSERT_EQ(read->instructions.size(), image.instructions.size());
  EXPECT_EQ(std::memcmp(read->instructions.data(), image.instructions.data(), image.instructions.size() * 8), 0);
  ASSERT_EQ(read->functions.size(), 2U);
  EXPECT_EQ(read->functions[1].start, 9U);
  EXPECT_EQ(read->functions[1].tag[0], 2);
  EXPECT_EQ(read->function_infos[1].type_id, 6U);
  EXPECT_EQ(read->line_infos[0].line_col, 3U);
}

TEST_F(ProgramImageTest, CountersAreShared) {
  ASSERT_TRUE(write_program_file(fd_, sample()));
  const auto mine = open_program_counters(fd_, Access::kReadWrite),
             yours = open_program_counters(fd_, Access::kReadOnly);
  ASSERT_TRUE(mine && yours);
  reinterpret_cast<ProgramCounters*>(mine->data())->runs.store(9);
  EXPECT_EQ(reinterpret_cast<const ProgramCounters*>(yours->data())->runs.load(), 9U);
}

TEST_F(ProgramImageTest, IsShownWithIdsAndFunctionNumbers) {
  const auto code = visible_instructions(sample());
  EXPECT_EQ(code[0].src_reg, BPF_PSEUDO_MAP_FD);
  EXPECT_EQ(code[0].imm, 71);
  EXPECT_EQ(code[2].src_reg, BPF_PSEUDO_MAP_VALUE);
  EXPECT_EQ(code[2].imm, 70);
  EXPECT_EQ(code[3].imm, 8);
  EXPECT_EQ(code[4].imm, 4);
  EXPECT_EQ(code[5].imm, 1) << "the function's number";
  EXPECT_EQ(code[6].off, 2);
  EXPECT_EQ(code[6].imm, 1);
}

TEST_F(ProgramImageTest, AHostileFileIsRefusedOrHarmless) {
  ASSERT_TRUE(write_program_file(fd_, sample()));
  std::vector<unsigned char> header(sizeof(ProgramFileHeader)), parts(256);
  ASSERT_TRUE(read_fully(fd_, header.data(), header.size(), kHeaderOffset));
  ASSERT_TRUE(read_fully(fd_, parts.data(), parts.size(), kHeaderOffset + kProgramDataOffset));
  std::mt19937 random(7);
  uint32_t refused = 0;
  for (int i = 0; i < 3000; ++i) {
    auto bad_header = header;
    auto bad_parts = parts;
    const size_t first = sizeof(FileHeader);
    for (int k = 0; k < 3; ++k) {
      bad_header[first + random() % (header.size() - first)] = static_cast<unsigned char>(random());
      bad_parts[random() % parts.size()] = static_cast<unsigned char>(random());
    }
    ASSERT_TRUE(write_fully(fd_, bad_header.data(), bad_header.size(), kHeaderOffset));
    ASSERT_TRUE(write_fully(fd_, bad_parts.data(), bad_parts.size(), kHeaderOffset + kProgramDataOffset));
    const auto read = read_program_file(fd_);
    if (!read) {
      ++refused;
      continue;
    }
    EXPECT_EQ(visible_instructions(*read).size(), read->instructions.size());
    EXPECT_EQ(read->facts.name[BPF_OBJ_NAME_LEN - 1], '\0');
  }
  EXPECT_GT(refused, 0U);
}

TEST_F(ProgramImageTest, ATruncatedFileIsRefused) {
  ASSERT_TRUE(write_program_file(fd_, sample()));
  ASSERT_EQ(::ftruncate(fd_, static_cast<off_t>(kHeaderOffset + kProgramDataOffset)), 0);
  EXPECT_FALSE(read_program_file(fd_));
  EXPECT_FALSE(open_program_counters(fd_, Access::kReadWrite) && read_program_file(fd_));
}

}  // namespace
}  // namespace skep
