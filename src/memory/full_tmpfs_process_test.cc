// SPDX-License-Identifier: Apache-2.0
// A full tmpfs must be an error and never a signal. Each test runs in a child that mounts a small tmpfs for itself.
#include <gtest/gtest.h>
#include <sched.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/wait.h>

#include <cstring>
#include <functional>
#include <string>

#include "memory/file_header.h"
#include "memory/file_space.h"
#include "memory/populate.h"
#include "memory/segment.h"
#include "memory/test_directory.h"

namespace skep {
namespace {

constexpr int kNotPermitted = 77;

/// Runs `body` in a child with a tmpfs of 1 MiB on the directory. 0: it returned true.
int with_small_tmpfs(const TestDirectory& directory, const std::function<bool(int fd)>& body) {
  const pid_t child = fork();
  if (child == 0) {
    if (unshare(CLONE_NEWNS) != 0 || mount(nullptr, "/", nullptr, MS_REC | MS_PRIVATE, nullptr) != 0 ||
        mount("tmpfs", directory.path().c_str(), "tmpfs", 0, "size=1m") != 0) {
      _exit(kNotPermitted);
    }
    const int fd = directory.make_file();
    _exit(fd >= 0 && body(fd) ? 0 : 1);
  }
  int status = 0;
  waitpid(child, &status, 0);
  return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

bool is_no_room(const Status& status) {
  return !status && to_int(status.error()) == ENOMEM &&
         std::string(last_error_sentence()).find("SKEP_DIR") != std::string::npos;
}

#define EXPECT_HOLDS_ON_SMALL_TMPFS(...)                                          \
  do {                                                                            \
    const int result = with_small_tmpfs(directory, __VA_ARGS__);                  \
    if (result == kNotPermitted) GTEST_SKIP() << "mounting a tmpfs is forbidden"; \
    EXPECT_EQ(result, 0);                                                         \
  } while (false)

TEST(FullTmpfsTest, SegmentReserve) {
  TestDirectory directory;
  EXPECT_HOLDS_ON_SMALL_TMPFS([](int fd) {
    constexpr uint64_t kSize = 8 << 20;
    if (!size_file(fd, kSize)) return false;
    auto window = Segment::map(fd, 0, kSize, Access::kReadWrite);
    if (!window || !is_no_room(window->reserve(0, kSize))) return false;
    window->give_back(0, kSize);
    if (!window->reserve(kSize / 2, kSize / 16)) return false;
    std::memset(window->data() + kSize / 2, 1, kSize / 16);
    return true;
  });
}

TEST(FullTmpfsTest, PopulateByReading) {
  TestDirectory directory;
  EXPECT_HOLDS_ON_SMALL_TMPFS([](int fd) {
    constexpr uint64_t kSize = 8 << 20;
    if (!size_file(fd, kSize)) return false;
    auto window = Segment::map(fd, 0, kSize, Access::kReadWrite);
    return window && populate_by_reading(window->data(), kSize) == EFAULT;
  });
}

TEST(FullTmpfsTest, ReserveFile) {
  TestDirectory directory;
  EXPECT_HOLDS_ON_SMALL_TMPFS([](int fd) {
    return is_no_room(reserve_file(fd, kHeaderOffset, 8 << 20)) &&
           reserve_file(fd, kHeaderOffset, 512 << 10).has_value();
  });
}

TEST(FileSizeLimitTest, IsAnErrorAndNoSignal) {
  TestDirectory directory;
  const pid_t child = fork();
  if (child == 0) {
    const rlimit small = {1 << 20, 1 << 20};
    setrlimit(RLIMIT_FSIZE, &small);
    const int fd = directory.make_file();
    const Status sized = size_file(fd, kHeaderOffset);
    const Status reserved = reserve_file(fd, kHeaderOffset, kPageSize);
    _exit(!sized && to_int(sized.error()) == EFBIG && !reserved && to_int(reserved.error()) == EFBIG ? 0 : 1);
  }
  int status = 0;
  waitpid(child, &status, 0);
  EXPECT_EQ(status, 0);
}

}  // namespace
}  // namespace skep
