// SPDX-License-Identifier: Apache-2.0
// One program in several processes: received as a descriptor, opened by id, counted together.
#include <fcntl.h>
#include <sys/socket.h>
#include <sys/wait.h>

#include <fstream>

#include "syscall/prog_commands_test_support.h"

namespace skep {
namespace {

using namespace assembler;

constexpr int32_t kLookup = 1, kTracePrintk = 6;

class ProgProcessTest : public TwoFaces {
 protected:
  /// Adds 1 to the first value of an array, in place; returns what was there.
  static ProgramToLoad counter(int map) {
    return program({mov(r1, 0), store(kW, r10, -4, 0), mov(r2, r10), add(r2, -4),
                    load_map(r1, static_cast<uint32_t>(map)), call(kLookup), jump_if(kJne, r0, 0, 1), exit_(),
                    mov(r1, r0), mov(r0, 1), atomic(kDw, kAdd | kFetch, r1, 0, r0), exit_()},
                   BPF_PROG_TYPE_SYSCALL);
  }
  /// Runs `body` in a child with a process side of its own; its result is the child's exit status.
  int in_child(const std::function<int(Face&)>& body) {
    const pid_t child = ::fork();
    if (child == 0) {
      auto instance = Instance::open(directory_.path());
      if (!instance) ::_exit(100);
      Process process(*instance);
      Face face(&process);
      ::_exit(body(face));
    }
    int status = 0;
    ::waitpid(child, &status, 0);
    return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
  }
  static int run_once(Face& face, int fd) {
    bpf_attr attr = run_attr(fd);
    const int result = face.call(BPF_PROG_TEST_RUN, &attr, sizeof attr);
    return result < 0 ? result : static_cast<int>(attr.test.retval);
  }
};

TEST_F(ProgProcessTest, AnotherProcessRunsAReceivedProgram) {
  Face face(process_.get());
  const int map = face.call(BPF_MAP_CREATE, map_attr(BPF_MAP_TYPE_ARRAY, 4, 8, 1));
  ProgramToLoad adds = counter(map);
  const int prog = adds.load_with_log(face);
  ASSERT_GE(prog, 0) << adds.log.c_str();
  EXPECT_EQ(run_once(face, prog), 0);

  int pair[2];
  ASSERT_EQ(::socketpair(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0, pair), 0);
  char control[CMSG_SPACE(sizeof prog)] = {}, byte = 0;
  iovec part{&byte, 1};
  msghdr message{};
  message.msg_iov = &part;
  message.msg_iovlen = 1;
  message.msg_control = control;
  message.msg_controllen = sizeof control;
  cmsghdr* header = CMSG_FIRSTHDR(&message);
  header->cmsg_level = SOL_SOCKET;
  header->cmsg_type = SCM_RIGHTS;
  header->cmsg_len = CMSG_LEN(sizeof prog);
  std::memcpy(CMSG_DATA(header), &prog, sizeof prog);
  ASSERT_EQ(::sendmsg(pair[0], &message, 0), 1);
  // The sender keeps neither: the message alone references the program, and the program its map.
  ::close(map);
  ::close(prog);

  EXPECT_EQ(in_child([&](Face& mine) {
              if (::recvmsg(pair[1], &message, MSG_CMSG_CLOEXEC) != 1) return 101;
              int received = -1;
              std::memcpy(&received, CMSG_DATA(CMSG_FIRSTHDR(&message)), sizeof received);
              if (run_once(mine, received) != 1) return 102;
              return run_once(mine, received);
            }),
            2);
  ::close(pair[0]);
  ::close(pair[1]);
}

TEST_F(ProgProcessTest, AProgramIsOpenedByIdAndKeepsItsMaps) {
  Face face(process_.get());
  const int map = face.call(BPF_MAP_CREATE, map_attr(BPF_MAP_TYPE_ARRAY, 4, 8, 1));
  ProgramToLoad adds = counter(map);
  const int prog = adds.load(face);
  ASSERT_GE(prog, 0);
  ::close(map);
  bpf_prog_info info = no_info();
  uint32_t map_id = 0;
  info.nr_map_ids = 1;
  info.map_ids = reinterpret_cast<uint64_t>(&map_id);
  ASSERT_EQ(program_info(face, prog, info), 0);
  EXPECT_EQ(info.nr_map_ids, 1U);
  const uint32_t id = info.id;
  EXPECT_EQ(in_child([&](Face& mine) {
              bpf_attr attr = no_attr();
              attr.prog_id = id;
              const int fd = mine.call(BPF_PROG_GET_FD_BY_ID, attr);
              if (fd < 0) return 101;
              if (run_once(mine, fd) != 0) return 102;
              return run_once(mine, fd) + 40;
            }),
            41);
  bpf_attr attr = no_attr();
  attr.map_id = map_id;
  const int again = face.call(BPF_MAP_GET_FD_BY_ID, attr);
  ASSERT_GE(again, 0);
  uint32_t key = 0;
  uint64_t value = 0;
  EXPECT_EQ(face.call(BPF_MAP_LOOKUP_ELEM, element_attr(again, &key, &value)), 0);
  EXPECT_EQ(value, 2U);
  ::close(again);
  ::close(prog);
  attr = no_attr();
  attr.prog_id = id;
  EXPECT_EQ(face.call(BPF_PROG_GET_FD_BY_ID, attr), -ENOENT);
  attr = no_attr();
  attr.map_id = map_id;
  EXPECT_EQ(face.call(BPF_MAP_GET_FD_BY_ID, attr), -ENOENT) << "its program was the last to keep it";
}

TEST_F(ProgProcessTest, RunsAreCountedWhileSomebodyWantsStatistics) {
  Face face(process_.get());
  ProgramToLoad good = returning(1);
  const int prog = good.load(face);
  ASSERT_GE(prog, 0);
  const auto run = [&](Face& mine, uint32_t times) {
    char packet[60] = {};
    bpf_attr attr = run_attr(prog);
    attr.test.data_in = reinterpret_cast<uint64_t>(packet);
    attr.test.data_size_in = sizeof packet;
    attr.test.repeat = times;
    return mine.call(BPF_PROG_TEST_RUN, attr);
  };
  ASSERT_EQ(run(face, 5), 0);
  bpf_prog_info info = no_info();
  ASSERT_EQ(program_info(face, prog, info), 0);
  EXPECT_EQ(info.run_cnt, 0U);
  const int statistics = face.call(BPF_ENABLE_STATS, no_attr());
  ASSERT_GE(statistics, 0);
  ASSERT_EQ(run(face, 100), 0);
  EXPECT_EQ(in_child([&](Face& mine) { return -run(mine, 30); }), 0);
  ::close(statistics);
  ASSERT_EQ(run(face, 7), 0);
  info = no_info();
  ASSERT_EQ(program_info(face, prog, info), 0);
  EXPECT_EQ(info.run_cnt, 130U);
  EXPECT_GT(info.run_time_ns, 0U);
  ::close(prog);
}

TEST_F(ProgProcessTest, WhatProgramsPrintStandsInTheTraceFile) {
  Face face(process_.get());
  constexpr uint64_t kText = 0x216f6c6c6568;  // "hello!"
  ProgramToLoad prints = program({load_imm64(r1, kText), store(kDw, r10, -8, r1), mov(r1, r10), add(r1, -8), mov(r2, 8),
                                  call(kTracePrintk), exit_()},
                                 BPF_PROG_TYPE_SYSCALL);
  const int prog = prints.load_with_log(face);
  ASSERT_GE(prog, 0) << prints.log.c_str();
  EXPECT_GT(run_once(face, prog), 0) << last_error_sentence();
  EXPECT_GT(run_once(face, prog), 0);
  std::ifstream trace(directory_.path() + "/trace");
  std::string line;
  int lines = 0;
  while (std::getline(trace, line)) {
    ++lines;
    EXPECT_NE(line.find("bpf_trace_printk: hello!"), std::string::npos) << line;
  }
  EXPECT_EQ(lines, 2);
  ::close(prog);
}

}  // namespace
}  // namespace skep
