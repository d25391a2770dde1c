// SPDX-License-Identifier: Apache-2.0
//
// Local storage from programs, on the kernel and on skep: what helpers answer for tasks, cgroups and the sockets of
// packets, what clients see of it, and which programs may call them.
#include <dirent.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include <csignal>

#include "storage/storage_busy.h"
#include "storage_programs.h"

namespace skep::oracle {
namespace {

using namespace assembler;

constexpr uint32_t kTaskTypes[] = {BPF_PROG_TYPE_RAW_TRACEPOINT, BPF_PROG_TYPE_SYSCALL,       BPF_PROG_TYPE_SCHED_CLS,
                                   BPF_PROG_TYPE_CGROUP_SKB,     BPF_PROG_TYPE_SOCKET_FILTER, BPF_PROG_TYPE_XDP};

std::string text_of(uint32_t type) { return "type " + std::to_string(type); }

/// Everything that can be asked about the owner in R6, which has nothing in the map yet.
void ask_everything(StorageSteps& steps) {
  steps.get(0);
  steps.get(0, 5);
  steps.erase();
  for (const uint64_t flags : {2ULL, 3ULL, 4ULL, 1ULL << 32 | 1, 1ULL << 63}) steps.get(flags, 6);
  steps.get(1, 7);
  steps.get(1, 8);  // not overwritten
  steps.get(1);
  steps.get(0);
  steps.get(2);
  steps.keep();
  steps.write_kept(9);
  steps.get(0);
  steps.erase();
  steps.erase();
  steps.say_kept();
  steps.get(0);
  steps.get(1);  // zeros
  steps.say_kept();
  steps.keep();
  steps.write_kept(10);
  steps.get(0);
}

TEST_F(StorageProgramsTest, CurrentTask) {
  const int self = open_pidfd(getpid());
  compare([&](Face& face) {
    for (const uint32_t type : kTaskTypes) {
      const int map = storage(face, BPF_MAP_TYPE_TASK_STORAGE), said = answers(face);
      StorageSteps steps(type, map, said, StorageSteps::kTaskGet, StorageSteps::kTaskDelete);
      steps.add({call(StorageSteps::kCurrentTask), mov(r6, r0)});
      ask_everything(steps);
      const int program = load_program(face, steps.finish(), text_of(type));
      note(face, text_of(type), run(face, program, type, said, text_of(type)));
      face.note("seen", seen(face, map, self));
      const uint64_t given = 77;
      face.note("given", face.call(BPF_MAP_UPDATE_ELEM, element_attr(map, &self, &given)));
      note(face, text_of(type) + " again", run(face, program, type, said, text_of(type)));
      face.note("seen again", seen(face, map, self));
      face.note("erased", face.call(BPF_MAP_DELETE_ELEM, element_attr(map, &self, nullptr)));
      face.note("seen at last", seen(face, map, self));
      for (const int fd : {map, said, program}) ::close(fd);
    }
  });
  ::close(self);
}

TEST_F(StorageProgramsTest, NoTask) {
  compare([&](Face& face) {
    for (const uint32_t type : kTaskTypes) {
      const int map = storage(face, BPF_MAP_TYPE_TASK_STORAGE), said = answers(face);
      StorageSteps steps(type, map, said, StorageSteps::kTaskGet, StorageSteps::kTaskDelete);
      steps.add({mov(r6, 0)});
      steps.get(0);
      steps.get(1, 3);
      steps.erase();
      const int program = load_program(face, steps.finish(), text_of(type));
      note(face, text_of(type), run(face, program, type, said, text_of(type)));
      for (const int fd : {map, said, program}) ::close(fd);
    }
  });
}

TEST_F(StorageProgramsTest, TasksByNumber) {
  const pid_t child = fork();
  if (child == 0) {
    pause();
    _exit(0);
  }
  const int pidfd = open_pidfd(child);
  compare([&](Face& face) {
    for (const uint32_t type : {BPF_PROG_TYPE_SYSCALL, BPF_PROG_TYPE_XDP, BPF_PROG_TYPE_SCHED_CLS}) {
      for (const char* name : {"bpf_task_from_vpid", "bpf_task_from_pid"}) {
        for (const int number : {child, getpid(), 0, -1, 0x3fffff}) {
          const bool by_any_name = number == child || number == getpid();
          if (by_any_name && std::string(name) == "bpf_task_from_pid") continue;  // of the first namespace
          const std::string what = text_of(type) + " " + name + (by_any_name ? "" : std::to_string(number));
          const int map = storage(face, BPF_MAP_TYPE_TASK_STORAGE), said = answers(face);
          StorageSteps steps(type, map, said, StorageSteps::kTaskGet, StorageSteps::kTaskDelete);
          steps.add({mov(r1, 1)});
          steps.say();
          steps.add({mov(r1, number), call_kernel(function(name))});
          steps.need();
          steps.add({mov(r6, r0), mov(r1, 2)});
          steps.say();
          steps.add({load(kW, r1, r6, offset("task_struct", "pid")), mov(r2, 0)});
          steps.say();
          // One reference more and one less.
          steps.add({mov(r1, r6), call_kernel(function("bpf_task_acquire")), jump_if(kJeq, r0, 0, 2), mov(r1, r0),
                     call_kernel(function("bpf_task_release"))});
          steps.get(0);
          steps.erase();
          steps.get(1, 7);
          steps.get(1, 8);
          steps.add({mov(r1, r6), call_kernel(function("bpf_task_release"))});
          const int program = load_program(face, steps.finish(), what);
          Said words = run(face, program, type, said, what);
          note(face, what, words);
          face.note(what + " seen", seen(face, map, pidfd));
          for (const int fd : {map, said, program}) ::close(fd);
        }
      }
    }
  });
  kill(child, SIGKILL);
  waitpid(child, nullptr, 0);
  ::close(pidfd);
}

class CgroupProgramsTest : public StorageProgramsTest {
 protected:
  void SetUp() override {
    StorageProgramsTest::SetUp();
    if (IsSkipped()) return;
    const bool apart = access("/sys/fs/cgroup/unified/cgroup.procs", F_OK) == 0;
    mount_ = apart ? "/sys/fs/cgroup/unified" : "/sys/fs/cgroup";
    outer_ = mount_ + "/skep-programs-" + std::to_string(getpid());
    inner_ = outer_ + "/inner";
    if (mkdir(outer_.c_str(), 0755) != 0 || mkdir(inner_.c_str(), 0755) != 0) GTEST_SKIP() << "no cgroup can be made";
  }
  void TearDown() override {
    rmdir(inner_.c_str());
    rmdir(outer_.c_str());
  }
  static uint64_t id_of(const std::string& path) {
    struct stat info {};
    EXPECT_EQ(stat(path.c_str(), &info), 0);
    return info.st_ino;
  }
  static int open_directory(const std::string& path) { return open(path.c_str(), O_RDONLY | O_DIRECTORY); }
  /// R6 = the cgroup of the task that runs the program, under rcu_read_lock().
  static void find_current(StorageSteps& steps) {
    steps.add({call_kernel(function("bpf_rcu_read_lock")), call(StorageSteps::kCurrentTask),
               load(kDw, r1, r0, offset("task_struct", "cgroups")), load(kDw, r6, r1, offset("css_set", "dfl_cgrp"))});
  }
  /// R6 = the cgroup of that id, with a reference.
  static void find_by_id(StorageSteps& steps, uint64_t id) {
    steps.add({load_imm64(r1, id), call_kernel(function("bpf_cgroup_from_id"))});
    steps.need();
    steps.add({mov(r6, r0)});
  }
  static void release(StorageSteps& steps) { steps.add({mov(r1, r6), call_kernel(function("bpf_cgroup_release"))}); }

  std::string mount_, outer_, inner_;
};

TEST_F(CgroupProgramsTest, OfTheCurrentTask) {
  compare([&](Face& face) {
    for (const uint32_t type :
         {BPF_PROG_TYPE_SYSCALL, BPF_PROG_TYPE_RAW_TRACEPOINT, BPF_PROG_TYPE_SCHED_CLS, BPF_PROG_TYPE_CGROUP_SKB}) {
      const int map = storage(face, BPF_MAP_TYPE_CGRP_STORAGE), said = answers(face);
      StorageSteps steps(type, map, said, StorageSteps::kCgroupGet, StorageSteps::kCgroupDelete);
      find_current(steps);
      steps.get(0);
      steps.erase();
      for (const uint64_t flags : {2ULL, 3ULL, 1ULL << 32}) steps.get(flags, 6);
      steps.get(1, 7);
      steps.get(1, 8);
      steps.get(0);
      steps.erase();
      steps.erase();
      steps.get(1, 9);
      steps.add({load(kDw, r1, r6, offset("cgroup", "kn")), load(kDw, r1, r1, offset("kernfs_node", "id"))});
      steps.say();
      steps.add({call_kernel(function("bpf_rcu_read_unlock"))});
      const int program = load_program(face, steps.finish(), text_of(type));
      note(face, text_of(type), run(face, program, type, said, text_of(type)));
      for (const int fd : {map, said, program}) ::close(fd);
    }
  });
}

TEST_F(CgroupProgramsTest, ById) {
  const int directory = open_directory(inner_);
  compare([&](Face& face) {
    for (const uint32_t type : {BPF_PROG_TYPE_SYSCALL, BPF_PROG_TYPE_CGROUP_SKB, BPF_PROG_TYPE_SCHED_CLS}) {
      const int map = storage(face, BPF_MAP_TYPE_CGRP_STORAGE), said = answers(face);
      StorageSteps steps(type, map, said, StorageSteps::kCgroupGet, StorageSteps::kCgroupDelete);
      find_by_id(steps, id_of(inner_));
      steps.get(0);
      steps.get(1, 7);
      steps.erase();
      steps.get(1, 8);
      steps.get(1, 9);
      steps.add({mov(r1, r6), call_kernel(function("bpf_cgroup_acquire")), jump_if(kJeq, r0, 0, 2), mov(r1, r0),
                 call_kernel(function("bpf_cgroup_release"))});
      release(steps);
      const int program = load_program(face, steps.finish(), text_of(type));
      note(face, text_of(type), run(face, program, type, said, text_of(type)));
      face.note("seen", seen(face, map, directory));
      const uint64_t given = 55;
      face.note("given", face.call(BPF_MAP_UPDATE_ELEM, element_attr(map, &directory, &given)));
      note(face, text_of(type) + " again", run(face, program, type, said, text_of(type)));
      for (const int fd : {map, said, program}) ::close(fd);
    }
  });
  ::close(directory);
}

TEST_F(CgroupProgramsTest, Ancestors) {
  const int directories[] = {open_directory(outer_), open_directory(inner_)};
  compare([&](Face& face) {
    for (const int steps_up : {-1, 0, 1, 2, 3, 100}) {
      const std::string what = "level " + std::to_string(steps_up);
      const int map = storage(face, BPF_MAP_TYPE_CGRP_STORAGE), said = answers(face);
      StorageSteps steps(BPF_PROG_TYPE_SYSCALL, map, said, StorageSteps::kCgroupGet, StorageSteps::kCgroupDelete);
      find_by_id(steps, id_of(inner_));
      steps.add({mov(r1, r6), mov(r2, steps_up), call_kernel(function("bpf_cgroup_ancestor")), mov(r7, r0), mov(r1, r6),
                 call_kernel(function("bpf_cgroup_release")), mov(r0, r7)});
      steps.need();
      steps.add({mov(r6, r0)});
      steps.get(1, 7);
      release(steps);
      const int program = load_program(face, steps.finish(), what);
      note(face, what, run(face, program, BPF_PROG_TYPE_SYSCALL, said, what));
      for (const int directory : directories) face.note(what + " seen", seen(face, map, directory));
      for (const int fd : {map, said, program}) ::close(fd);
    }
  });
  for (const int directory : directories) ::close(directory);
}

TEST_F(CgroupProgramsTest, ThatAreNoMore) {
  const uint64_t id = id_of(inner_);
  ASSERT_EQ(rmdir(inner_.c_str()), 0);
  compare([&](Face& face) {
    for (const uint64_t which : {id, uint64_t{0}, ~uint64_t{0}}) {
      const int map = storage(face, BPF_MAP_TYPE_CGRP_STORAGE), said = answers(face);
      StorageSteps steps(BPF_PROG_TYPE_SYSCALL, map, said, StorageSteps::kCgroupGet, StorageSteps::kCgroupDelete);
      steps.add({mov(r1, 1)});
      steps.say();
      find_by_id(steps, which);
      steps.add({mov(r1, 2)});
      steps.say();
      release(steps);
      const int program = load_program(face, steps.finish(), "gone");
      note(face, "gone", run(face, program, BPF_PROG_TYPE_SYSCALL, said, "gone"));
      for (const int fd : {map, said, program}) ::close(fd);
    }
  });
}

TEST_F(StorageProgramsTest, SocketsOfPackets) {
  compare([&](Face& face) {
    for (const uint32_t type : {BPF_PROG_TYPE_SCHED_CLS, BPF_PROG_TYPE_CGROUP_SKB}) {
      const int map = storage(face, BPF_MAP_TYPE_SK_STORAGE), said = answers(face);
      StorageSteps steps(type, map, said, StorageSteps::kSocketGet, StorageSteps::kSocketDelete);
      steps.add({load(kDw, r0, r7, offsetof(UserSkBuff, sk))});
      steps.need();
      steps.add({mov(r6, r0)});
      ask_everything(steps);
      const int program = load_program(face, steps.finish(), text_of(type));
      // Each run has a socket of its own.
      for (int round = 0; round < 2; ++round) note(face, text_of(type), run(face, program, type, said, text_of(type)));
      for (const int fd : {map, said, program}) ::close(fd);
    }
  });
}

TEST_F(StorageProgramsTest, CookiesOfPackets) {
  compare([&](Face& face) {
    for (const uint32_t type :
         {BPF_PROG_TYPE_SOCKET_FILTER, BPF_PROG_TYPE_SCHED_CLS, BPF_PROG_TYPE_CGROUP_SKB, BPF_PROG_TYPE_SYSCALL}) {
      const int map = storage(face, BPF_MAP_TYPE_SK_STORAGE), said = answers(face);
      StorageSteps steps(type, map, said, 0, 0);
      if (type == BPF_PROG_TYPE_SYSCALL) steps.add({mov(r7, 0)});
      for (int i = 0; i < 2; ++i) {
        steps.add({mov(r1, r7), call(StorageSteps::kCookie)});
        steps.say_result();
      }
      const int program = load_program(face, steps.finish(), text_of(type));
      const Said words = run(face, program, type, said, text_of(type));
      face.note(text_of(type) + " has one", words[0] != 0);
      face.note(text_of(type) + " the same", words[0] == words[1]);
      const Said again = run(face, program, type, said, text_of(type));
      face.note(text_of(type) + " another", words[0] != again[0]);
      for (const int fd : {map, said, program}) ::close(fd);
    }
  });
}

// The kernel's answers where a program interrupts an operation on storage, by its sources: it cannot be brought there
// at will. Which types of programs have the helpers that give way, bpftool prog dump xlated says (..._recur).
TEST_F(StorageProgramsTest, InsideAnOperation) {
  Face face(process_.get());
  const int self = open_pidfd(getpid());
  const uint64_t given = 5;
  for (const uint32_t type : kTaskTypes) {
    const bool gives_way = type != BPF_PROG_TYPE_SYSCALL;
    const int map = storage(face, BPF_MAP_TYPE_TASK_STORAGE), said = answers(face);
    StorageSteps steps(type, map, said, StorageSteps::kTaskGet, StorageSteps::kTaskDelete);
    steps.add({call(StorageSteps::kCurrentTask), mov(r6, r0)});
    steps.erase();
    steps.get(1, 7);
    const int empty = load_program(face, steps.finish(), text_of(type));
    StorageSteps more(type, map, said, StorageSteps::kTaskGet, StorageSteps::kTaskDelete);
    more.add({call(StorageSteps::kCurrentTask), mov(r6, r0)});
    more.get(1, 7);
    more.erase();
    const int full = load_program(face, more.finish(), text_of(type));
    {
      const StorageBusy busy(OwnerKind::kTask);
      const Said words = run(face, empty, type, said, text_of(type));
      EXPECT_EQ(static_cast<int64_t>(words[0]), -ENOENT) << type;
      EXPECT_EQ(words[1], gives_way ? ~uint64_t{0} : 7) << type;
    }
    EXPECT_EQ(face.call(BPF_MAP_UPDATE_ELEM, element_attr(map, &self, &given)), 0);
    {
      const StorageBusy busy(OwnerKind::kTask);
      const Said words = run(face, full, type, said, text_of(type));
      EXPECT_EQ(words[0], 5U) << type;
      EXPECT_EQ(static_cast<int64_t>(words[1]), gives_way ? -EBUSY : 0) << type;
    }
    EXPECT_EQ(seen(face, map, self), gives_way ? 5 : -ENOENT) << type;
    for (const int fd : {map, said, empty, full}) ::close(fd);
  }
  ::close(self);
}

TEST_F(CgroupProgramsTest, InsideAnOperation) {
  Face face(process_.get());
  const int directory = open_directory(inner_);
  const uint64_t given = 5;
  for (const uint32_t type : {BPF_PROG_TYPE_SYSCALL, BPF_PROG_TYPE_SCHED_CLS}) {
    const int map = storage(face, BPF_MAP_TYPE_CGRP_STORAGE), said = answers(face);
    StorageSteps steps(type, map, said, StorageSteps::kCgroupGet, StorageSteps::kCgroupDelete);
    find_by_id(steps, id_of(inner_));
    steps.get(1, 7);
    steps.erase();
    release(steps);
    const int program = load_program(face, steps.finish(), text_of(type));
    const StorageBusy busy(OwnerKind::kCgroup);
    Said words = run(face, program, type, said, text_of(type));
    EXPECT_EQ(words[0], ~uint64_t{0}) << type;
    EXPECT_EQ(static_cast<int64_t>(words[1]), -EBUSY) << "also where there is nothing, type " << type;
    EXPECT_EQ(face.call(BPF_MAP_UPDATE_ELEM, element_attr(map, &directory, &given)), 0);
    words = run(face, program, type, said, text_of(type));
    EXPECT_EQ(words[0], 5U) << type;
    EXPECT_EQ(static_cast<int64_t>(words[1]), -EBUSY) << type;
    for (const int fd : {map, said, program}) ::close(fd);
  }
  ::close(directory);
}

TEST_F(StorageProgramsTest, SocketsKnowNoInterruption) {
  Face face(process_.get());
  const int map = storage(face, BPF_MAP_TYPE_SK_STORAGE), said = answers(face);
  StorageSteps steps(BPF_PROG_TYPE_SCHED_CLS, map, said, StorageSteps::kSocketGet, StorageSteps::kSocketDelete);
  steps.add({load(kDw, r0, r7, offsetof(UserSkBuff, sk))});
  steps.need();
  steps.add({mov(r6, r0)});
  steps.get(1, 7);
  steps.erase();
  const int program = load_program(face, steps.finish(), "sockets");
  const StorageBusy busy(OwnerKind::kSocket);
  const Said words = run(face, program, BPF_PROG_TYPE_SCHED_CLS, said, "sockets");
  EXPECT_EQ(words[0], 7U);
  EXPECT_EQ(words[1], 0U);
  for (const int fd : {map, said, program}) ::close(fd);
}

// Which programs may call which helper: what the kernel's verifier says of a call without arguments.
TEST_F(StorageProgramsTest, WhoMayCallWhat) {
  constexpr uint32_t kTypes[] = {BPF_PROG_TYPE_SOCKET_FILTER,  BPF_PROG_TYPE_KPROBE, BPF_PROG_TYPE_SCHED_CLS,
                                 BPF_PROG_TYPE_TRACEPOINT,     BPF_PROG_TYPE_XDP,    BPF_PROG_TYPE_CGROUP_SKB,
                                 BPF_PROG_TYPE_RAW_TRACEPOINT, BPF_PROG_TYPE_SYSCALL};
  constexpr int32_t kHelpers[] = {107, 108, 145, 146, 156, 157, 158, 210, 211, 46};
  const char* kFunctions[] = {"bpf_task_from_pid",  "bpf_task_from_vpid", "bpf_task_acquire",    "bpf_task_release",
                              "bpf_cgroup_from_id", "bpf_cgroup_acquire", "bpf_cgroup_ancestor", "bpf_cgroup_release"};
  compare([&](Face& face) {
    const auto note_whether = [&](const Code& called, const std::string& what, uint32_t type) {
      ProgramToLoad attempt =
          program({mov(r1, 0), mov(r2, 0), mov(r3, 0), mov(r4, 0), called, mov(r0, 0), exit_()}, type);
      attempt.log.resize(1 << 16);
      const int fd = attempt.load_with_log(face);
      const std::string log = attempt.log.c_str();
      const bool refused =
          fd < 0 && (!face.is_kernel() || log.find("cannot use") != std::string::npos ||
                     log.find("unknown func") != std::string::npos || log.find("is not allowed") != std::string::npos);
      face.note(what + " from " + text_of(type), refused ? "no" : "yes");
      if (fd >= 0) ::close(fd);
    };
    for (const uint32_t type : kTypes) {
      for (const int32_t helper : kHelpers) note_whether(call(helper), "helper " + std::to_string(helper), type);
      for (const char* name : kFunctions) note_whether(call_kernel(function(name)), name, type);
    }
  });
}

TEST_F(StorageProgramsTest, ProgramsThatAreNotGpl) {
  compare([&](Face& face) {
    for (const int32_t helper : {107, 108, 156, 157, 158, 210, 211, 46}) {
      ProgramToLoad attempt =
          program({mov(r1, 0), mov(r2, 0), mov(r3, 0), mov(r4, 0), call(helper), mov(r0, 0), exit_()},
                  BPF_PROG_TYPE_CGROUP_SKB);
      attempt.license = "Apache-2.0";
      attempt.log.resize(1 << 16);
      const int fd = attempt.load_with_log(face);
      const bool refused = std::string(attempt.log.c_str()).find("GPL") != std::string::npos;
      face.note("helper " + std::to_string(helper), refused ? "GPL only" : "free");
      if (fd >= 0) ::close(fd);
    }
  });
}

// The kernel refuses the program where skep stops the run: neither gives a value.
TEST_F(StorageProgramsTest, MapsOfOtherKinds) {
  compare([&](Face& face) {
    for (const uint32_t kind : {BPF_MAP_TYPE_SK_STORAGE, BPF_MAP_TYPE_CGRP_STORAGE, BPF_MAP_TYPE_INODE_STORAGE}) {
      const int map = storage(face, kind), said = answers(face);
      StorageSteps steps(BPF_PROG_TYPE_SYSCALL, map, said, StorageSteps::kTaskGet, StorageSteps::kTaskDelete);
      steps.add({call(StorageSteps::kCurrentTask), mov(r6, r0)});
      steps.get(1, 1);
      ProgramToLoad code = steps.finish();
      const int program = code.load(face);
      int result = program;
      if (program >= 0) result = face.call(BPF_PROG_TEST_RUN, run_attr(program));
      face.note("a map of type " + std::to_string(kind), result);
      for (const int fd : {map, said, program}) {
        if (fd >= 0) ::close(fd);
      }
    }
  });
}

}  // namespace
}  // namespace skep::oracle
