// SPDX-License-Identifier: Apache-2.0
// A jump table between processes: one program has it at a time, whoever loads, runs and dies.
#include <poll.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/wait.h>

#include <array>
#include <atomic>

#include "syscall/prog_commands_test_support.h"

namespace skep {
namespace {

using namespace assembler;

class InstructionArrayProcesses : public TwoFaces {
 protected:
  /// A frozen table of instructions 6 and 4, pinned so that every process finds it by its id.
  void SetUp() override {
    TwoFaces::SetUp();
    face_ = std::make_unique<Face>(process_.get());
    map_ = face_->call(BPF_MAP_CREATE, map_attr(BPF_MAP_TYPE_INSN_ARRAY, 4, 16, 2));
    ASSERT_GE(map_, 0);
    for (uint32_t i = 0; i < 2; ++i) {
      const uint32_t value[4] = {6 - 2 * i};
      ASSERT_EQ(face_->call(BPF_MAP_UPDATE_ELEM, element_attr(map_, &i, value)), 0);
    }
    ASSERT_EQ(face_->call(BPF_MAP_FREEZE, element_attr(map_, nullptr, nullptr)), 0);
  }

  static int open_map(Face& face) {
    bpf_attr attr = no_attr();
    attr.map_id = 1;
    return face.call(BPF_MAP_GET_FD_BY_ID, attr);
  }
  /// Gives 2 through entry 0.
  static ProgramToLoad jumper(int map) {
    return program({load_map_value(r1, static_cast<uint32_t>(map), 0), load(kDw, r1, r1, 0), gotox(r1), mov(r0, 1),
                    exit_(), mov(r0, 2), exit_()},
                   BPF_PROG_TYPE_SYSCALL);
  }
  static int run_once(Face& face, int fd) {
    bpf_attr attr = run_attr(fd);
    const int result = face.call(BPF_PROG_TEST_RUN, &attr, sizeof attr);
    return result < 0 ? result : static_cast<int>(attr.test.retval);
  }
  pid_t start(const std::function<int(Face&)>& body) {
    const pid_t child = ::fork();
    if (child == 0) {
      auto instance = Instance::open(directory_.path());
      if (!instance) ::_exit(100);
      Process process(*instance);
      Face face(&process);
      ::_exit(body(face));
    }
    return child;
  }
  static int status_of(pid_t child) {
    int status = 0;
    ::waitpid(child, &status, 0);
    return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
  }

  std::unique_ptr<Face> face_;
  int map_ = -1;
};

TEST_F(InstructionArrayProcesses, AnotherProcessRunsTheProgramThroughAddressesOfItsOwn) {
  const int fd = jumper(map_).load(*face_);
  ASSERT_GE(fd, 0);
  EXPECT_EQ(run_once(*face_, fd), 2);
  EXPECT_EQ(status_of(start([](Face& mine) {
              bpf_attr attr = no_attr();
              attr.prog_id = 1;
              const int opened = mine.call(BPF_PROG_GET_FD_BY_ID, attr);
              if (opened < 0) return 101;
              if (jumper(open_map(mine)).load(mine) != -EBUSY) return 102;
              return run_once(mine, opened);
            })),
            2);
}

TEST_F(InstructionArrayProcesses, TheTableOfAKilledProcessIsFree) {
  int ready[2];
  ASSERT_EQ(::pipe(ready), 0);
  const pid_t child = start([&](Face& mine) {
    const char loaded = jumper(open_map(mine)).load(mine) >= 0 ? 1 : 0;
    if (::write(ready[1], &loaded, 1) != 1) return 1;
    for (;;) ::pause();
  });
  char loaded = 0;
  ASSERT_EQ(::read(ready[0], &loaded, 1), 1);
  ASSERT_EQ(loaded, 1);
  EXPECT_EQ(jumper(map_).load(*face_), -EBUSY);
  ::kill(child, SIGKILL);
  status_of(child);
  const int fd = jumper(map_).load(*face_);
  ASSERT_GE(fd, 0);
  EXPECT_EQ(run_once(*face_, fd), 2);
  ::close(ready[0]);
  ::close(ready[1]);
}

TEST_F(InstructionArrayProcesses, LoadersThatRaceAndDieNeverShareIt) {
  struct Shared {
    std::atomic<int> owners;  // programs that have the table now
    std::atomic<uint64_t> loads, shared, wrong;
  };
  auto* shared =
      static_cast<Shared*>(::mmap(nullptr, sizeof(Shared), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0));
  ASSERT_NE(shared, MAP_FAILED);
  const auto load_for_ever = [shared](Face& mine) {
    const int map = open_map(mine);
    for (;;) {
      const int fd = jumper(map).load(mine);
      if (fd == -EBUSY) continue;
      if (fd < 0) {
        ++shared->wrong;
        return 1;
      }
      shared->shared += shared->owners.fetch_add(1) != 0;
      shared->wrong += run_once(mine, fd) != 2;
      ++shared->loads;
      --shared->owners;
      ::close(fd);
    }
  };
  for (uint64_t round = 0; round < 20; ++round) {
    shared->owners = 0;
    std::array<pid_t, 3> loaders;
    for (pid_t& loader : loaders) loader = start(load_for_ever);
    const uint64_t before = shared->loads;
    // Some time with all of them at work; a loader that gives up shows in `wrong`.
    while (shared->loads < before + 20 && shared->wrong == 0) ::poll(nullptr, 0, 1);
    for (const pid_t loader : loaders) ::kill(loader, SIGKILL);
    for (const pid_t loader : loaders) status_of(loader);
    ASSERT_EQ(shared->wrong, 0U);
    ASSERT_EQ(shared->shared, 0U);
    const int fd = jumper(map_).load(*face_);
    ASSERT_GE(fd, 0) << "in round " << round;
    EXPECT_EQ(run_once(*face_, fd), 2);
    ::close(fd);
  }
  ::munmap(shared, sizeof(Shared));
}

}  // namespace
}  // namespace skep
