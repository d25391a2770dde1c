// SPDX-License-Identifier: Apache-2.0
// bpf(2) over the kinds that Linux 6.18 does not have yet, so that there is no kernel to compare with.
#include <vector>

#include "syscall/prog_commands_test_support.h"

namespace skep {
namespace {

using namespace assembler;

class RhashCommands : public TwoFaces {
 protected:
  void SetUp() override {
    TwoFaces::SetUp();
    face_ = std::make_unique<Face>(process_.get());
  }
  int create(uint32_t key_size, uint32_t entries, uint64_t extra = 0, uint32_t flags = BPF_F_NO_PREALLOC) {
    bpf_attr attr = map_attr(BPF_MAP_TYPE_RHASH, key_size, 8, entries, flags);
    attr.map_extra = extra;
    return face_->call(BPF_MAP_CREATE, attr);
  }
  std::unique_ptr<Face> face_;
};

TEST_F(RhashCommands, InfoTellsTheExpectedNumber) {
  EXPECT_EQ(create(4, 100, 0, 0), -EINVAL);
  EXPECT_EQ(create(4, 100, 101), -EINVAL);
  EXPECT_EQ(create(65536, 100), -E2BIG);
  const int map = create(4, 100, 64);
  ASSERT_GE(map, 0);
  bpf_map_info info;
  std::memset(&info, 0, sizeof info);
  bpf_attr attr = no_attr();
  attr.info.bpf_fd = static_cast<uint32_t>(map);
  attr.info.info_len = sizeof info;
  attr.info.info = reinterpret_cast<uint64_t>(&info);
  ASSERT_EQ(face_->call(BPF_OBJ_GET_INFO_BY_FD, attr), 0);
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

}  // namespace
}  // namespace skep
