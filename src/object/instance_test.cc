// SPDX-License-Identifier: Apache-2.0
#include "object/instance.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/file.h>
#include <sys/mman.h>

#include <thread>
#include <vector>

#include "machine/lease.h"
#include "object/temporary_instance.h"
#include "storage/owners.h"

namespace skep {
namespace {

constexpr ObjectKind kMap = ObjectKind::kMap;
constexpr ObjectKind kProgram = ObjectKind::kProgram;

class InstanceTest : public testing::Test {
 protected:
  void SetUp() override {
    auto opened = Instance::open(directory_.path());
    ASSERT_TRUE(opened) << last_error_sentence();
    instance_ = *opened;
  }
  int open_error(ObjectKind kind, uint32_t id) {
    const auto fd = instance_->open_by_id(kind, id, O_RDWR);
    return fd ? 0 : to_int(fd.error());
  }
  std::string pin(const std::string& name) { return instance_->pin_directory() + "/" + name; }

  TestDirectory directory_;
  std::shared_ptr<Instance> instance_;
};

TEST_F(InstanceTest, APublishedObjectIsFoundById) {
  const NewObject map = make_object(*instance_, kMap);
  const auto fd = instance_->open_by_id(kMap, map.id, O_RDWR);
  ASSERT_TRUE(fd);
  const auto header = instance_->identify(fd->get());
  ASSERT_TRUE(header) << last_error_sentence();
  EXPECT_EQ(header->kind, kMap);
  EXPECT_EQ(header->id, map.id);
  EXPECT_EQ(::fcntl(fd->get(), F_GETFD) & FD_CLOEXEC, FD_CLOEXEC);
  EXPECT_EQ(open_error(kProgram, map.id), ENOENT);
  EXPECT_EQ(open_error(kMap, 0), ENOENT);
  EXPECT_EQ(open_error(kMap, map.id + 1), ENOENT);
}

TEST_F(InstanceTest, AnUnpublishedFileIsNobodysObject) {
  const auto fd = instance_->make_file(kMap);
  ASSERT_TRUE(fd);
  EXPECT_EQ(to_int(instance_->next_id(kMap, 0).error()), ENOENT);
  EXPECT_EQ(to_int(instance_->identify(fd->get()).error()), EINVAL);
}

TEST_F(InstanceTest, IdsAscendAndAreNotReusedAtOnce) {
  NewObject first = make_object(*instance_, kMap);
  const uint32_t id = first.id;
  first = NewObject{};
  instance_->collect(kMap, id);
  const NewObject second = make_object(*instance_, kMap);
  EXPECT_GT(second.id, id);
}

TEST_F(InstanceTest, AnObjectDiesWithItsLastDescriptor) {
  NewObject map = make_object(*instance_, kMap);
  FileDescriptor duplicate(::fcntl(map.fd.get(), F_DUPFD_CLOEXEC, 0));
  map.fd = FileDescriptor();
  EXPECT_EQ(open_error(kMap, map.id), 0);
  duplicate = FileDescriptor();
  EXPECT_EQ(open_error(kMap, map.id), ENOENT);
  EXPECT_FALSE(exists(*instance_, "bpf-map/" + std::to_string(map.id)));
}

// Or what sockets have in maps that went would count against their limit for ever.
TEST_F(InstanceTest, AMapsDeathIsToldToTheOwnersOfStorage) {
  NewObject map = make_object(*instance_, kMap);
  const auto owners = Owners::open(instance_->machine());
  ASSERT_TRUE(owners);
  ASSERT_TRUE((*owners)->register_map(Lease(instance_->machine()), map.id, OwnerKind::kSocket));
  instance_->collect(kMap, map.id);
  EXPECT_TRUE((*owners)->knows_map(map.id));
  map.fd = FileDescriptor();
  instance_->collect(kMap, map.id);
  EXPECT_FALSE((*owners)->knows_map(map.id));
}

TEST_F(InstanceTest, AMappingIsAReference) {
  NewObject map = make_object(*instance_, kMap);
  void* window = ::mmap(nullptr, 4096, PROT_READ, MAP_SHARED, map.fd.get(), static_cast<off_t>(kHeaderOffset));
  ASSERT_NE(window, MAP_FAILED);
  map.fd = FileDescriptor();
  EXPECT_EQ(open_error(kMap, map.id), 0);
  ::munmap(window, 4096);
  EXPECT_EQ(open_error(kMap, map.id), ENOENT);
}

TEST_F(InstanceTest, AReopenedDescriptionIsNone) {
  NewObject map = make_object(*instance_, kMap);
  const auto reopened = Instance::reopen(map.fd.get(), O_RDWR);
  ASSERT_TRUE(reopened);
  map.fd = FileDescriptor();
  EXPECT_EQ(open_error(kMap, map.id), ENOENT);
}

TEST_F(InstanceTest, EnumerationSkipsTheDead) {
  std::vector<NewObject> maps;
  for (int i = 0; i < 5; ++i) maps.push_back(make_object(*instance_, kMap));
  maps[1].fd = FileDescriptor();
  maps[4].fd = FileDescriptor();
  std::vector<uint32_t> seen;
  for (auto id = instance_->next_id(kMap, 0); id; id = instance_->next_id(kMap, *id)) seen.push_back(*id);
  EXPECT_EQ(seen, (std::vector<uint32_t>{maps[0].id, maps[2].id, maps[3].id}));
  EXPECT_FALSE(exists(*instance_, "bpf-map/" + std::to_string(maps[1].id)));
}

TEST_F(InstanceTest, EnumerationFindsIdsFarApart) {
  const NewObject first = make_object(*instance_, kMap);
  for (int i = 0; i < 100; ++i) make_object(*instance_, kMap);
  const NewObject last = make_object(*instance_, kMap);
  EXPECT_EQ(instance_->next_id(kMap, first.id), last.id);
  EXPECT_EQ(to_int(instance_->next_id(kMap, last.id).error()), ENOENT);
}

TEST_F(InstanceTest, APinKeepsAnObjectAndUnlinkingItEndsThat) {
  NewObject map = make_object(*instance_, kMap);
  ASSERT_TRUE(instance_->pin(map.fd.get(), pin("m")));
  map.fd = FileDescriptor();
  EXPECT_EQ(open_error(kMap, map.id), 0);
  auto again = instance_->open_pin(pin("m"), O_RDWR);
  ASSERT_TRUE(again);
  ASSERT_EQ(::unlink(pin("m").c_str()), 0);
  EXPECT_EQ(open_error(kMap, map.id), 0);
  *again = FileDescriptor();
  EXPECT_EQ(open_error(kMap, map.id), ENOENT);
}

TEST_F(InstanceTest, PinErrors) {
  const NewObject map = make_object(*instance_, kMap);
  const auto error = [&](const std::string& path) {
    const Status status = instance_->pin(map.fd.get(), path);
    return status ? 0 : to_int(status.error());
  };
  EXPECT_EQ(error(pin("a")), 0);
  EXPECT_EQ(error(pin("a")), EEXIST);
  EXPECT_EQ(error(pin("none/a")), ENOENT);
  EXPECT_EQ(error(pin("a.b")), EPERM);
  EXPECT_EQ(error(pin("a/b")), ENOTDIR);
}

TEST_F(InstanceTest, OpeningWhatIsNoPin) {
  const auto error = [&](const std::string& path, int flags = O_RDWR) {
    const auto fd = instance_->open_pin(path, flags);
    return fd ? 0 : to_int(fd.error());
  };
  EXPECT_EQ(error(pin("none")), ENOENT);
  ASSERT_EQ(::mkdir(pin("d").c_str(), 0700), 0);
  EXPECT_EQ(error(pin("d")), EACCES);
  ASSERT_EQ(::mkfifo(pin("f").c_str(), 0600), 0);
  EXPECT_EQ(error(pin("f")), EACCES);
  const FileDescriptor plain(::open(pin("p").c_str(), O_CREAT | O_RDWR | O_CLOEXEC, 0600));
  EXPECT_EQ(error(pin("p")), EACCES);
  ASSERT_EQ(::ftruncate(plain.get(), static_cast<off_t>(kHeaderOffset + kPageSize)), 0);
  EXPECT_EQ(error(pin("p")), EACCES);
}

TEST_F(InstanceTest, ClientPathsLeadIntoThePinDirectory) {
  const auto resolve = [&](int fd, const std::string& path) -> std::string {
    const auto resolved = instance_->resolve_pin_path(fd, path);
    return resolved ? *resolved : "errno " + std::to_string(to_int(resolved.error()));
  };
  const auto failed = [](int error) { return "errno " + std::to_string(error); };
  ASSERT_EQ(::mkdir(pin("sub").c_str(), 0700), 0);
  EXPECT_EQ(resolve(AT_FDCWD, "/sys/fs/bpf/m"), pin("m"));
  EXPECT_EQ(resolve(AT_FDCWD, "/sys/fs/bpf/sub//m"), pin("sub/m"));
  EXPECT_EQ(resolve(AT_FDCWD, "/sys/fs/bpf/sub/../m"), pin("m"));
  EXPECT_EQ(resolve(AT_FDCWD, pin("m")), pin("m"));
  EXPECT_EQ(resolve(AT_FDCWD, "/sys/fs/bpf"), instance_->pin_directory());
  EXPECT_EQ(resolve(AT_FDCWD, "/sys/fs/bpf/none/m"), failed(ENOENT));
  EXPECT_EQ(resolve(AT_FDCWD, "/tmp/m"), failed(EPERM));
  EXPECT_EQ(resolve(AT_FDCWD, "/sys/fs/bpf/../m"), failed(EPERM));
  EXPECT_EQ(resolve(AT_FDCWD, "/sys/fs/bpfm"), failed(EPERM));
  EXPECT_EQ(resolve(AT_FDCWD, ""), failed(ENOENT));
  const FileDescriptor sub(::open(pin("sub").c_str(), O_PATH | O_DIRECTORY | O_CLOEXEC));
  EXPECT_EQ(resolve(sub.get(), "m"), pin("sub/m"));
  EXPECT_EQ(resolve(sub.get(), "../m"), pin("m"));
  EXPECT_EQ(resolve(sub.get(), "../../m"), failed(EPERM));
  EXPECT_EQ(resolve(sub.get(), "/sys/fs/bpf/m"), pin("m"));
  const NewObject map = make_object(*instance_, kMap);
  EXPECT_EQ(resolve(map.fd.get(), "m"), failed(ENOTDIR));
  EXPECT_EQ(resolve(12345, "m"), failed(EBADF));
}

TEST_F(InstanceTest, AHolderKeepsWhatItHolds) {
  NewObject program = make_object(*instance_, kProgram);
  NewObject map = make_object(*instance_, kMap);
  ASSERT_TRUE(instance_->hold(kProgram, program.id, kMap, map.id, map.fd.get()));
  ASSERT_TRUE(instance_->hold(kProgram, program.id, kMap, map.id, map.fd.get()));
  map.fd = FileDescriptor();
  EXPECT_EQ(open_error(kMap, map.id), 0);
  program.fd = FileDescriptor();
  instance_->collect(kProgram, program.id);
  EXPECT_FALSE(exists(*instance_, "bpf-map/" + std::to_string(map.id)));
  EXPECT_FALSE(exists(*instance_, "holds/bpf-prog-" + std::to_string(program.id)));
}

TEST_F(InstanceTest, ChainsOfHoldersFallTogether) {
  std::vector<NewObject> chain;
  for (int i = 0; i < 50; ++i) {
    chain.push_back(make_object(*instance_, kMap));
    if (i > 0) {
      ASSERT_TRUE(
          instance_->hold(kMap, chain[static_cast<size_t>(i - 1)].id, kMap, chain.back().id, chain.back().fd.get()));
    }
  }
  for (size_t i = 1; i < chain.size(); ++i) chain[i].fd = FileDescriptor();
  EXPECT_EQ(open_error(kMap, chain.back().id), 0);
  chain[0].fd = FileDescriptor();
  EXPECT_EQ(open_error(kMap, chain[0].id), ENOENT);
  for (const NewObject& one : chain) EXPECT_FALSE(exists(*instance_, "bpf-map/" + std::to_string(one.id)));
}

TEST_F(InstanceTest, HoldsWithoutAHolderGoAtTheNextOpening) {
  NewObject map = make_object(*instance_, kMap);
  ASSERT_TRUE(instance_->hold(kProgram, 77, kMap, map.id, map.fd.get()));
  map.fd = FileDescriptor();
  instance_.reset();
  SetUp();
  EXPECT_FALSE(exists(*instance_, "holds/bpf-prog-77"));
  EXPECT_EQ(open_error(kMap, map.id), ENOENT);
}

TEST_F(InstanceTest, IdentifyTellsForeignDescriptorsApart) {
  EXPECT_EQ(to_int(instance_->identify(-1).error()), EBADF);
  EXPECT_EQ(to_int(instance_->identify(12345).error()), EBADF);
  const FileDescriptor null(::open("/dev/null", O_RDWR | O_CLOEXEC));
  EXPECT_EQ(to_int(instance_->identify(null.get()).error()), EINVAL);
  const NewObject map = make_object(*instance_, kMap);
  const auto path_only = Instance::reopen(map.fd.get(), O_PATH);
  EXPECT_EQ(to_int(instance_->identify(path_only->get()).error()), EBADF);
  const auto write_only = instance_->open_by_id(kMap, map.id, O_WRONLY);
  ASSERT_TRUE(write_only);
  EXPECT_EQ(instance_->identify(write_only->get())->id, map.id);

  const TestDirectory other_directory;
  const auto other = Instance::open(other_directory.path());
  ASSERT_TRUE(other);
  const NewObject stranger = make_object(**other, kMap);
  EXPECT_EQ(to_int(instance_->identify(stranger.fd.get()).error()), EINVAL);
  EXPECT_NE(std::string(last_error_sentence()).find("another skep instance"), std::string::npos);
}

TEST_F(InstanceTest, ItsDescriptorMayBeClosedByTheClient) {
  const NewObject map = make_object(*instance_, kMap);
  ::close(instance_->directory_fd());
  EXPECT_EQ(open_error(kMap, map.id), 0);
  const int fd = instance_->directory_fd();
  const FileDescriptor null(::open("/dev/null", O_RDONLY | O_CLOEXEC));
  ::dup2(null.get(), fd);
  EXPECT_EQ(open_error(kMap, map.id), 0);
  ::close(fd);
}

TEST_F(InstanceTest, StatisticsAreOnWhileSomebodyHoldsThem) {
  EXPECT_FALSE(instance_->stats_enabled());
  auto first = instance_->enable_stats();
  ASSERT_TRUE(first);
  EXPECT_TRUE(instance_->stats_enabled());
  auto second = instance_->enable_stats();
  *first = FileDescriptor();
  EXPECT_TRUE(instance_->stats_enabled());
  *second = FileDescriptor();
  EXPECT_FALSE(instance_->stats_enabled());
}

TEST(InstanceDirectoryTest, MustBePrivateAndOurs) {
  const TestDirectory parent;
  const std::string open_to_all = parent.path() + "/open";
  ASSERT_EQ(::mkdir(open_to_all.c_str(), 0755), 0);
  EXPECT_EQ(to_int(Instance::open(open_to_all).error()), EACCES);
  EXPECT_NE(std::string(last_error_sentence()).find("open to other users"), std::string::npos);

  const std::string link = parent.path() + "/link";
  ASSERT_EQ(::mkdir((parent.path() + "/target").c_str(), 0700), 0);
  ASSERT_EQ(::symlink("target", link.c_str()), 0);
  EXPECT_FALSE(Instance::open(link));
  EXPECT_EQ(to_int(Instance::open(parent.path() + "/none/dir").error()), ENOENT);

  if (::geteuid() == 0) {
    const std::string foreign = parent.path() + "/foreign";
    ASSERT_EQ(::mkdir(foreign.c_str(), 0700), 0);
    ASSERT_EQ(::chown(foreign.c_str(), 65534, 65534), 0);
    EXPECT_EQ(to_int(Instance::open(foreign).error()), EACCES);
    EXPECT_NE(std::string(last_error_sentence()).find("another user"), std::string::npos);
  }
  const auto made = Instance::open(parent.path() + "/fresh/");
  ASSERT_TRUE(made) << last_error_sentence();
  struct stat info {};
  ASSERT_EQ(::stat((*made)->directory().c_str(), &info), 0);
  EXPECT_EQ(info.st_mode & 07777, 0700U);
}

TEST(InstanceDirectoryTest, TheDefaultNamesTheUser) {
  ::unsetenv("SKEP_DIR");
  EXPECT_EQ(Instance::default_directory(), "/dev/shm/skep-" + std::to_string(::geteuid()));
  ::setenv("SKEP_DIR", "/dev/shm/elsewhere", 1);
  EXPECT_EQ(Instance::default_directory(), "/dev/shm/elsewhere");
  ::unsetenv("SKEP_DIR");
}

// Openers, collectors and enumerators at once: an object that was opened stays until it is closed, and no object that
// somebody can open is ever removed under him.
TEST_F(InstanceTest, OpenersRaceWithCollectors) {
  constexpr int kRounds = 400;
  for (int round = 0; round < kRounds; ++round) {
    NewObject map = make_object(*instance_, kMap);
    std::atomic<int> opened{0};
    std::vector<std::jthread> threads;
    for (int t = 0; t < 2; ++t)
      threads.emplace_back([&] {
        for (int i = 0; i < 3; ++i) {
          const auto fd = instance_->open_by_id(kMap, map.id, O_RDWR);
          if (!fd) continue;
          ++opened;
          struct stat info {};
          ASSERT_EQ(::fstat(fd->get(), &info), 0);
          ASSERT_EQ(info.st_nlink, 1U) << "removed although it is referenced";
          instance_->collect(kMap, map.id);
          ASSERT_EQ(::fstat(fd->get(), &info), 0);
          ASSERT_EQ(info.st_nlink, 1U) << "collected although it is referenced";
        }
      });
    map.fd = FileDescriptor();
    instance_->collect(kMap, map.id);
    (void)instance_->next_id(kMap, map.id - 1);
    threads.clear();
    ASSERT_EQ(open_error(kMap, map.id), ENOENT);
    ASSERT_FALSE(exists(*instance_, "bpf-map/" + std::to_string(map.id)));
  }
}

}  // namespace
}  // namespace skep
