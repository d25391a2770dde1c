// SPDX-License-Identifier: Apache-2.0
// Instances shared by processes that die at any moment, users that must not meet, and file systems that are full.
#include <fcntl.h>
#include <gtest/gtest.h>
#include <sched.h>
#include <signal.h>
#include <sys/mount.h>
#include <sys/wait.h>

#include <chrono>
#include <thread>

#include "machine/lease.h"
#include "object/temporary_instance.h"
#include "storage/owners.h"

namespace skep {
namespace {

constexpr ObjectKind kMap = ObjectKind::kMap;
constexpr ObjectKind kProgram = ObjectKind::kProgram;

/// Runs `body` in a child and returns its exit status (128 + n after signal n).
template <class Body>
int in_child(Body body) {
  const pid_t child = ::fork();
  if (child == 0) ::_exit(body());
  int status = 0;
  ::waitpid(child, &status, 0);
  return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

std::vector<uint32_t> all_ids(Instance& instance, ObjectKind kind) {
  std::vector<uint32_t> ids;
  for (auto id = instance.next_id(kind, 0); id; id = instance.next_id(kind, *id)) ids.push_back(*id);
  return ids;
}

TEST(InstanceProcessTest, AForkedChildInheritsTheReference) {
  const TestDirectory directory;
  const auto instance = *Instance::open(directory.path());
  NewObject map = make_object(*instance, kMap);
  int stop[2];
  ASSERT_EQ(::pipe2(stop, O_CLOEXEC), 0);
  const pid_t child = ::fork();
  if (child == 0) {
    char byte;
    ::close(stop[1]);
    (void)!::read(stop[0], &byte, 1);
    ::_exit(0);
  }
  map.fd = FileDescriptor();
  EXPECT_TRUE(instance->open_by_id(kMap, map.id, O_RDWR));
  ::close(stop[1]);
  ::close(stop[0]);
  ::waitpid(child, nullptr, 0);
  EXPECT_FALSE(instance->open_by_id(kMap, map.id, O_RDWR));
}

TEST(InstanceProcessTest, MapsOfAKilledProcessAreForgottenByTheOwnersOfStorage) {
  const TestDirectory directory;
  const int status = in_child([&] {
    const auto instance = *Instance::open(directory.path());
    const auto owners = *Owners::open(instance->machine());
    const NewObject map = make_object(*instance, kMap);
    const auto slot = owners->register_map(Lease(instance->machine()), map.id, OwnerKind::kTask);
    if (slot && map.id == 1) ::kill(::getpid(), SIGKILL);
    return 1;
  });
  EXPECT_EQ(status, 128 + SIGKILL);
  const auto instance = *Instance::open(directory.path());
  const auto owners = Owners::open(instance->machine(), false);
  ASSERT_TRUE(owners);
  EXPECT_FALSE((*owners)->knows_map(1));
}

TEST(InstanceProcessTest, TheDeadOfAKilledProcessAreCollected) {
  const TestDirectory directory;
  const int status = in_child([&] {
    const auto instance = *Instance::open(directory.path());
    const NewObject program = make_object(*instance, kProgram);
    const NewObject map = make_object(*instance, kMap);
    if (!instance->hold(kProgram, program.id, kMap, map.id, map.fd.get())) return 1;
    ::kill(::getpid(), SIGKILL);
    return 0;
  });
  EXPECT_EQ(status, 128 + SIGKILL);
  const auto instance = *Instance::open(directory.path());
  EXPECT_TRUE(all_ids(*instance, kMap).empty());
  EXPECT_TRUE(all_ids(*instance, kProgram).empty());
  EXPECT_TRUE(std::filesystem::is_empty(instance->directory() + "/holds"));
  EXPECT_TRUE(std::filesystem::is_empty(instance->directory() + "/bpf-map"));
}

// A process that makes, holds, pins, opens and drops objects is killed at a random moment, again and again. After each
// death everything it alone kept is gone, what another process references is untouched, and nothing waits for it.
TEST(InstanceProcessTest, KilledBetweenAnyTwoSteps) {
  const TestDirectory directory;
  const auto instance = *Instance::open(directory.path());
  const NewObject ours = make_object(*instance, kMap);
  unsigned seed = 1;
  for (int round = 0; round < 150; ++round) {
    const pid_t child = ::fork();
    if (child == 0) {
      for (;;) {
        NewObject program = make_object(*instance, kProgram);
        NewObject map = make_object(*instance, kMap);
        (void)instance->hold(kProgram, program.id, kMap, map.id, map.fd.get());
        (void)instance->hold(kProgram, program.id, kMap, ours.id, ours.fd.get());
        map.fd = FileDescriptor();
        (void)instance->open_by_id(kMap, map.id, O_RDONLY);
        program.fd = FileDescriptor();
        instance->collect(kProgram, program.id);
      }
    }
    std::this_thread::sleep_for(std::chrono::microseconds(::rand_r(&seed) % 3000));
    ::kill(child, SIGKILL);
    ::waitpid(child, nullptr, 0);
    instance->collect_dead();
    ASSERT_EQ(all_ids(*instance, kMap), std::vector<uint32_t>{ours.id}) << "round " << round;
    ASSERT_TRUE(all_ids(*instance, kProgram).empty()) << "round " << round;
    ASSERT_TRUE(std::filesystem::is_empty(instance->directory() + "/holds")) << "round " << round;
  }
  struct stat info {};
  ASSERT_EQ(::fstat(ours.fd.get(), &info), 0);
  EXPECT_EQ(info.st_nlink, 1U);
}

TEST(InstanceProcessTest, UsersAreSeparate) {
  if (::geteuid() != 0) GTEST_SKIP() << "needs root, to become another user";
  const TestDirectory directory;
  const auto instance = *Instance::open(directory.path());
  const int status = in_child([&] {
    if (::setresuid(65534, 65534, 65534) != 0) return 1;
    const auto foreign = Instance::open(directory.path());
    return foreign ? 2 : to_int(foreign.error()) == EACCES ? 0 : 3;
  });
  EXPECT_EQ(status, 0);
}

TEST(InstanceProcessTest, AFullFileSystemIsSaidSo) {
  if (::geteuid() != 0) GTEST_SKIP() << "needs root, to mount a small tmpfs";
  const TestDirectory parent;
  const int status = in_child([&] {
    if (::unshare(CLONE_NEWNS) != 0 || ::mount("none", "/", nullptr, MS_REC | MS_PRIVATE, nullptr) != 0 ||
        ::mount("tmpfs", parent.path().c_str(), "tmpfs", 0, "size=4m,nr_inodes=48,mode=0700") != 0)
      return 77;
    const auto instance = Instance::open(parent.path());
    if (!instance) return 1;
    std::vector<NewObject> maps;
    for (int i = 0; i < 100; ++i) {
      auto fd = (*instance)->make_file(kMap);
      if (!fd) {
        const bool told = std::string(last_error_sentence()).find("SKEP_DIR") != std::string::npos;
        if (to_int(fd.error()) != ENOMEM || !told) return 2;
        maps.clear();  // the dead make room
        return (*instance)->make_file(kMap) ? 0 : 3;
      }
      maps.emplace_back().fd = *std::move(fd);
      NewObject& map = maps.back();
      if (!(*instance)->publish(kMap, map.fd.get(), [](uint32_t) {})) return 4;
    }
    return 5;
  });
  if (status == 77) GTEST_SKIP() << "mounting is not permitted here";
  EXPECT_EQ(status, 0);
}

}  // namespace
}  // namespace skep
