// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <gtest/gtest.h>
#include <sched.h>
#include <sys/mount.h>
#include <sys/wait.h>
#include <unistd.h>

#include <functional>
#include <string>

#include "memory/test_directory.h"

// For tests of a tmpfs that gets full: a child mounts a small one for itself.

namespace skep::testing {

inline constexpr int kMayNotMount = 77;

/// Runs `body` in a child with a tmpfs of 1 MiB on the directory, and a file there. 0: it returned true.
inline int with_small_tmpfs(const TestDirectory& directory, const std::function<bool(int fd)>& body) {
  const pid_t child = fork();
  if (child == 0) {
    if (unshare(CLONE_NEWNS) != 0 || mount(nullptr, "/", nullptr, MS_REC | MS_PRIVATE, nullptr) != 0 ||
        mount("tmpfs", directory.path().c_str(), "tmpfs", 0, "size=1m") != 0) {
      _exit(kMayNotMount);
    }
    const int fd = directory.make_file();
    _exit(fd >= 0 && body(fd) ? 0 : 1);
  }
  int status = 0;
  waitpid(child, &status, 0);
  return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

}  // namespace skep::testing

#define SKEP_EXPECT_HOLDS_ON_SMALL_TMPFS(directory, ...)                          \
  do {                                                                            \
    const int result = ::skep::testing::with_small_tmpfs(directory, __VA_ARGS__); \
    if (result == ::skep::testing::kMayNotMount) {                                \
      GTEST_SKIP() << "mounting a tmpfs is forbidden";                            \
    }                                                                             \
    EXPECT_EQ(result, 0);                                                         \
  } while (false)
