// SPDX-License-Identifier: Apache-2.0
//
// Maps of maps and program arrays between processes, and what their deaths leave. ReferenceStore is compiled into this
// test with crash points that kill.
#include <signal.h>
#include <sys/wait.h>

#include <atomic>
#include <random>

#include "machine/crash_countdown.h"

#include "syscall/reference_store.cc"
//
#include "memory/test_repeats.h"
#include "syscall/prog_commands_test_support.h"

namespace skep {
namespace {

using namespace assembler;

constexpr int32_t kLookup = 1, kTailCall = 12;
constexpr uint32_t kOuterTypes[] = {BPF_MAP_TYPE_ARRAY_OF_MAPS, BPF_MAP_TYPE_HASH_OF_MAPS};

class NestedProcessTest : public TwoFaces {
 protected:
  NestedProcessTest() = default;
  void SetUp() override {
    TwoFaces::SetUp();
    face_.emplace(process_.get());
  }
  static int inner_map(Face& face) { return face.call(BPF_MAP_CREATE, map_attr(BPF_MAP_TYPE_ARRAY, 4, 8, 1)); }
  static int outer_map(Face& face, uint32_t type, int inner) {
    bpf_attr attr = map_attr(type, 4, 4, 8);
    attr.inner_map_fd = static_cast<uint32_t>(inner);
    return face.call(BPF_MAP_CREATE, attr);
  }
  static int set(Face& face, int map, uint32_t key, int fd) {
    return face.call(BPF_MAP_UPDATE_ELEM, element_attr(map, &key, &fd));
  }
  static int erase(Face& face, int map, uint32_t key) {
    return face.call(BPF_MAP_DELETE_ELEM, element_attr(map, &key, nullptr));
  }
  static int64_t get(Face& face, int map, uint32_t key) {
    uint32_t id = 0;
    const int result = face.call(BPF_MAP_LOOKUP_ELEM, element_attr(map, &key, &id));
    return result < 0 ? result : int64_t{id};
  }
  static int open_map_id(Face& face, int64_t id) {
    bpf_attr attr = no_attr();
    attr.map_id = static_cast<uint32_t>(id);
    return face.call(BPF_MAP_GET_FD_BY_ID, attr);
  }
  static uint32_t id_of(Face& face, int fd) {
    bpf_map_info info{};
    bpf_attr attr = no_attr();
    attr.info.bpf_fd = static_cast<uint32_t>(fd);
    attr.info.info_len = sizeof info;
    attr.info.info = reinterpret_cast<uint64_t>(&info);
    return face.call(BPF_OBJ_GET_INFO_BY_FD, attr) < 0 ? 0 : info.id;
  }
  /// How many objects of a kind live, when everything dead has been noticed: holders before what they held.
  int living(int next_id) {
    process_->instance->collect_dead();
    return count(*face_, next_id);
  }
  static int count(Face& face, int next_id) {
    int objects = 0;
    bpf_attr attr = no_attr();
    for (; face.call(next_id, &attr, sizeof attr) == 0; attr.start_id = attr.next_id) ++objects;
    return objects;
  }
  static int run(Face& face, int program) {
    std::array<char, 64> packet{};
    bpf_attr attr = run_attr(program);
    attr.test.data_in = reinterpret_cast<uint64_t>(packet.data());
    attr.test.data_size_in = packet.size();
    const int result = face.call(BPF_PROG_TEST_RUN, &attr, sizeof attr);
    return result < 0 ? result : static_cast<int>(attr.test.retval);
  }
  /// Starts `body` in a child with a process side of its own.
  template <class Body>
  pid_t start(Body body) {
    const pid_t child = ::fork();
    if (child != 0) return child;
    auto instance = Instance::open(directory_.path());
    if (!instance) ::_exit(100);
    Process process(*instance);
    Face face(&process);
    ::_exit(body(face));
  }
  static int wait_for(pid_t child) {
    int status = 0;
    ::waitpid(child, &status, 0);
    return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
  }
  /// What is in an outer map lives; links beyond that go with the next change, and with them what only they kept.
  void expect_consistent(int outer, const std::vector<int>& kept) {
    std::set<int64_t> inside;
    for (uint32_t key = 0; key < 8; ++key) {
      const int64_t id = get(*face_, outer, key);
      if (id < 0) continue;
      inside.insert(id);
      const int fd = open_map_id(*face_, id);
      EXPECT_GE(fd, 0) << "an entry stands for a dead map " << id;
      ::close(fd);
    }
    (void)erase(*face_, outer, 7);  // a change
    inside.erase(-1);
    for (const int fd : kept) inside.insert(id_of(*face_, fd));
    inside.insert(id_of(*face_, outer));
    EXPECT_EQ(living(BPF_MAP_GET_NEXT_ID), static_cast<int>(inside.size())) << "a map is kept for nothing";
  }

  std::optional<Face> face_;
};

TEST_F(NestedProcessTest, WhoeverDiesInAChangeLeavesNothingDeadAndNothingKept) {
  for (const uint32_t type : kOuterTypes) {
    for (int death = 0; death < 4; ++death) {
      const int first = inner_map(*face_), second = inner_map(*face_);
      const int outer = outer_map(*face_, type, first);
      ASSERT_EQ(set(*face_, outer, 0, first), 0);
      const int status = wait_for(start([&](Face& face) {
        testing::crash_countdown = death + 1;
        return set(face, outer, 0, second) == 0 && erase(face, outer, 0) == 0 ? 0 : 1;
      }));
      EXPECT_EQ(status, death < 3 ? 128 + SIGKILL : 0) << "death " << death;
      const int64_t there = get(*face_, outer, 0);
      EXPECT_EQ(there, death == 0 ? id_of(*face_, first) : death == 1 ? int64_t{id_of(*face_, second)} : -ENOENT);
      ::close(first);
      ::close(second);
      expect_consistent(outer, {});
      ::close(outer);
      EXPECT_EQ(living(BPF_MAP_GET_NEXT_ID), 0);
    }
  }
}

TEST_F(NestedProcessTest, KillsAtAnyInstruction) {
  const uint64_t rounds = testing::repeats(20);
  std::mt19937 random(7);
  for (const uint32_t type : kOuterTypes) {
    const int like = inner_map(*face_);
    const int outer = outer_map(*face_, type, like);
    for (uint64_t round = 0; round < rounds; ++round) {
      int ready[2];
      ASSERT_EQ(::pipe(ready), 0);
      pid_t children[2];
      for (pid_t& child : children) {
        child = start([&](Face& face) {
          std::minstd_rand keys(static_cast<unsigned>(::getpid()));
          for (uint32_t i = 0;; ++i) {
            const uint32_t key = static_cast<uint32_t>(keys()) % 4;
            if (i % 4 == 3) {
              (void)erase(face, outer, key);
            } else {
              const int fresh = inner_map(face);
              if (fresh < 0 || set(face, outer, key, fresh) != 0) return 1;
              ::close(fresh);
            }
            if (i == 4 && ::write(ready[1], "", 1) != 1) return 2;
          }
        });
      }
      char byte;
      ASSERT_EQ(::read(ready[0], &byte, 1), 1);
      ASSERT_EQ(::read(ready[0], &byte, 1), 1);
      ::usleep(static_cast<useconds_t>(random() % 3000));
      for (const pid_t child : children) ::kill(child, SIGKILL);
      for (const pid_t child : children) EXPECT_EQ(wait_for(child), 128 + SIGKILL);
      ::close(ready[0]);
      ::close(ready[1]);
      expect_consistent(outer, {like});
    }
    ::close(outer);
    ::close(like);
    EXPECT_EQ(living(BPF_MAP_GET_NEXT_ID), 0);
  }
}

/// The first value of the inner map at 0; 0 where there is none.
ProgramToLoad reader(int outer) {
  return program({store(kW, r10, -4, 0), mov(r2, r10), add(r2, -4), load_map(r1, static_cast<uint32_t>(outer)),
                  call(kLookup), jump_if(kJne, r0, 0, 2), mov(r0, 0), exit_(), mov(r1, r0), mov(r2, r10), add(r2, -4),
                  call(kLookup), jump_if(kJne, r0, 0, 2), mov(r0, 1), exit_(), load(kDw, r0, r0, 0), exit_()});
}

TEST_F(NestedProcessTest, AProgramSeesWhatAnotherProcessPutsIn) {
  constexpr int kVersions = 300;
  for (const uint32_t type : kOuterTypes) {
    const int like = inner_map(*face_);
    const int outer = outer_map(*face_, type, like);
    const int prog = reader(outer).load(*face_);
    ASSERT_GE(prog, 0);
    const pid_t child = start([&](Face& face) {
      int last = 0;  // versions ascend
      while (last < kVersions + 100) {
        const int seen = run(face, prog);
        if (seen < 0 || (seen != 0 && seen < 100) || (seen != 0 && seen < last)) return 1;
        if (seen != 0) last = seen;
      }
      return 0;
    });
    for (int version = 1; version <= kVersions; ++version) {
      const int fresh = inner_map(*face_);
      const uint32_t key = 0;
      const uint64_t value = static_cast<uint64_t>(version) + 100;
      ASSERT_EQ(face_->call(BPF_MAP_UPDATE_ELEM, element_attr(fresh, &key, &value)), 0);
      ASSERT_EQ(set(*face_, outer, 0, fresh), 0);
      ::close(fresh);
      EXPECT_EQ(run(*face_, prog), version + 100);
    }
    EXPECT_EQ(wait_for(child), 0);
    EXPECT_LE(living(BPF_MAP_GET_NEXT_ID), 3);  // the template, the outer one and what is in it
    for (const int fd : {like, outer, prog}) ::close(fd);
    EXPECT_EQ(living(BPF_MAP_GET_NEXT_ID), 0);
  }
}

TEST_F(NestedProcessTest, AnArrayAndAProgramThatHoldEachOtherEndWithTheirUsers) {
  for (const bool killed : {false, true}) {
    const pid_t child = start([&](Face& face) {
      const int array = face.call(BPF_MAP_CREATE, map_attr(BPF_MAP_TYPE_PROG_ARRAY, 4, 4, 2));
      const int self =
          program({load_map(r2, static_cast<uint32_t>(array)), mov(r3, 0), call(kTailCall), mov(r0, 3), exit_()})
              .load(face);
      if (set(face, array, 0, self) != 0 || run(face, self) != 3) return 1;
      return killed ? ::raise(SIGKILL) : 0;
    });
    EXPECT_EQ(wait_for(child), killed ? 128 + SIGKILL : 0);
    auto instance = Instance::open(directory_.path());
    ASSERT_TRUE(instance);
    Process next(*instance);
    EXPECT_EQ(living(BPF_MAP_GET_NEXT_ID), 0);
    EXPECT_EQ(living(BPF_PROG_GET_NEXT_ID), 0);
  }
}

TEST_F(NestedProcessTest, ATailCallInAFunctionReturnsToItsCaller) {
  const int array = face_->call(BPF_MAP_CREATE, map_attr(BPF_MAP_TYPE_PROG_ARRAY, 4, 4, 4));
  const int target = returning(5).load(*face_);
  ASSERT_EQ(set(*face_, array, 1, target), 0);
  // main: r0 = f(ctx); return r0 + 100.   f: tail call, else 7.
  const auto caller = [&](int32_t index) {
    return program({call_function(2), add(r0, 100), exit_(), load_map(r2, static_cast<uint32_t>(array)), mov(r3, index),
                    call(kTailCall), mov(r0, 7), exit_()})
        .load(*face_);
  };
  const int hit = caller(1), miss = caller(2);
  EXPECT_EQ(run(*face_, hit), 105);
  EXPECT_EQ(run(*face_, miss), 107);
  for (const int fd : {array, target, hit, miss}) ::close(fd);
}

/// What stops the run names an instruction of the code that it stops in.
TEST_F(NestedProcessTest, ATailCallInAFunctionThatForgetsARecord) {
  const int ring = face_->call(BPF_MAP_CREATE, map_attr(BPF_MAP_TYPE_RINGBUF, 0, 0, 4096));
  const int array = face_->call(BPF_MAP_CREATE, map_attr(BPF_MAP_TYPE_PROG_ARRAY, 4, 4, 4));
  // Far more instructions than the caller has, so that their numbers lie beyond its end.
  std::vector<bpf_insn> forgets;
  for (int i = 0; i < 10'000; ++i) forgets.push_back(mov(r0, 0).first);
  for (const Code& code :
       {load_map(r1, static_cast<uint32_t>(ring)), mov(r2, 8), mov(r3, 0), call(131), mov(r0, 1), exit_()}) {
    forgets.push_back(code.first);
    if (code.wide) forgets.push_back(code.second);
  }
  ProgramToLoad target = program({exit_()});
  target.code = forgets;
  const int forgetful = target.load(*face_);
  ASSERT_GE(forgetful, 0);
  ASSERT_EQ(set(*face_, array, 1, forgetful), 0);
  const int caller = program({call_function(1), exit_(), load_map(r2, static_cast<uint32_t>(array)), mov(r3, 1),
                              call(kTailCall), mov(r0, 7), exit_()})
                         .load(*face_);
  ASSERT_GE(caller, 0);
  EXPECT_EQ(run(*face_, caller), -EINVAL);
  for (const int fd : {ring, array, forgetful, caller}) ::close(fd);
}

/// A program is stopped that uses the number of a map that this run did not get, or a map of maps as memory.
TEST_F(NestedProcessTest, OnlyWhatARunGotIsAMap) {
  const int like = inner_map(*face_);
  const int outer = outer_map(*face_, BPF_MAP_TYPE_ARRAY_OF_MAPS, like);
  const int kept = face_->call(BPF_MAP_CREATE, map_attr(BPF_MAP_TYPE_ARRAY, 4, 8, 1));
  ASSERT_EQ(set(*face_, outer, 0, like), 0);
  const auto map = [](int fd) { return load_map(r1, static_cast<uint32_t>(fd)); };
  // Keeps the handle of the inner map in an array.
  const int keeper =
      program({store(kW, r10, -4, 0), mov(r2, r10), add(r2, -4), map(outer), call(kLookup), mov(r6, r0), mov(r2, r10),
               add(r2, -4), map(kept), call(kLookup), store(kDw, r0, 0, r6), mov(r0, 1), exit_()})
          .load(*face_);
  EXPECT_EQ(run(*face_, keeper), 1);
  // Uses it in another run.
  const int user = program({store(kW, r10, -4, 0), mov(r2, r10), add(r2, -4), map(kept), call(kLookup),
                            load(kDw, r1, r0, 0), mov(r2, r10), add(r2, -4), call(kLookup), mov(r0, 1), exit_()})
                       .load(*face_);
  EXPECT_EQ(run(*face_, user), -EINVAL);
  // Reads what is behind it.
  const int peeper = program({store(kW, r10, -4, 0), mov(r2, r10), add(r2, -4), map(outer), call(kLookup),
                              load(kDw, r0, r0, 0), mov(r0, 1), exit_()})
                         .load(*face_);
  EXPECT_EQ(run(*face_, peeper), -EFAULT);
  const int writer = program({store(kDw, r10, -8, 0), mov(r2, r10), add(r2, -8), mov(r3, r2), mov(r4, 0), map(outer),
                              call(2), mov(r0, 1), exit_()})
                         .load(*face_);
  EXPECT_EQ(run(*face_, writer), -EINVAL);
  for (const int fd : {like, outer, kept, keeper, user, peeper, writer}) ::close(fd);
}

TEST_F(NestedProcessTest, APinnedArrayKeepsItsPrograms) {
  const int array = face_->call(BPF_MAP_CREATE, map_attr(BPF_MAP_TYPE_PROG_ARRAY, 4, 4, 2));
  const int target = returning(5).load(*face_);
  const int caller =
      program({load_map(r2, static_cast<uint32_t>(array)), mov(r3, 0), call(kTailCall), mov(r0, 3), exit_()})
          .load(*face_);
  ASSERT_EQ(set(*face_, array, 0, target), 0);
  const std::string path = "/sys/fs/bpf/array";
  bpf_attr pin = no_attr();
  pin.pathname = reinterpret_cast<uint64_t>(path.c_str());
  pin.bpf_fd = static_cast<uint32_t>(array);
  ASSERT_EQ(face_->call(BPF_OBJ_PIN, pin), 0);
  ::close(array);
  ::close(target);
  EXPECT_EQ(run(*face_, caller), 5);
  ASSERT_EQ(::unlink((directory_.path() + "/pins/array").c_str()), 0);
  EXPECT_EQ(run(*face_, caller), 3);
  EXPECT_EQ(living(BPF_PROG_GET_NEXT_ID), 1);
  ::close(caller);
}

TEST_F(NestedProcessTest, AForkedChildUsesWhatItsParentOpened) {
  const int like = inner_map(*face_);
  const int outer = outer_map(*face_, BPF_MAP_TYPE_ARRAY_OF_MAPS, like);
  const int prog = reader(outer).load(*face_);
  ASSERT_EQ(set(*face_, outer, 0, like), 0);
  const uint32_t key = 0;
  const uint64_t value = 321;
  ASSERT_EQ(face_->call(BPF_MAP_UPDATE_ELEM, element_attr(like, &key, &value)), 0);
  ASSERT_EQ(run(*face_, prog), 321);
  const pid_t child = ::fork();
  if (child == 0) ::_exit(run(*face_, prog) == 321 && erase(*face_, outer, 0) == 0 && run(*face_, prog) == 0 ? 0 : 1);
  EXPECT_EQ(wait_for(child), 0);
  EXPECT_EQ(run(*face_, prog), 0);
  for (const int fd : {like, outer, prog}) ::close(fd);
}

}  // namespace
}  // namespace skep
