// SPDX-License-Identifier: Apache-2.0
// bpf(2) over the kinds that Linux 6.18 does not have yet, so that there is no kernel to compare with.
#include <vector>

#include "syscall/prog_commands_test_support.h"

namespace skep {
namespace {

using namespace assembler;

class NewestKinds : public TwoFaces {
 protected:
  void SetUp() override {
    TwoFaces::SetUp();
    face_ = std::make_unique<Face>(process_.get());
  }
  bpf_map_info info_of(int map) {
    bpf_map_info info;
    std::memset(&info, 0, sizeof info);
    bpf_attr attr = no_attr();
    attr.info.bpf_fd = static_cast<uint32_t>(map);
    attr.info.info_len = sizeof info;
    attr.info.info = reinterpret_cast<uint64_t>(&info);
    EXPECT_EQ(face_->call(BPF_OBJ_GET_INFO_BY_FD, attr), 0);
    return info;
  }
  std::unique_ptr<Face> face_;
};

class RhashCommands : public NewestKinds {
 protected:
  int create(uint32_t key_size, uint32_t entries, uint64_t extra = 0, uint32_t flags = BPF_F_NO_PREALLOC) {
    bpf_attr attr = map_attr(BPF_MAP_TYPE_RHASH, key_size, 8, entries, flags);
    attr.map_extra = extra;
    return face_->call(BPF_MAP_CREATE, attr);
  }
};

TEST_F(RhashCommands, InfoTellsTheExpectedNumber) {
  EXPECT_EQ(create(4, 100, 0, 0), -EINVAL);
  EXPECT_EQ(create(4, 100, 101), -EINVAL);
  EXPECT_EQ(create(65536, 100), -E2BIG);
  const int map = create(4, 100, 64);
  ASSERT_GE(map, 0);
  const bpf_map_info info = info_of(map);
  EXPECT_EQ(info.type, 35U);
  EXPECT_EQ(info.map_extra, 64U);
  EXPECT_EQ(info.map_flags, uint32_t{BPF_F_NO_PREALLOC});
}

TEST_F(RhashCommands, ElementsAndFreeze) {
  const int map = create(4, 2);
  ASSERT_GE(map, 0);
  uint32_t key = 1;
  uint64_t value = 10, found = 0;
  EXPECT_EQ(face_->call(BPF_MAP_UPDATE_ELEM, element_attr(map, &key, &value, BPF_EXIST)), -ENOENT);
  EXPECT_EQ(face_->call(BPF_MAP_UPDATE_ELEM, element_attr(map, &key, &value, BPF_NOEXIST)), 0);
  EXPECT_EQ(face_->call(BPF_MAP_UPDATE_ELEM, element_attr(map, &key, &value, BPF_NOEXIST)), -EEXIST);
  key = 2;
  EXPECT_EQ(face_->call(BPF_MAP_UPDATE_ELEM, element_attr(map, &key, &value)), 0);
  key = 3;
  EXPECT_EQ(face_->call(BPF_MAP_UPDATE_ELEM, element_attr(map, &key, &value)), -E2BIG);
  key = 2;
  EXPECT_EQ(face_->call(BPF_MAP_LOOKUP_AND_DELETE_ELEM, element_attr(map, &key, &found)), 0);
  EXPECT_EQ(found, 10U);
  EXPECT_EQ(face_->call(BPF_MAP_LOOKUP_ELEM, element_attr(map, &key, &found)), -ENOENT);
  EXPECT_EQ(face_->call(BPF_MAP_GET_NEXT_KEY, element_attr(map, nullptr, &key)), 0);
  EXPECT_EQ(key, 1U);
  EXPECT_EQ(face_->call(BPF_MAP_GET_NEXT_KEY, element_attr(map, &key, &key)), -ENOENT);
  EXPECT_EQ(face_->call(BPF_MAP_FREEZE, element_attr(map, nullptr, nullptr)), 0);
  EXPECT_EQ(face_->call(BPF_MAP_UPDATE_ELEM, element_attr(map, &key, &value)), -EPERM);
}

TEST_F(RhashCommands, TheCursorOfABatchIsAKey) {
  const int map = create(2, 10);
  ASSERT_GE(map, 0);
  uint16_t keys[8] = {1, 2, 3, 4, 5};
  uint64_t values[8] = {1, 2, 3, 4, 5};
  bpf_attr attr = no_attr();
  attr.batch.map_fd = static_cast<uint32_t>(map);
  attr.batch.keys = reinterpret_cast<uint64_t>(keys);
  attr.batch.values = reinterpret_cast<uint64_t>(values);
  attr.batch.count = 5;
  ASSERT_EQ(face_->call(BPF_MAP_UPDATE_BATCH, &attr, sizeof attr), 0);
  uint16_t cursor[2] = {0, 0xeeee};  // two bytes of it, and no more
  attr.batch.out_batch = reinterpret_cast<uint64_t>(cursor);
  attr.batch.count = 3;
  ASSERT_EQ(face_->call(BPF_MAP_LOOKUP_BATCH, &attr, sizeof attr), 0);
  EXPECT_EQ(attr.batch.count, 3U);
  EXPECT_EQ(cursor[1], 0xeeee);
  attr.batch.in_batch = attr.batch.out_batch;
  attr.batch.count = 8;
  ASSERT_EQ(face_->call(BPF_MAP_LOOKUP_AND_DELETE_BATCH, &attr, sizeof attr), -ENOENT);
  EXPECT_EQ(attr.batch.count, 2U);
  EXPECT_EQ(keys[0], cursor[0]);
  ASSERT_EQ(face_->call(BPF_MAP_LOOKUP_AND_DELETE_BATCH, &attr, sizeof attr), -EAGAIN);
  attr.batch.count = 2;
  ASSERT_EQ(face_->call(BPF_MAP_DELETE_BATCH, &attr, sizeof attr), -ENOENT);  // the keys that were taken
  EXPECT_EQ(attr.batch.count, 0U);
  attr.batch.flags = 1;
  EXPECT_EQ(face_->call(BPF_MAP_LOOKUP_BATCH, &attr, sizeof attr), -EINVAL);
}

TEST_F(RhashCommands, ProgramsUseIt) {
  const int map = create(4, 10);
  ASSERT_GE(map, 0);
  const auto update = [&](uint32_t type) {
    return program({store(kW, r10, -4, 7), store(kDw, r10, -16, 11), load_map(r1, static_cast<uint32_t>(map)),
                    mov(r2, r10), add(r2, -4), mov(r3, r10), add(r3, -16), mov(r4, 0), call(2), mov(r0, 5), exit_()},
                   type);
  };
  ProgramToLoad tracing = update(BPF_PROG_TYPE_KPROBE);
  EXPECT_EQ(tracing.load_with_log(*face_), -EINVAL);
  EXPECT_NE(tracing.log.find("tracing progs cannot use resizable hash maps yet"), std::string::npos);
  const int fd = update(BPF_PROG_TYPE_SYSCALL).load(*face_);
  ASSERT_GE(fd, 0);
  bpf_attr run = run_attr(fd);
  ASSERT_EQ(face_->call(BPF_PROG_TEST_RUN, &run, sizeof run), 0);
  EXPECT_EQ(run.test.retval, 5U);
  uint32_t key = 7;
  uint64_t found = 0;
  EXPECT_EQ(face_->call(BPF_MAP_LOOKUP_ELEM, element_attr(map, &key, &found)), 0);
  EXPECT_EQ(found, 11U);
}

class InstructionArrays : public NewestKinds {
 protected:
  struct Entry {
    uint32_t original = 0, translated = 0, compiled = 0, padding = 0;
  };
  int table(const std::vector<uint32_t>& offsets, bool frozen = true) {
    const int map =
        face_->call(BPF_MAP_CREATE, map_attr(BPF_MAP_TYPE_INSN_ARRAY, 4, 16, static_cast<uint32_t>(offsets.size())));
    EXPECT_GE(map, 0);
    for (uint32_t i = 0; i < offsets.size(); ++i) {
      const Entry entry{.original = offsets[i]};
      EXPECT_EQ(face_->call(BPF_MAP_UPDATE_ELEM, element_attr(map, &i, &entry)), 0);
    }
    if (frozen) freeze(map);
    return map;
  }
  void freeze(int map) { EXPECT_EQ(face_->call(BPF_MAP_FREEZE, element_attr(map, nullptr, nullptr)), 0); }
  Entry entry(int map, uint32_t index) {
    Entry found;
    EXPECT_EQ(face_->call(BPF_MAP_LOOKUP_ELEM, element_attr(map, &index, &found)), 0);
    return found;
  }
  /// A program that has the tables without naming them.
  int load_with(ProgramToLoad program, const std::vector<int>& tables) {
    bpf_attr attr = program.attr();
    attr.fd_array = reinterpret_cast<uint64_t>(tables.data());
    attr.fd_array_cnt = static_cast<uint32_t>(tables.size());
    return face_->call(BPF_PROG_LOAD, attr);
  }
  /// 0, 2, 3: jumps through entry `offset / 8`; 4, 5: gives 1; 6, 7: gives 2.
  static ProgramToLoad chooser(int table, uint32_t offset = 0) {
    return program({load_map_value(r1, static_cast<uint32_t>(table), offset), load(kDw, r1, r1, 0), gotox(r1),
                    mov(r0, 1), exit_(), mov(r0, 2), exit_()},
                   BPF_PROG_TYPE_SYSCALL);
  }
  uint32_t result_of(int fd) {
    bpf_attr run = run_attr(fd);
    EXPECT_EQ(face_->call(BPF_PROG_TEST_RUN, &run, sizeof run), 0);
    return run.test.retval;
  }
};

TEST_F(InstructionArrays, Commands) {
  EXPECT_EQ(face_->call(BPF_MAP_CREATE, map_attr(BPF_MAP_TYPE_INSN_ARRAY, 4, 8, 1)), -EINVAL);
  EXPECT_EQ(face_->call(BPF_MAP_CREATE, map_attr(BPF_MAP_TYPE_INSN_ARRAY, 4, 16, 1, BPF_F_MMAPABLE)), -EINVAL);
  const int map = table({0, 1}, false);
  EXPECT_EQ(info_of(map).map_flags, uint32_t{BPF_F_RDONLY_PROG});
  uint32_t key = 1;
  Entry value{.original = 3, .translated = 1};
  EXPECT_EQ(face_->call(BPF_MAP_UPDATE_ELEM, element_attr(map, &key, &value)), -EINVAL);
  EXPECT_EQ(face_->call(BPF_MAP_DELETE_ELEM, element_attr(map, &key, nullptr)), -EINVAL);
  EXPECT_EQ(face_->call(BPF_MAP_LOOKUP_AND_DELETE_ELEM, element_attr(map, &key, &value)), -SKEP_ENOTSUPP);
  EXPECT_EQ(face_->call(BPF_MAP_GET_NEXT_KEY, element_attr(map, &key, &key)), -ENOENT);
  freeze(map);
  value = {};
  EXPECT_EQ(face_->call(BPF_MAP_UPDATE_ELEM, element_attr(map, &key, &value)), -EPERM);
  bpf_attr outer = map_attr(BPF_MAP_TYPE_ARRAY_OF_MAPS, 4, 4, 1);
  outer.inner_map_fd = static_cast<uint32_t>(map);
  EXPECT_EQ(face_->call(BPF_MAP_CREATE, outer), -SKEP_ENOTSUPP);
}

TEST_F(InstructionArrays, LoadingChecksThem) {
  const int open = table({0}, false);
  EXPECT_EQ(load_with(returning(0), {open}), -EINVAL) << "not frozen";
  freeze(open);
  EXPECT_EQ(load_with(returning(0), {table({2})}), -EINVAL) << "behind the program";
  const auto wide_program = program({load_imm64(r0, 1), exit_()});
  EXPECT_EQ(load_with(wide_program, {table({1})}), -EINVAL) << "second half of a wide load";
  const int whole = table({0, 2});
  const int fd = load_with(wide_program, {whole});
  ASSERT_GE(fd, 0);
  EXPECT_EQ(entry(whole, 1).translated, 2U);
  EXPECT_EQ(entry(whole, 1).compiled, 0U);
}

TEST_F(InstructionArrays, OneProgramAtATime) {
  const int map = table({0});
  const int first = load_with(returning(0), {map});
  ASSERT_GE(first, 0);
  EXPECT_EQ(load_with(returning(1), {map}), -EBUSY);
  EXPECT_GE(load_with(returning(1), {}), 0);
  ::close(first);
  const int second = load_with(returning(1), {map});
  EXPECT_GE(second, 0) << "its program has ended";
  EXPECT_EQ(load_with(returning(2), {map, table({0})}), -EBUSY);
}

TEST_F(InstructionArrays, ATableForARefusedProgramIsFree) {
  const int map = table({0}), other = table({0});
  EXPECT_GE(load_with(returning(0), {other}), 0);
  EXPECT_EQ(load_with(returning(0), {map, other}), -EBUSY);
  EXPECT_GE(load_with(returning(0), {map}), 0);
}

TEST_F(InstructionArrays, JumpTables) {
  const int map = table({6, 4});
  const int fd = chooser(map).load(*face_);
  ASSERT_GE(fd, 0);
  EXPECT_EQ(result_of(fd), 2U);
  ::close(fd);
  const int other = chooser(map, 8).load(*face_);
  ASSERT_GE(other, 0);
  EXPECT_EQ(result_of(other), 1U);
  EXPECT_EQ(chooser(table({6, 4}), 4).load(*face_), -EACCES) << "not a whole entry";
  EXPECT_EQ(chooser(table({6, 4}), 16).load(*face_), -EACCES) << "behind the last entry";
}

TEST_F(InstructionArrays, FlowOfIndirectJumps) {
  const auto refused = [&](ProgramToLoad program, const char* why) {
    EXPECT_EQ(program.load_with_log(*face_), -EINVAL) << why;
    EXPECT_NE(program.log.find(why), std::string::npos) << program.log.c_str();
  };
  refused(chooser(table({6})), "unreachable insn 4");
  refused(program({mov(r1, 0), gotox(r1), exit_()}, BPF_PROG_TYPE_SYSCALL), "no jump tables found for subprog");
  ProgramToLoad reserved = chooser(table({6, 4}));
  reserved.code[3].imm = 1;
  refused(reserved, "BPF_JA|BPF_X uses reserved fields");
  const auto two_functions = [&](int map) {
    return program({call_function(1), exit_(),                                                           // 0, 1
                    load_map_value(r1, static_cast<uint32_t>(map), 0), load(kDw, r1, r1, 0), gotox(r1),  // 2, 4, 5
                    mov(r0, 1), exit_(), mov(r0, 2), exit_()},                                           // 6, 8
                   BPF_PROG_TYPE_SYSCALL);
  };
  refused(two_functions(table({0})), "no jump tables found for subprog starting at 2");
  const int fd = two_functions(table({8, 6})).load(*face_);
  ASSERT_GE(fd, 0);
  EXPECT_EQ(result_of(fd), 2U);
}

TEST_F(InstructionArrays, AnyOtherNumberEndsTheRun) {
  const int map = table({6, 7});
  const int fd = program({load_map_value(r1, static_cast<uint32_t>(map), 0), load(kDw, r1, r1, 0), add(r1, 4),
                          gotox(r1), exit_(), mov(r0, 2), exit_()},
                         BPF_PROG_TYPE_SYSCALL)
                     .load(*face_);
  EXPECT_EQ(fd, -EINVAL) << "unreachable";
  const int other = program({load_map_value(r1, static_cast<uint32_t>(map), 0), load(kDw, r1, r1, 0), add(r1, 4),
                             mov(r0, 0), gotox(r1), mov(r0, 2), exit_()},
                            BPF_PROG_TYPE_SYSCALL)
                        .load(*face_);
  ASSERT_GE(other, 0);
  bpf_attr run = run_attr(other);
  EXPECT_EQ(face_->call(BPF_PROG_TEST_RUN, &run, sizeof run), -EFAULT);
}

}  // namespace
}  // namespace skep
