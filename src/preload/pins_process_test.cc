// SPDX-License-Identifier: Apache-2.0
// Pins as a program with libskep-preload.so sees them: files of a bpffs. Answers are those of Linux 6.18 for a real
// one.

#include <dirent.h>
#include <fcntl.h>
#include <ftw.h>
#include <linux/magic.h>
#include <sys/stat.h>
#include <sys/statfs.h>

#include <vector>

#include "preload/preloaded_test_support.h"

namespace skep::preloaded {
namespace {

/// A directory of the test's own in the pins, with one pinned array.
class Pins : public testing::Test {
 protected:
  void SetUp() override {
    ASSERT_EQ(mkdir(kDirectory, 0700), 0);
    map_ = make_map();
    ASSERT_GE(map_, 0);
    ASSERT_EQ(pin(map_, path("map")), 0);
  }
  void TearDown() override {
    close(map_);
    std::filesystem::remove_all(kDirectory);
    EXPECT_NE(access(kDirectory, F_OK), 0);
  }
  static std::string path(const std::string& name) { return (std::filesystem::path(kDirectory) / name).string(); }

  static constexpr const char* kDirectory = "/sys/fs/bpf/test";
  int map_ = -1;
};

TEST_F(Pins, AreABpffs) {
  struct statfs status = {};
  ASSERT_EQ(statfs(kRoot, &status), 0);
  EXPECT_EQ(status.f_type, BPF_FS_MAGIC);
  ASSERT_EQ(statfs(path("map").c_str(), &status), 0);
  EXPECT_EQ(status.f_type, BPF_FS_MAGIC);
  const int directory = open(kDirectory, O_RDONLY | O_DIRECTORY);
  ASSERT_GE(directory, 0);
  ASSERT_EQ(fstatfs(directory, &status), 0);
  EXPECT_EQ(status.f_type, BPF_FS_MAGIC);
  close(directory);
  EXPECT_EQ(error_of(statfs(path("none").c_str(), &status)), ENOENT);
  ASSERT_EQ(statfs("/proc", &status), 0);
  EXPECT_EQ(status.f_type, PROC_SUPER_MAGIC);
}

TEST_F(Pins, AreFoundUnderEverySpelling) {
  for (const char* name : {"/sys/fs/bpf/test/map", "//sys/fs//bpf/./test/map", "/sys/fs/bpf/test/../test/map",
                           "/sys/fs/../fs/bpf/test/map"}) {
    EXPECT_EQ(access(name, F_OK), 0) << name;
  }
  for (const char* name : {"/sys/fs/bpf/../bpf/none", "/sys/fs/bpfx", "/sys/fs/bpf/test/map/"}) {
    EXPECT_NE(access(name, F_OK), 0) << name;
  }
}

TEST_F(Pins, AreStattedAsSmallFiles) {
  struct stat status = {};
  ASSERT_EQ(stat(path("map").c_str(), &status), 0);
  EXPECT_TRUE(S_ISREG(status.st_mode));
  EXPECT_EQ(status.st_mode & 0777, 0600U);
  EXPECT_EQ(status.st_size, 0);
  struct statx extended = {};
  ASSERT_EQ(statx(AT_FDCWD, path("map").c_str(), 0, STATX_BASIC_STATS, &extended), 0);
  EXPECT_EQ(extended.stx_size, 0U);
}

TEST_F(Pins, AreNotOpenedAsFiles) {
  EXPECT_EQ(error_of(open(path("map").c_str(), O_RDONLY)), EIO);
  EXPECT_EQ(error_of(open(path("map").c_str(), O_RDWR | O_CREAT, 0600)), EIO);
  EXPECT_EQ(error_of(open(path("map").c_str(), O_WRONLY | O_TRUNC)), EIO);
  EXPECT_EQ(error_of(open(path("map").c_str(), O_RDWR | O_CREAT | O_EXCL, 0600)), EEXIST);
  EXPECT_EQ(error_of(open(path("map").c_str(), O_RDONLY | O_DIRECTORY)), ENOTDIR);
  EXPECT_EQ(error_of(open(path("new").c_str(), O_RDWR | O_CREAT, 0600)), EACCES);
  EXPECT_EQ(error_of(open(kDirectory, O_RDWR | O_TMPFILE, 0600)), EOPNOTSUPP);
  EXPECT_EQ(fopen(path("map").c_str(), "r"), nullptr);
  EXPECT_EQ(errno, EIO);
  const int handle = open(path("map").c_str(), O_PATH);
  EXPECT_GE(handle, 0);
  close(handle);
}

TEST_F(Pins, AreNotOpenedAsFilesByRelativeName) {
  const int directory = open(kDirectory, O_RDONLY | O_DIRECTORY);
  ASSERT_GE(directory, 0);
  EXPECT_EQ(error_of(openat(directory, "map", O_RDONLY)), EIO);
  close(directory);
  EXPECT_EQ(in_child([] { return chdir(kDirectory) == 0 ? error_of(open("map", O_RDWR)) : 0; }), EIO);
}

TEST_F(Pins, KeepTheirContentThroughTruncate) {
  const uint32_t value = 77;
  ASSERT_EQ(update(map_, 2, &value), 0);
  EXPECT_EQ(truncate(path("map").c_str(), 0), 0);
  uint32_t found = 0;
  EXPECT_EQ(lookup(map_, 2, &found), 0);
  EXPECT_EQ(found, value);
}

TEST_F(Pins, RefuseNamesWithDots) {
  struct stat status = {};
  EXPECT_EQ(error_of(stat(path("a.b").c_str(), &status)), EPERM);
  EXPECT_EQ(error_of(stat(path("none/a.b").c_str(), &status)), ENOENT);
  EXPECT_EQ(error_of(stat(path("a.b/c").c_str(), &status)), EPERM);
  EXPECT_EQ(error_of(mkdir(path("a.b").c_str(), 0700)), EPERM);
  EXPECT_EQ(error_of(link(path("map").c_str(), path("a.b").c_str())), EPERM);
  EXPECT_EQ(error_of(symlink("map", path("a.b").c_str())), EPERM);
  EXPECT_EQ(error_of(rename(path("map").c_str(), path("a.b").c_str())), EPERM);
  EXPECT_EQ(error_of(unlink(path("a.b").c_str())), EPERM);
  EXPECT_EQ(error_of(mknod(path("fifo").c_str(), S_IFIFO | 0600, 0)), EPERM);
}

TEST_F(Pins, CanBeLinkedMovedAndRemoved) {
  EXPECT_EQ(link(path("map").c_str(), path("second").c_str()), 0);
  EXPECT_EQ(rename(path("second").c_str(), path("third").c_str()), 0);
  EXPECT_EQ(symlink("third", path("relative").c_str()), 0);
  EXPECT_EQ(symlink(path("third").c_str(), path("absolute").c_str()), 0);
  EXPECT_EQ(read_link(path("absolute")), path("third"));
  for (const char* name : {"third", "relative", "absolute"}) {
    const long fd = get(path(name));
    ASSERT_GE(fd, 0) << name;
    EXPECT_EQ(id_of(static_cast<int>(fd)), id_of(map_)) << name;
    close(static_cast<int>(fd));
  }
  EXPECT_EQ(unlink(path("third").c_str()), 0);
  EXPECT_EQ(error_of(get(path("relative"))), ENOENT);
  EXPECT_EQ(error_of(rmdir(path("map").c_str())), ENOTDIR);
  EXPECT_EQ(error_of(rename(path("map").c_str(), "/dev/shm/outside")), EXDEV);
  EXPECT_EQ(error_of(link(path("map").c_str(), "/dev/shm/outside")), EXDEV);
}

TEST_F(Pins, AreMadeAndFoundByRelativeNames) {
  EXPECT_EQ(in_child([this] { return chdir(kDirectory) == 0 && pin(map_, "relative") == 0 ? 0 : errno; }), 0);
  EXPECT_EQ(in_child([] { return chdir(kDirectory) == 0 && get("relative") >= 0 ? 0 : errno; }), 0);
  EXPECT_EQ(in_child([this] { return chdir("/dev/shm") == 0 && pin(map_, "relative") == -1 ? errno : 0; }), EPERM);
  const int directory = open(kDirectory, O_RDONLY | O_DIRECTORY);
  bpf_attr attr = {};
  attr.pathname = reinterpret_cast<uint64_t>("relative");
  attr.file_flags = BPF_F_PATH_FD;
  attr.path_fd = directory;
  const long fd = bpf(BPF_OBJ_GET, attr);
  EXPECT_GE(fd, 0);
  close(static_cast<int>(fd));
  close(directory);
}

TEST_F(Pins, ResolveToTheirOwnNames) {
  ASSERT_EQ(symlink("map", path("link").c_str()), 0);
  char* resolved = realpath(path("link").c_str(), nullptr);
  ASSERT_NE(resolved, nullptr);
  EXPECT_EQ(resolved, path("map"));
  free(resolved);
  EXPECT_EQ(in_child([] {
              char buffer[PATH_MAX];
              if (chdir(kDirectory) != 0 || getcwd(buffer, sizeof(buffer)) == nullptr) return 1;
              if (std::string(buffer) != kDirectory) return 2;
              if (realpath(".", buffer) == nullptr || std::string(buffer) != kDirectory) return 3;
              struct statfs status = {};
              if (statfs(".", &status) != 0 || status.f_type != BPF_FS_MAGIC) return 4;
              return getcwd(buffer, 5) == nullptr && errno == ERANGE ? 0 : 5;
            }),
            0);
}

std::vector<std::string> walked;

TEST_F(Pins, AreWalkedByTheirOwnNames) {
  walked.clear();
  ASSERT_EQ(nftw(
                kDirectory,
                [](const char* name, const struct stat* status, int, struct FTW* place) {
                  walked.push_back(std::string(name) + "|" + (name + place->base));
                  return status->st_size != 0 && S_ISREG(status->st_mode) ? 1 : 0;
                },
                8, FTW_PHYS),
            0);
  EXPECT_EQ(walked, (std::vector<std::string>{std::string(kDirectory) + "|test", path("map") + "|map"}));

  dirent** entries = nullptr;
  const int count = scandir(kDirectory, &entries, nullptr, alphasort);
  EXPECT_EQ(count, 3);
  for (int i = 0; i < count; ++i) free(entries[i]);
  free(entries);
}

}  // namespace
}  // namespace skep::preloaded

int main(int argc, char** argv) {
  if (getenv("LD_PRELOAD") == nullptr) return skep::preloaded::run_preloaded(argv);
  testing::InitGoogleTest(&argc, argv);
  return RUN_ALL_TESTS();
}
