// SPDX-License-Identifier: Apache-2.0
// A full tmpfs must be an error and never a signal. Each test runs in a child that mounts a small tmpfs for itself.
#include <gtest/gtest.h>
#include <sys/resource.h>
#include <sys/wait.h>

#include <cstring>
#include <string>

#include "memory/file_header.h"
#include "memory/file_space.h"
#include "memory/populate.h"
#include "memory/segment.h"
#include "memory/small_tmpfs.h"

namespace skep {
namespace {

bool is_no_room(const Status& status) {
  return !status && to_int(status.error()) == ENOMEM &&
         std::string(last_error_sentence()).find("SKEP_DIR") != std::string::npos;
}

TEST(FullTmpfsTest, SegmentReserve) {
  TestDirectory directory;
  SKEP_EXPECT_HOLDS_ON_SMALL_TMPFS(directory, [](int fd) {
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
  SKEP_EXPECT_HOLDS_ON_SMALL_TMPFS(directory, [](int fd) {
    constexpr uint64_t kSize = 8 << 20;
    if (!size_file(fd, kSize)) return false;
    auto window = Segment::map(fd, 0, kSize, Access::kReadWrite);
    return window && populate_by_reading(window->data(), kSize) == EFAULT;
  });
}

TEST(FullTmpfsTest, ReserveFile) {
  TestDirectory directory;
  SKEP_EXPECT_HOLDS_ON_SMALL_TMPFS(directory, [](int fd) {
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
