// SPDX-License-Identifier: Apache-2.0
// One arena in two processes: a program of one makes pages and stores pointers in them that the other follows.
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>

#include <csignal>

#include "btf/kernel_btf.h"
#include "maps/arena_map.h"
#include "syscall/prog_commands_test_support.h"

namespace skep {
namespace {

using namespace assembler;

class ArenaSharingTest : public TwoFaces {};

/// A cell of the list that the program makes, as clients see it.
struct Cell {
  Cell* next;
  uint64_t number;
};

/// Prepends a cell, in a page of its own, to the list whose head is the arena's first word.
ProgramToLoad prepend(int map, uint32_t allocate) {
  return program({mov(r6, r1),
                  load_map(r1, static_cast<uint32_t>(map)),
                  mov(r2, 0),
                  mov(r3, 1),
                  mov(r4, -1),
                  mov(r5, 0),
                  call_kernel(allocate),
                  jump_if(kJeq, r0, 0, 11),
                  cast_kernel(r7, r0),
                  load_map_value(r1, static_cast<uint32_t>(map), 0),
                  cast_kernel(r1, r1),
                  load(kDw, r2, r1, 0),
                  store(kDw, r7, 0, r2),
                  load(kDw, r3, r6, 0),
                  store(kDw, r7, 8, r3),
                  store(kDw, r1, 0, r0),
                  mov(r0, 0),
                  exit_(),
                  mov(r0, 1),
                  exit_()},
                 BPF_PROG_TYPE_SYSCALL);
}

TEST_F(ArenaSharingTest, PointersMeanTheSameEverywhere) {
  const auto types = KernelBtf::read();
  if (!types) GTEST_SKIP() << last_error_sentence();
  const uint32_t allocate = types->find(BtfKind::kFunc, "bpf_arena_alloc_pages");
  Face face(process_.get());
  const int map = face.call(BPF_MAP_CREATE, map_attr(BPF_MAP_TYPE_ARENA, 0, 0, 16, BPF_F_MMAPABLE));
  ASSERT_GE(map, 0);
  constexpr uint64_t kSize = 16 * kPageSize;
  void* const window = mmap(nullptr, kSize, PROT_READ | PROT_WRITE, MAP_SHARED, map, 0);
  ASSERT_NE(window, MAP_FAILED);
  madvise(window, kSize, MADV_DONTFORK);
  auto& head = *static_cast<Cell**>(window);
  head = nullptr;  // a touch: the page is the clients' from now on
  ProgramToLoad code = prepend(map, allocate);
  const int fd = code.load_with_log(face);
  ASSERT_GE(fd, 0) << code.log.c_str();
  const auto run = [](Face& side, int program_fd, uint64_t number) {
    bpf_attr attr = run_attr(program_fd);
    attr.test.ctx_in = reinterpret_cast<uint64_t>(&number);
    attr.test.ctx_size_in = sizeof number;
    return side.call(BPF_PROG_TEST_RUN, attr);
  };
  ASSERT_EQ(run(face, fd, 1), 0);

  const pid_t child = fork();
  if (child == 0) {
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    // The mapping was not inherited; where it belongs, the map says.
    const auto share = process_->descriptors.share(map);
    const uint64_t start = share ? static_cast<ArenaMap&>(*(*share)->map).window().start : 0;
    void* const mine =
        mmap(reinterpret_cast<void*>(start), kSize, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED_NOREPLACE, map, 0);
    if (start == 0 || mine != window) _exit(2);
    if (head == nullptr || head->number != 1 || head->next != nullptr) _exit(3);
    Face own(process_.get());
    if (run(own, fd, 2) != 0) _exit(4);
    head->next->number = 11;
    _exit(0);
  }
  int status = 0;
  ASSERT_EQ(waitpid(child, &status, 0), child);
  ASSERT_TRUE(WIFEXITED(status));
  ASSERT_EQ(WEXITSTATUS(status), 0);
  ASSERT_NE(head, nullptr);
  EXPECT_EQ(head->number, 2U);
  ASSERT_NE(head->next, nullptr);
  EXPECT_EQ(head->next->number, 11U);
  munmap(window, kSize);
  ::close(fd);
  ::close(map);
}

}  // namespace
}  // namespace skep
