// SPDX-License-Identifier: Apache-2.0
// Registration, fork and death of processes.
#include <fcntl.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/stat.h>

#include <memory>
#include <thread>
#include <vector>

#include "machine/lease.h"
#include "machine/machine_test_support.h"
#include "machine/reader_section.h"
#include "machine/recovery.h"

namespace skep {
namespace {

constexpr int kNotPermitted = 77;

class MachineProcessTest : public testing::Test {
 protected:
  TestDirectory directory_;
  std::shared_ptr<Machine> machine_ = open_machine(directory_);
  MachineBytes bytes_{directory_};
};

TEST(MachineCreationTest, RacingCreatorsEndWithOneMachine) {
  constexpr uint32_t kProcesses = 8;
  for (int round = 0; round < 20; ++round) {
    TestDirectory directory;
    SharedPage<std::atomic<uint32_t>> tags;
    {
      std::vector<std::unique_ptr<Child>> children;
      for (uint32_t i = 0; i < kProcesses; ++i) {
        children.push_back(std::make_unique<Child>([&] {
          const auto machine = Machine::open(directory.fd());
          if (!machine) return false;
          tags->fetch_or(1U << (*machine)->self().index());
          return eventually([&] { return std::popcount(tags->load()) == static_cast<int>(kProcesses); });
        }));
      }
      for (const auto& child : children) EXPECT_EQ(child->wait(), 0);
    }
    EXPECT_EQ(std::popcount(tags->load()), static_cast<int>(kProcesses));
  }
}

TEST_F(MachineProcessTest, ChildIsAProcessOfItsOwn) {
  SharedPage<std::atomic<uint32_t>> child_tag;
  SharedPage<std::atomic<int>> stage;
  const ProcessTag parent = machine_->self();
  Child child([&] {
    *child_tag = machine_->self().value;
    const bool right = machine_->self() != parent && machine_->alive(parent) && machine_->alive(machine_->self());
    *stage = 1;
    eventually([&] { return stage->load() == 2; });
    return right;
  });
  ASSERT_TRUE(eventually([&] { return stage->load() == 1; }));
  EXPECT_EQ(machine_->self(), parent);
  EXPECT_TRUE(machine_->alive(ProcessTag{child_tag->load()}));
  *stage = 2;
  EXPECT_EQ(child.wait(), 0);
  EXPECT_FALSE(machine_->alive(ProcessTag{child_tag->load()}));
}

// The child must not keep the registration of its parent with the mappings and descriptors that it inherited.
TEST_F(MachineProcessTest, ParentIsDeadWhileItsChildLives) {
  SharedPage<std::atomic<uint32_t>> tags[3];
  Child parent([&] {
    *tags[0] = machine_->self().value;
    const pid_t pid = fork();
    if (pid == 0) {
      *tags[1] = machine_->self().value;
      eventually([&] { return tags[2]->load() == 1; });
      _exit(0);
    }
    return eventually([&] { return tags[1]->load() != 0; });
  });
  EXPECT_EQ(parent.wait(), 0);
  EXPECT_FALSE(machine_->alive(ProcessTag{tags[0]->load()}));
  EXPECT_TRUE(machine_->alive(ProcessTag{tags[1]->load()}));
  *tags[2] = 1;
  EXPECT_TRUE(eventually([&] { return !machine_->alive(ProcessTag{tags[1]->load()}); }));
}

TEST_F(MachineProcessTest, LeaseStaysWithTheParent) {
  const Lease lease(*machine_);
  auto section = std::make_unique<ReaderSection>(*machine_);
  const auto epoch = machine_->begin_grace_period();
  auto child = std::make_unique<Child>([&] {
    if (machine_->held_by_this_thread(lease.slot())) return false;
    section.reset();
    machine_->release_slot(lease.slot());  // what the destructor of an inherited lease does
    const ReaderSection own_section(*machine_);
    const Lease own(*machine_);
    return own.slot() != lease.slot() && machine_->holder(own.slot()) == machine_->self() &&
           machine_->reader_record()->owner.load() == machine_->self().value;
  });
  EXPECT_EQ(child->wait(), 0);
  EXPECT_EQ(machine_->holder(lease.slot()), machine_->self());
  EXPECT_FALSE(machine_->elapsed(epoch));
  EXPECT_NE(machine_->reader_record()->active.load(), 0U);
}

TEST_F(MachineProcessTest, ForkWhileOtherThreadsLease) {
  std::atomic<bool> stop{false};
  std::vector<std::thread> threads;
  for (int i = 0; i < 3; ++i) {
    threads.emplace_back([&] {
      while (!stop) {
        { const Lease lease(*machine_); }
        { const ReaderSection section(*machine_); }
        machine_->defer([] {});
        machine_->run_deferred();
      }
    });
  }
  for (int i = 0; i < 50; ++i) {
    Child child([&] {
      machine_->run_deferred();
      const Lease lease(*machine_);
      bool works = false;
      std::thread([&] { works = machine_->holder(Lease(*machine_).slot()) == machine_->self(); }).join();
      return works;
    });
    EXPECT_EQ(child.wait(), 0);
  }
  stop = true;
  for (auto& thread : threads) thread.join();
}

TEST_F(MachineProcessTest, ChildWithoutFreeDescriptorsRegistersLater) {
  Machine& machine = *machine_;
  Child child([&] {
    rlimit limit{};
    getrlimit(RLIMIT_NOFILE, &limit);
    const rlimit none = {0, limit.rlim_max};
    setrlimit(RLIMIT_NOFILE, &none);
    const pid_t pid = fork();
    if (pid == 0) {
      const Lease lease(machine);  // waits for the registration
      _exit(machine.holder(lease.slot()) == machine.self() ? 0 : 1);
    }
    prlimit(pid, RLIMIT_NOFILE, &limit, nullptr);
    int status = 0;
    waitpid(pid, &status, 0);
    return status == 0;
  });
  EXPECT_EQ(child.wait(), 0);
}

TEST_F(MachineProcessTest, ChildThatNeverRegisteredClosesItsMachine) {
  Child child([&machine = machine_, directory = directory_.fd()] {
    rlimit limit{};
    getrlimit(RLIMIT_NOFILE, &limit);
    const rlimit none = {0, limit.rlim_max};
    setrlimit(RLIMIT_NOFILE, &none);
    const pid_t pid = fork();
    if (pid == 0) {
      machine.reset();
      setrlimit(RLIMIT_NOFILE, &limit);
      const auto again = Machine::open(directory);
      if (!again) _exit(1);
      const Child grandchild([] { return true; });  // the fork handlers go through the machines that are open
      _exit((*again)->alive((*again)->self()) ? 0 : 2);
    }
    int status = 0;
    waitpid(pid, &status, 0);
    return status == 0;
  });
  EXPECT_EQ(child.wait(), 0);
}

TEST_F(MachineProcessTest, KilledHolderIsReplaced) {
  SharedPage<std::atomic<int>> leased;
  Child child([&] {
    const Lease lease(*machine_, Lease::Cpu{0});
    *leased = 1;
    pause();
    return true;
  });
  ASSERT_TRUE(eventually([&] { return leased->load() == 1; }));
  const ProcessTag dead = machine_->holder(0);
  EXPECT_TRUE(machine_->alive(dead));
  child.kill_and_wait();
  EXPECT_FALSE(machine_->alive(dead));
  const Lease lease(*machine_, Lease::Cpu{0});
  EXPECT_EQ(machine_->holder(0), machine_->self());
}

TEST_F(MachineProcessTest, SuccessorFreesWhatItsIndexHeld) {
  const ProcessTag predecessor = ProcessTag::make(50, 7);
  bytes_->generations[50] = 7;
  bytes_->slots[3].word = uint64_t{predecessor.value} << 32 | 2;
  bytes_->readers[4].owner = predecessor.value;
  bytes_->readers[4].active = 3;
  bytes_->counters.readers_used = 5;
  bytes_->counters.next_process = 49;
  Child child([&] { return machine_->self() == ProcessTag::make(50, 8); });
  EXPECT_EQ(child.wait(), 0);
  EXPECT_EQ(bytes_->slots[3].word.load(), 0U);
  EXPECT_EQ(bytes_->readers[4].owner.load(), 0U);
  EXPECT_EQ(bytes_->readers[4].active.load(), 0U);
}

TEST_F(MachineProcessTest, StoppedHolderDelaysGracePeriodsAndNothingElse) {
  SharedPage<std::atomic<int>> leased;
  Child child([&] {
    const Lease lease(*machine_);
    *leased = 1;
    pause();
    return true;
  });
  ASSERT_TRUE(eventually([&] { return leased->load() == 1; }));
  child.stop_and_wait();
  const auto epoch = machine_->begin_grace_period();
  for (int i = 0; i < 100; ++i) {
    const Lease lease(*machine_);
    const Lease cpu(*machine_, Lease::AnyCpu{});
  }
  EXPECT_FALSE(machine_->elapsed(epoch));
  child.kill_and_wait();
  EXPECT_TRUE(eventually([&] { return machine_->elapsed(epoch); }));
}

TEST_F(MachineProcessTest, LivenessCrossesPidNamespaces) {
  SharedPage<std::atomic<uint32_t>> inner;
  SharedPage<std::atomic<int>> stage;
  const ProcessTag outside = machine_->self();
  Child outer([&] {
    if (unshare(CLONE_NEWPID) != 0) {
      *stage = -1;
      return true;
    }
    Child child([&] {  // pid 1 of its own namespace
      *inner = machine_->self().value;
      const bool sees_outside = machine_->alive(outside) && getpid() == 1;
      *stage = 1;
      eventually([&] { return stage->load() == 2; });
      return sees_outside;
    });
    return child.wait() == 0;
  });
  ASSERT_TRUE(eventually([&] { return stage->load() != 0; }));
  if (stage->load() < 0) GTEST_SKIP() << "new PID namespaces are forbidden";
  EXPECT_TRUE(machine_->alive(ProcessTag{inner->load()}));
  *stage = 2;
  EXPECT_EQ(outer.wait(), 0);
  EXPECT_FALSE(machine_->alive(ProcessTag{inner->load()}));
}

TEST_F(MachineProcessTest, TooManyProcessesIsAnError) {
  const int fd = openat(directory_.fd(), "machine", O_RDWR | O_CLOEXEC);
  struct flock others {};
  others.l_type = F_WRLCK;
  others.l_whence = SEEK_SET;
  others.l_start = 1;
  others.l_len = kMaxProcesses;
  machine_.reset();
  ASSERT_EQ(fcntl(fd, F_OFD_SETLK, &others), 0);
  const auto machine = Machine::open(directory_.fd());
  close(fd);
  ASSERT_FALSE(machine);
  EXPECT_EQ(to_int(machine.error()), EAGAIN);
  EXPECT_STRNE(last_error_sentence(), "");
  EXPECT_TRUE(Machine::open(directory_.fd()));
}

TEST_F(MachineProcessTest, RecoveryExcludesProcessesAndThreadsAndEndsWithItsProcess) {
  SharedPage<std::atomic<int>> stage;
  SharedPage<std::atomic<int>> inside;
  Child child([&] {
    const auto guard = machine_->lock_recovery(7);
    *stage = 1;
    pause();
    return true;
  });
  ASSERT_TRUE(eventually([&] { return stage->load() == 1; }));
  { const auto other_subject = machine_->lock_recovery(8); }
  std::vector<std::thread> threads;
  std::atomic<bool> alone{true};
  for (int i = 0; i < 4; ++i) {
    threads.emplace_back([&] {
      const auto guard = machine_->lock_recovery(7);
      if (inside->fetch_add(1) != 0 || stage->load() != 2) alone = false;
      sched_yield();
      inside->fetch_sub(1);
    });
  }
  *stage = 2;
  child.kill_and_wait();
  for (auto& thread : threads) thread.join();
  EXPECT_TRUE(alone);
}

TEST_F(MachineProcessTest, StoppedRecovererIsGivenUp) {
  SharedPage<std::atomic<int>> stage;
  Child child([&] {
    const auto guard = machine_->lock_recovery(7);
    *stage = 1;
    pause();
    return true;
  });
  ASSERT_TRUE(eventually([&] { return stage->load() == 1; }));
  child.stop_and_wait();
  std::atomic<int> error{0};
  std::thread waiter([&] { error = machine_->lock_recovery(7).error(); });
  while (error == 0) {  // whoever waits for one subject delays no other
    const auto start = std::chrono::steady_clock::now();
    EXPECT_EQ(machine_->lock_recovery(8).error(), 0);
    EXPECT_LT(std::chrono::steady_clock::now() - start, std::chrono::seconds(1));
    std::this_thread::yield();
  }
  waiter.join();
  EXPECT_EQ(error, ETIMEDOUT);
  child.kill_and_wait();
  EXPECT_EQ(machine_->lock_recovery(7).error(), 0);
}

TEST_F(MachineProcessTest, RecovererThatInterruptsItselfIsTold) {
  const auto guard = machine_->lock_recovery(7);
  EXPECT_EQ(guard.error(), 0);
  EXPECT_EQ(machine_->lock_recovery(7).error(), EDEADLK);  // as a signal handler would
  EXPECT_EQ(machine_->lock_recovery(8).error(), 0);
}

TEST(MachineSpaceTest, FullTmpfsIsAnError) {
  TestDirectory directory;
  Child child([&] {
    if (unshare(CLONE_NEWNS) != 0 || mount(nullptr, "/", nullptr, MS_REC | MS_PRIVATE, nullptr) != 0 ||
        mount("tmpfs", directory.path().c_str(), "tmpfs", 0, "size=128k") != 0) {
      _exit(kNotPermitted);
    }
    const int fd = open(directory.path().c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    const auto machine = Machine::open(fd);
    struct stat status;
    return !machine && to_int(machine.error()) == ENOMEM &&
           std::string(last_error_sentence()).find("SKEP_DIR") != std::string::npos &&
           fstatat(fd, "machine", &status, 0) != 0;
  });
  const int result = child.wait();
  if (result == kNotPermitted) GTEST_SKIP() << "mounting a tmpfs is forbidden";
  EXPECT_EQ(result, 0);
}

}  // namespace
}  // namespace skep
